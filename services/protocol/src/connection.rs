//! Framing: lines and bodies over any stream, each wait with a deadline.

use std::{io, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};

use crate::{command::Command, reply::Reply};

/// One side of a session.
///
/// It takes lines and bodies in whatever pieces they arrive, several in one
/// piece too. A body is moved through the caller's buffer and never held
/// whole; until it has been read to its end, no line can be read.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    /// What has arrived and was not asked for yet. Small: an idle connection
    /// holds no more than this.
    inbox: BytesMut,
    /// The line being written, kept for its allocation.
    outbox: Vec<u8>,
    deadline: Deadline,
    max_line: usize,
    /// Of the body under way inwards.
    body: Option<BodyState>,
    /// When the body under way outwards must have been taken.
    taken_by: Option<Instant>,
}

/// How long a side waits for the other: `(retries + 1) × timeout`.
///
/// It bounds a whole line, so that a peer that sends a byte now and then
/// cannot stay; and each piece of a body, which on top must keep up
/// [`Deadline::SLOWEST_BODY`] on the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Duration);

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The other side closed where a line could have begun.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side closed in the middle of a line or a body.
    #[error("the other side closed in the middle of {0}")]
    CutShort(&'static str),
    /// Nothing (or too little) came, or nothing was taken, in time.
    #[error("no {what} within {} s", .after.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// A line of more than the bound, in bytes.
    #[error("a line of more than {0} bytes")]
    LineTooLong(usize),
    /// What came in place of an answer is TLS: an alert, as a rule.
    #[error("the other side speaks TLS, and this connection is plain")]
    Tls,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug)]
struct BodyState {
    left: u64,
    ends: Instant,
}

