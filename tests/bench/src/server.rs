//! A receiver under measurement.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// A running receiver; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the receiver in `programs` on a spool, and waits until it
    /// accepts connections.
    pub(crate) fn start(programs: &Path, spool: &Path, options: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(spool)?;
        // The port that is free now is so a moment later.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = program(programs, "tentacle-receiver")?
            .args(["-a", "127.0.0.1", "-t", "60", "-p"])
            .arg(address.port().to_string())
            .arg("-s")
            .arg(spool)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("tentacle-receiver ended with {status}");
            }
            ensure!(began.elapsed() < Duration::from_secs(5), "tentacle-receiver does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// A figure of `/proc/PID/status` in kB, as MB (of a million bytes).
    pub(crate) fn memory(&self, figure: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        Ok(kilobytes.with_context(|| format!("no {figure} in /proc"))? * 1024.0 / 1e6)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that must be there.
pub(crate) fn program(programs: &Path, name: &str) -> anyhow::Result<Command> {
    let path = programs.join(name);
    ensure!(path.is_file(), "{name} is not built");
    Ok(Command::new(path))
}
