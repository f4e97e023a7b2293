//! A client's end of a connection, which says what it got instead of failing.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::SockRef;
use tests::PATIENCE;

#[derive(Debug)]
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|error| format!("no connection: {error}"))?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self(stream))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.write_all(bytes).map_err(|error| format!("it takes nothing: {error}"))
    }

    /// The next line, without its newline.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.body(1)?[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
                byte => line.push(byte),
            }
        }
    }

    pub(crate) fn body(&mut self, size: usize) -> Result<Vec<u8>, String> {
        let mut body = vec![0; size];
        self.0.read_exact(&mut body).map_err(|error| format!("no more comes: {error}"))?;
        Ok(body)
    }

    /// Nothing more comes, and it is closed.
    pub(crate) fn closed(mut self) -> Result<(), String> {
        let mut rest = [0; 200];
        match self.0.read(&mut rest) {
            Ok(0) => Ok(()),
            Ok(count) => Err(format!("it says {}, and does not close", rest[..count].escape_ascii())),
            // It closed while something was on its way there.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(format!("it does not close: {error}")),
        }
    }

    pub(crate) fn finish_writing(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// So that the server sees a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
