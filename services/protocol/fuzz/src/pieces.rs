//! A stream whose bytes come in pieces.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use protocol::Deadline;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the other side says, and what it is told.
#[derive(Debug)]
pub struct Pieces<'a> {
    rest: &'a [u8],
    cuts: Cuts,
    /// Whether the reader has waited for the next piece.
    waited: bool,
}

/// How long pieces are.
#[derive(Clone, Copy, Debug)]
pub enum Cuts {
    /// All is there at once.
    Whole,
    /// One byte, and a wait, and the next.
    Bytes,
    /// As this state of a generator has it.
    Random(u64),
}

impl<'a> Pieces<'a> {
    pub fn new(bytes: &'a [u8], cuts: Cuts) -> Self {
        Self { rest: bytes, cuts, waited: false }
    }
}

impl Cuts {
    /// Some others than [`Cuts::Whole`]: each input has its own, and always
    /// the same.
    pub fn of(input: &[u8]) -> [Self; 3] {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let seed = hasher.finish() | 1;
        [Self::Bytes, Self::Random(seed), Self::Random(seed.rotate_left(32) | 1)]
    }

    /// Bytes of the next piece.
    pub fn next(&mut self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Bytes => 1,
            Self::Random(state) => {
                // xorshift64
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                // Short ones mostly, and some that hold several lines.
                1 + (*state >> 8) as usize % if *state & 3 == 0 { 600 } else { 12 }
            }
        }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.waited && !matches!(self.cuts, Cuts::Whole) {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        let size = self.cuts.next().min(buf.remaining()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(size);
        buf.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// Takes whatever is said.
impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Longer than any input takes.
pub fn deadline() -> Deadline {
    Deadline::new(Duration::from_secs(3600), 0)
}

/// Runs what never waits for long.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime of one thread needs nothing");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}
