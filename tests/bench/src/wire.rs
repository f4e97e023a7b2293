//! A client of the least cost: blocking, a write and a read a step.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, bail, ensure};

pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    inbox: Vec<u8>,
}

/// A socket whose small writes are not held back.
pub(crate) fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Wire {
    pub(crate) fn connect(server: SocketAddr) -> io::Result<Self> {
        dial(server).map(Self::over)
    }
}

impl<S: Read + Write> Wire<S> {
    /// Speaks over a stream that is connected.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, inbox: Vec::with_capacity(64) }
    }

    /// `SEND` of one file.
    pub(crate) fn send(&mut self, name: &str, body: &[u8]) -> anyhow::Result<()> {
        self.ask(&format!("SEND <{name}> SIZE {}\n", body.len()), "SEND OK\n")?;
        self.stream.write_all(body)?;
        self.expect("SEND OK\n")
    }

    /// `SEND` of `size` bytes of no content, as `dd` has them from `/dev/zero`.
    pub(crate) fn send_zeros(&mut self, name: &str, size: u64) -> anyhow::Result<()> {
        self.ask(&format!("SEND <{name}> SIZE {size}\n"), "SEND OK\n")?;
        let piece = vec![0; PIECE];
        let mut left = size;
        while left > 0 {
            let count = left.min(PIECE as u64);
            self.stream.write_all(&piece[..count as usize])?;
            left -= count;
        }
        self.expect("SEND OK\n")
    }

    /// `MV` of one file into `body`, which it fills to the last byte.
    pub(crate) fn take(&mut self, name: &str, body: &mut [u8]) -> anyhow::Result<()> {
        self.ask(&format!("MV <{name}>\n"), &format!("MV SIZE {}\n", body.len()))?;
        self.stream.write_all(b"MV OK\n")?;
        self.stream.read_exact(body).context("a body")
    }

    /// Writes a command and reads the answer that it must have.
    pub(crate) fn ask(&mut self, command: &str, answer: &str) -> anyhow::Result<()> {
        self.stream.write_all(command.as_bytes())?;
        self.expect(answer).with_context(|| command.trim_end().to_owned())
    }

    /// `QUIT`, and waits until the server has closed.
    pub(crate) fn quit(mut self) -> anyhow::Result<()> {
        self.stream.write_all(b"QUIT\n")?;
        let mut rest = [0];
        ensure!(self.stream.read(&mut rest)? == 0, "the server answers QUIT");
        Ok(())
    }

    fn expect(&mut self, answer: &str) -> anyhow::Result<()> {
        self.inbox.clear();
        self.inbox.resize(answer.len(), 0);
        let mut filled = 0;
        while filled < answer.len() {
            match self.stream.read(&mut self.inbox[filled..])? {
                0 => bail!("the server closed, where {answer:?} was due"),
                count => filled += count,
            }
            if self.inbox[..filled] != answer.as_bytes()[..filled] {
                bail!("{:?}, where {answer:?} was due", String::from_utf8_lossy(&self.inbox[..filled]));
            }
        }
        Ok(())
    }
}

const PIECE: usize = 256 * 1024;