// === impl Connection ===

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Bytes of a line, its newline included, unless told otherwise: the
    /// peers' block.
    pub const MAX_LINE: usize = 8192;

    /// Speaks over `stream`.
    pub fn new(stream: S, deadline: Deadline) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            outbox: Vec::new(),
            deadline,
            max_line: Self::MAX_LINE,
            body: None,
            taken_by: None,
        }
    }

    /// Bounds lines to `max_line` bytes, their newline included.
    #[must_use]
    pub fn with_max_line(mut self, max_line: usize) -> Self {
        self.max_line = max_line;
        self
    }

    /// The next line as a command; `Ok(None)` if it is none.
    ///
    /// # Errors
    /// [`ConnectionError`]; [`ConnectionError::Closed`] where the client left
    /// between two commands.
    pub async fn read_command(&mut self) -> Result<Option<Command>, ConnectionError> {
        Ok(Command::parse(&self.read_line("command").await?))
    }

    /// The next line, for a reply.
    ///
    /// # Errors
    /// [`ConnectionError`]; [`ConnectionError::Tls`] where it begins as none
    /// can.
    pub async fn read_reply_line(&mut self) -> Result<Bytes, ConnectionError> {
        let line = self.read_line("answer").await;
        // What is left of one that failed is still there.
        let first = match &line {
            Ok(line) => line.first(),
            Err(_) => self.inbox.first(),
        };
        match first.copied() {
            Some(TLS_ALERT | TLS_HANDSHAKE) => Err(ConnectionError::Tls),
            _ => line,
        }
    }

    /// Writes a command.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn write_command(&mut self, command: &Command) -> Result<(), ConnectionError> {
        self.outbox.clear();
        command.write(&mut self.outbox);
        self.write_outbox().await
    }

    /// Writes a reply.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn write_reply(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        self.outbox.clear();
        reply.write(&mut self.outbox);
        self.write_outbox().await
    }

    /// Announces that the next `size` bytes that arrive are a body.
    pub fn begin_body(&mut self, size: u64) {
        let ends = Instant::now() + self.deadline.for_body(size);
        self.body = (size > 0).then_some(BodyState { left: size, ends });
    }

    /// Bytes of the body that were not read yet.
    pub fn body_left(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.left)
    }

    /// Appends what comes next of the body to `buffer`, at most its spare
    /// capacity; returns how many bytes, 0 at the body's end. A buffer
    /// without spare capacity is the caller's fault and gets 0 too.
    ///
    /// Cancellation loses no byte: what was read is in `buffer`.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn read_body(&mut self, buffer: &mut Vec<u8>) -> Result<usize, ConnectionError> {
        let Some(body) = &mut self.body else { return Ok(0) };
        let room = (buffer.capacity() - buffer.len()).min(usize::try_from(body.left).unwrap_or(usize::MAX));
        let count = if self.inbox.is_empty() {
            let until = (Instant::now() + self.deadline.0).min(body.ends);
            let mut spare = buffer.limit(room);
            match timeout_at(until, self.stream.read_buf(&mut spare)).await {
                Ok(Ok(0)) if room > 0 => return Err(ConnectionError::CutShort("a body")),
                Ok(result) => result?,
                Err(_) => return Err(self.deadline.missed("more of the body")),
            }
        } else {
            let count = room.min(self.inbox.len());
            buffer.extend_from_slice(&self.inbox.split_to(count));
            count
        };
        body.left -= count as u64;
        if body.left == 0 {
            self.body = None;
        }
        Ok(count)
    }

    /// Reads the rest of the body and forgets it, so that the next line can
    /// be read.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn discard_body(&mut self) -> Result<(), ConnectionError> {
        let mut scratch =
            Vec::with_capacity(usize::try_from(self.body_left()).unwrap_or(usize::MAX).min(65536));
        while self.read_body(&mut scratch).await? > 0 {
            scratch.clear();
        }
        Ok(())
    }

    /// Announces that a body of `size` bytes is about to be written.
    pub fn begin_writing(&mut self, size: u64) {
        self.taken_by = Some(Instant::now() + self.deadline.for_body(size));
    }

    /// Writes a piece of a body. Each part that the other side takes has the
    /// deadline anew, and the whole that [`Connection::begin_writing`]
    /// announced has one too.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn write_body(&mut self, piece: &[u8]) -> Result<(), ConnectionError> {
        write_all(&mut self.stream, piece, self.deadline, self.taken_by).await
    }

    /// What has arrived and was not asked for, for whoever goes on with the
    /// stream.
    pub fn into_unread(self) -> Bytes {
        self.inbox.freeze()
    }

    /// Says that nothing more comes, and lets go of the stream.
    ///
    /// # Errors
    /// Those of the stream's shutdown.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        tokio::time::timeout(self.deadline.0, self.stream.shutdown()).await.unwrap_or(Ok(()))
    }

    async fn read_line(&mut self, what: &'static str) -> Result<Bytes, ConnectionError> {
        debug_assert!(self.body.is_none(), "a body was left unread");
        let until = Instant::now() + self.deadline.0;
        let mut searched = 0;
        loop {
            if let Some(at) = self.inbox[searched..].iter().position(|&byte| byte == b'\n') {
                if searched + at >= self.max_line {
                    return Err(ConnectionError::LineTooLong(self.max_line));
                }
                let mut line = self.inbox.split_to(searched + at + 1);
                line.truncate(searched + at);
                return Ok(line.freeze());
            }
            searched = self.inbox.len();
            if searched >= self.max_line {
                return Err(ConnectionError::LineTooLong(self.max_line));
            }
            self.inbox.reserve(FIRST_READ);
            match timeout_at(until, self.stream.read_buf(&mut self.inbox)).await {
                Ok(Ok(0)) if self.inbox.is_empty() => return Err(ConnectionError::Closed),
                Ok(Ok(0)) => return Err(ConnectionError::CutShort("a line")),
                Ok(result) => result?,
                Err(_) => return Err(self.deadline.missed(what)),
            };
        }
    }

    async fn write_outbox(&mut self) -> Result<(), ConnectionError> {
        write_all(&mut self.stream, &self.outbox, self.deadline, None).await
    }
}

async fn write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    mut piece: &[u8],
    deadline: Deadline,
    taken_by: Option<Instant>,
) -> Result<(), ConnectionError> {
    while !piece.is_empty() {
        let each = Instant::now() + deadline.0;
        let until = taken_by.map_or(each, |whole| whole.min(each));
        match timeout_at(until, stream.write(piece)).await {
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(count) => piece = &piece[count?..],
            Err(_) => return Err(deadline.missed("reader for what is written")),
        }
    }
    stream.flush().await?;
    Ok(())
}

// === impl Deadline ===

impl Deadline {
    /// Bytes a second that a body must keep up on the whole. Slower than any
    /// link that carries monitoring, fast enough that no body stays for ever.
    pub const SLOWEST_BODY: u64 = 64;

    /// `(retries + 1) × timeout`.
    pub fn new(timeout: Duration, retries: u32) -> Self {
        Self(timeout.saturating_mul(retries.saturating_add(1)))
    }

    /// The time as a duration.
    pub fn as_duration(self) -> Duration {
        self.0
    }

    fn for_body(self, size: u64) -> Duration {
        // Beyond a century no clock needs to count.
        self.0 + Duration::from_secs((size / Self::SLOWEST_BODY).min(100 * 365 * 86400))
    }

