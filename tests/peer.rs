//! The other side of a session, byte for byte.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use socket2::{Domain, SockRef, Socket, Type};

use crate::PATIENCE;

/// A raw client. What it expects must come within [`PATIENCE`].
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}")))
    }

    /// Connects, and takes so few bytes ahead that a server has to wait for
    /// a reader who does not read.
    pub fn connect_with_little_room(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// Sends bytes by one write.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes to a server that may have closed.
    ///
    /// # Errors
    /// The socket's.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads what must come next.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let (wanted, mut got) = (bytes.as_ref(), Vec::new());
        while got.len() < wanted.len() && wanted.starts_with(&got) {
            match self.read(wanted.len() - got.len(), PATIENCE) {
                Some(piece) if !piece.is_empty() => got.extend(piece),
                end => {
                    let end = if end.is_some() { "the end" } else { "silence" };
                    panic!("{} and {end}, instead of {}", got.escape_ascii(), wanted.escape_ascii());
                }
            }
        }
        assert!(got == wanted, "{}, instead of {}", got.escape_ascii(), wanted.escape_ascii());
    }

    /// Nothing comes for a while, and the connection stays open.
    #[track_caller]
    pub fn expect_quiet(&mut self, during: Duration) {
        if let Some(bytes) = self.read(4096, during) {
            let what = if bytes.is_empty() { "the end".into() } else { bytes.escape_ascii().to_string() };
            panic!("{what}, instead of nothing");
        }
    }

    /// Nothing more comes, and the server closes.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.read(4096, PATIENCE) {
            None => panic!("the server does not close"),
            Some(bytes) => assert!(bytes.is_empty(), "{}, instead of the end", bytes.escape_ascii()),
        }
    }

    /// Whether the server closes within a while, having sent nothing.
    pub fn is_closed_within(&mut self, during: Duration) -> bool {
        self.read(1, during).is_some_and(|bytes| bytes.is_empty())
    }

    /// The next line, without its newline.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.body(1)[0] {
                b'\n' => return String::from_utf8_lossy(&line).into_owned(),
                byte => line.push(byte),
            }
        }
    }

    /// The next `size` bytes.
    #[track_caller]
    pub fn body(&mut self, size: usize) -> Vec<u8> {
        let mut body = vec![0; size];
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// Sends a line, and returns the line that comes back.
    #[track_caller]
    pub fn ask(&mut self, line: impl AsRef<[u8]>) -> String {
        self.send([line.as_ref(), b"\n"].concat());
        self.line()
    }

    /// Stores a file.
    #[track_caller]
    pub fn store(&mut self, name: &str, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        assert_eq!(self.ask(format!("SEND <{name}> SIZE {}", content.len())), "SEND OK");
        self.send(content);
        self.expect("SEND OK\n");
    }

    /// Fetches a file by `RECV`, or by `MV` without the command that removes
    /// it.
    #[track_caller]
    pub fn fetch(&mut self, verb: &str, name: &str) -> Vec<u8> {
        let size = self.announced(verb, name);
        self.send(format!("{verb} OK\n"));
        self.body(size)
    }

    /// Asks for a file, and returns the size that the server announces.
    #[track_caller]
    pub fn announced(&mut self, verb: &str, name: &str) -> usize {
        let answer = self.ask(format!("{verb} <{name}>"));
        let size = answer.strip_prefix(&format!("{verb} SIZE ")).unwrap_or_else(|| panic!("{answer}"));
        size.parse().unwrap()
    }

    /// The names that `LS` gives, sorted, `.` and `..` among them.
    #[track_caller]
    pub fn list(&mut self, filter: &str) -> Vec<String> {
        let list = String::from_utf8(self.fetch("LS", filter)).unwrap();
        let mut names: Vec<_> = list.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Ends the session as it should.
    #[track_caller]
    pub fn quit(mut self) {
        self.send("QUIT\n");
        self.expect_closed();
    }

    /// Says that nothing more comes from here.
    pub fn finish_writing(&self) {
        // A server that has closed needs no word of it.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Breaks the connection off, so that the server sees a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Bytes that come within a while, at most `most`: none at the end of the
    /// connection, `None` if nothing happens.
    fn read(&mut self, most: usize, within: Duration) -> Option<Vec<u8>> {
        let until = Instant::now() + within;
        let mut bytes = vec![0; most];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    bytes.truncate(count);
                    return Some(bytes);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Some(Vec::new()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
