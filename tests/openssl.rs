//! The other side of a session over TLS: `openssl`'s client or server, spoken
//! through by its standard input and output.

use std::{
    fs,
    io::{Read, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use crate::{PATIENCE, eventually};

/// `openssl s_client` or `openssl s_server`; ended when it is dropped.
#[derive(Debug)]
pub struct Openssl {
    child: Child,
    stdin: ChildStdin,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    /// How much of standard output has been expected.
    seen: usize,
}

impl Openssl {
    /// A client of the server at `address`, with these options.
    pub fn client<A: AsRef<str>>(address: SocketAddr, options: &[A]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &address.to_string()]);
        Self::spawn(command, options)
    }

    /// A server that listens at `address`, with these options.
    pub fn server<A: AsRef<str>>(address: SocketAddr, options: &[A]) -> Self {
        let start = || {
            let mut command = Command::new("openssl");
            command.args(["s_server", "-quiet", "-accept", &address.to_string()]);
            Self::spawn(command, options)
        };
        let mut server = start();
        eventually("openssl listens", || match server.child.try_wait().unwrap() {
            None => listens(address),
            // Somebody's connection has the port for a moment.
            Some(_) if server.stderr.text().contains("Address already in use") => {
                server = start();
                false
            }
            early => panic!("openssl ended: {early:?} {}", server.stderr.text()),
        });
        server
    }

    fn spawn<A: AsRef<str>>(mut command: Command, options: &[A]) -> Self {
        command.args(options.iter().map(AsRef::as_ref));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take().unwrap(), child, stdout, stderr, seen: 0 }
    }

    /// Sends bytes, if it is still there.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A client that was refused has ended; what it said shows.
        let _ = self.stdin.write_all(bytes.as_ref());
    }

    /// Waits for what must come next.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let (from, wanted) = (self.seen, bytes.as_ref());
        self.seen += wanted.len();
        let came = self.stdout.wait(|output| output.len() >= from + wanted.len());
        let got = &came[from..came.len().min(from + wanted.len())];
        assert!(
            got == wanted,
            "{:?}, instead of {:?}; openssl says: {}",
            got.escape_ascii().to_string(),
            wanted.escape_ascii().to_string(),
            self.stderr.text()
        );
    }

    /// The next line, without its newline.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let from = self.seen;
        let came = self.stdout.wait(|output| output[from..].contains(&b'\n'));
        let Some(length) = came[from..].iter().position(|byte| *byte == b'\n') else {
            panic!("no line; openssl says: {}", self.stderr.text());
        };
        self.seen += length + 1;
        String::from_utf8_lossy(&came[from..from + length]).into_owned()
    }

    /// Sends a line, and returns the line that comes back.
    #[track_caller]
    pub fn ask(&mut self, line: impl AsRef<[u8]>) -> String {
        self.send([line.as_ref(), b"\n"].concat());
        self.line()
    }

    /// The other side closes, and nothing more comes before; returns what
    /// openssl had to say.
    #[track_caller]
    pub fn expect_closed(&mut self) -> String {
        let came = self.stdout.wait(|_| false);
        assert_eq!(came[self.seen..].escape_ascii().to_string(), "", "instead of the end");
        self.stderr.wait(|_| false);
        self.stderr.text()
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program has written so far.
#[derive(Debug, Default)]
struct Output {
    /// The bytes, and whether no more come.
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Output {
    fn of(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let writer = Arc::clone(&output);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let count = from.read(&mut piece).unwrap_or(0);
                let mut state = writer.state.lock().unwrap();
                state.0.extend_from_slice(&piece[..count]);
                state.1 = count == 0;
                writer.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        output
    }

    /// What has come once it is enough, or when no more comes.
    #[track_caller]
    fn wait(&self, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        while !state.1 && !enough(&state.0) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let came = state.0.escape_ascii().to_string();
                // The thread that reads goes on.
                drop(state);
                panic!("waited {PATIENCE:?} behind {came:?}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
        state.0.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().unwrap().0).into_owned()
    }
}

/// Whether somebody listens at an IPv4 address (proc_net_tcp(5)): asking it by
/// a connection would show up in what the server does.
fn listens(address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else { panic!("{address}: not of IPv4") };
    let ip = u32::from_le_bytes(address.ip().octets());
    let wanted = format!(" {ip:08X}:{:04X} 00000000:0000 0A ", address.port());
    fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
}
