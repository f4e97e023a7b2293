//! A service under measurement.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// A running service; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the receiver in `programs` on a spool, and waits until it
    /// accepts connections.
    pub(crate) fn start(programs: &Path, spool: &Path, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(programs, spool, options, &[])
    }

    /// [`Server::start`] with these variables.
    pub(crate) fn start_with(
        programs: &Path,
        spool: &Path,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(spool)?;
        let address = free_address()?;
        let mut command = program(programs, "tentacle-receiver")?;
        command.args(["-a", "127.0.0.1", "-t", "60", "-p"]).arg(address.port().to_string());
        command.envs(variables.iter().copied());
        Self::spawn(command.arg("-s").arg(spool).args(options), address)
    }

    /// Starts what will listen there, and waits until it does.
    pub(crate) fn spawn(command: &mut Command, address: SocketAddr) -> anyhow::Result<Self> {
        let mut server = Self::spawn_only(command, address)?;
        server.until(Duration::from_secs(5), || TcpStream::connect(address).is_ok())?;
        Ok(server)
    }

    /// Starts a program that does not listen, and says what it connects to.
    pub(crate) fn spawn_only(command: &mut Command, address: SocketAddr) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let name = || command.get_program().to_string_lossy().into_owned();
        Ok(Self { child: child.with_context(|| format!("{} cannot be run", name()))?, address })
    }

    /// Waits until `condition` holds.
    pub(crate) fn until(&mut self, patience: Duration, condition: impl Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !condition() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the program ended with {status}");
            }
            ensure!(began.elapsed() < patience, "the program does not do what it should within {patience:?}");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Seconds that processors have worked for it.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in front may hold blanks; user and system time are the
        // 14th and 15th field (proc(5)), in hundredths.
        let fields = status.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().skip(11).take(2));
        let ticks: Option<Vec<f64>> =
            fields.and_then(|fields| fields.map(|field| field.parse().ok()).collect());
        Ok(ticks.context("no times in /proc")?.iter().sum::<f64>() / 100.0)
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

/// An address whose port is free now, and so a moment later.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A program that must be there.
pub(crate) fn program(programs: &Path, name: &str) -> anyhow::Result<Command> {
    let path = programs.join(name);
    ensure!(path.is_file(), "{name} is not built");
    Ok(Command::new(path))
}