    fn missed(self, what: &'static str) -> ConnectionError {
        ConnectionError::TimedOut { what, after: self.0 }
    }
}

/// Bytes that a read of a line asks for: more than any usual command, and all
/// that an idle connection costs here.
const FIRST_READ: usize = 512;

/// What a record of TLS begins with (RFC 8446, section 5.1): a server's to
/// whom it does not understand, or, of one that speaks first, its hello.
const TLS_ALERT: u8 = 21;
const TLS_HANDSHAKE: u8 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline() -> Deadline {
        Deadline::new(Duration::from_secs(1), 3)
    }

    async fn connection(pieces: Vec<&'static [u8]>) -> Connection<tokio::io::DuplexStream> {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        for piece in pieces {
            far.write_all(piece).await.unwrap();
        }
        far.shutdown().await.unwrap();
        drop(far);
        Connection::new(near, deadline())
    }

    #[tokio::test]
    async fn commands_and_bodies_may_share_a_piece() {
        let mut connection = connection(vec![b"SEND <a> SIZE 3\nabcQUIT\n"]).await;
        assert!(matches!(connection.read_command().await, Ok(Some(Command::Send { size: 3, .. }))));
        connection.begin_body(3);
        let mut body = Vec::with_capacity(2);
        assert_eq!(connection.read_body(&mut body).await.unwrap(), 2);
        body.reserve(10);
        assert_eq!(connection.read_body(&mut body).await.unwrap(), 1);
        assert_eq!(connection.read_body(&mut body).await.unwrap(), 0);
        assert_eq!(body, b"abc");
        assert!(matches!(connection.read_command().await, Ok(Some(Command::Quit))));
        assert!(matches!(connection.read_command().await, Err(ConnectionError::Closed)));
    }

    #[tokio::test]
    async fn what_came_behind_a_command_is_there_for_who_goes_on() {
        let mut connection = connection(vec![b"PASS x\nSEND <a> SIZE 3\nab"]).await;
        assert!(matches!(connection.read_command().await, Ok(Some(Command::Pass(_)))));
        assert_eq!(connection.into_unread(), "SEND <a> SIZE 3\nab");
    }

    #[tokio::test]
    async fn a_line_over_the_bound_ends_the_connection() {
        let long: &'static [u8] = Box::leak(vec![b'S'; 9000].into_boxed_slice());
        let mut connection = connection(vec![long]).await;
        assert!(matches!(connection.read_command().await, Err(ConnectionError::LineTooLong(8192))));
    }

    #[tokio::test]
    async fn an_answer_in_tls_is_told_apart() {
        for answer in [b"\x15\x03\x03\0\x02\x02\x32".as_slice(), b"\x15\x03\x03\0\x02\x02\n", b"\x16\x03"] {
            let mut connection = connection(vec![answer]).await;
            assert!(matches!(connection.read_reply_line().await, Err(ConnectionError::Tls)), "{answer:?}");
        }
        let mut connection = connection(vec![b"\nSEND OK\n"]).await;
        assert_eq!(connection.read_reply_line().await.unwrap(), "");
        assert!(matches!(connection.read_command().await, Ok(None)));
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_cut_short() {
        let mut connection = connection(vec![b"abc"]).await;
        connection.begin_body(10);
        assert!(matches!(connection.discard_body().await, Err(ConnectionError::CutShort("a body"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_each_second_does_not_keep_a_command_alive() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = Connection::new(near, deadline());
        let drip = tokio::spawn(async move {
            while far.write_all(b"Q").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let started = Instant::now();
        assert!(matches!(connection.read_command().await, Err(ConnectionError::TimedOut { .. })));
        assert_eq!(started.elapsed().as_secs(), 4);
        drop(connection);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_slower_than_the_floor_ends() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = Connection::new(near, deadline());
        connection.begin_body(6400);
        let drip = tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let started = Instant::now();
        assert!(matches!(connection.discard_body().await, Err(ConnectionError::TimedOut { .. })));
        assert_eq!(started.elapsed().as_secs(), 104);
        drop(connection);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_slower_than_the_floor_is_given_up() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut connection = Connection::new(near, deadline());
        let drip = tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let started = Instant::now();
        connection.begin_writing(6400);
        assert!(matches!(connection.write_body(&[0; 6400]).await, Err(ConnectionError::TimedOut { .. })));
        assert_eq!(started.elapsed().as_secs(), 104);
        drop(connection);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(64);
        let mut connection = Connection::new(near, deadline());
        assert!(matches!(connection.write_body(&[0; 1000]).await, Err(ConnectionError::TimedOut { .. })));
    }
}
