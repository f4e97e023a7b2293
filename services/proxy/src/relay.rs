//! One direction of a session.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf},
    net::TcpStream,
};
use transport::Stream;

use crate::{inspect::Foreign, pipe::Pipe, watch::Eye};

/// What moves bytes from one side to the other. It is driven by polls of its
/// own, since each of the two streams belongs to both directions; and while it
/// waits, it holds next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    rest: Rest,
    state: State,
    /// Bytes that went over.
    written: u64,
    /// Reads and writes.
    moves: u64,
}

/// What the other side did not take yet.
#[derive(Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    Bytes(Bytes),
    Piped(Pipe),
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// By copies: for little, that costs less than a pipe.
    #[default]
    Little,
    /// Much comes at once.
    Much,
    /// The end goes over.
    Ending,
    Over,
}

/// Why a direction does not go on.
#[derive(Debug)]
pub(crate) enum Side {
    /// The side that is read failed.
    From(io::Error),
    /// The side that is written to did.
    To(io::Error),
    /// None did: it is not to go on.
    Foreign(Foreign),
}

// === impl Direction ===

impl Direction {
    /// Begins with bytes that were read already.
    ///
    /// # Errors
    /// As [`Eye::see`].
    pub(crate) fn begin(&mut self, mut head: Bytes, eye: Eye<'_>) -> Result<(), Foreign> {
        let straight = eye.see(&head)?;
        self.rest = Rest::of(head.split_to(straight));
        Ok(())
    }

    /// Moves what there is; ready when all has gone over, and the end behind
    /// it if that is to be told.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        eye: Eye<'_>,
        pass_end: bool,
    ) -> Poll<Result<(), Side>> {
        while !self.is_over() {
            ready!(self.deliver(context, to))?;
            let released = eye.released();
            if !released.is_empty() {
                self.rest = Rest::of(released.into());
                continue;
            }
            match self.state {
                State::Little | State::Much => {
                    if ready!(self.step(context, from, to, eye))? == 0 {
                        self.state = State::Ending;
                    }
                }
                State::Ending if eye.keeps() => return waits(context, to),
                State::Ending => {
                    eye.ended();
                    if pass_end {
                        // Who has gone already has nothing more to learn.
                        let _ = ready!(Pin::new(&mut *to).poll_shutdown(context));
                    }
                    self.state = State::Over;
                }
                State::Over => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves no more.
    pub(crate) fn stop(&mut self) {
        (self.rest, self.state) = (Rest::Nothing, State::Over);
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.moves == 0 && matches!(self.rest, Rest::Nothing) && matches!(self.state, State::Little)
    }

    /// Bytes that went over.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// How often something has moved, the end too.
    pub(crate) fn moves(&self) -> u64 {
        self.moves
    }

    /// Writes what is there to be written.
    fn deliver(&mut self, context: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Side>> {
        loop {
            let written = match &mut self.rest {
                Rest::Nothing => return Poll::Ready(Ok(())),
                Rest::Bytes(bytes) => {
                    let written = ready!(write(context, to, bytes))?;
                    bytes.advance(written);
                    written
                }
                Rest::Piped(pipe) => ready!(drain(context, to, pipe))?,
            };
            self.wrote(written);
            if self.rest.is_empty() {
                // An empty one would still hold its memory.
                self.rest = Rest::Nothing;
            }
        }
    }

    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        self.moves += 1;
    }

    /// Moves one piece; how many bytes there were, 0 at the end.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        eye: Eye<'_>,
    ) -> Poll<Result<usize, Side>> {
        let moved = match self.state {
            // Who speaks too far ahead waits for the other side's answers.
            _ if !eye.listens() => Poll::Pending,
            State::Much if eye.ahead() > 0 => self.splice(context, from, to, eye),
            _ => self.copy(context, from, to, eye),
        };
        if moved.is_pending() { waits(context, to) } else { moved }
    }

    /// By the thread's buffer, so that a session that waits holds none.
    fn copy(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        eye: Eye<'_>,
    ) -> Poll<Result<usize, Side>> {
        thread_local! {
            static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
        }
        // Where a side is encrypted there is no other way.
        let splices = matches!((&*from, &*to), (Stream::Plain(_), Stream::Plain(_)));
        let most = if splices && matches!(self.state, State::Little) { LITTLE } else { PIECE };
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(&mut buffer[..most]);
            ready!(Pin::new(from).poll_read(context, &mut read)).map_err(Side::From)?;
            let count = read.filled().len();
            self.moves += 1;
            let straight = eye.see(read.filled()).map_err(Side::Foreign)?;
            let mut piece = &read.filled()[..straight];
            while !piece.is_empty() {
                let Poll::Ready(written) = write(context, to, piece) else {
                    self.rest = Rest::of(Bytes::copy_from_slice(piece));
                    break;
                };
                let written = written?;
                self.wrote(written);
                piece = &piece[written..];
            }
            let much = splices && count >= LITTLE && eye.ahead() > LITTLE as u64;
            self.state = if much { State::Much } else { State::Little };
            Poll::Ready(Ok(count))
        })
    }

    /// By a pipe, for as long as much comes at once and nobody needs to see
    /// it. Taken anew each time: who waits holds none.
    fn splice(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        eye: Eye<'_>,
    ) -> Poll<Result<usize, Side>> {
        let source = plain(from);
        let count = loop {
            ready!(source.poll_read_ready(context)).map_err(Side::From)?;
            let Some(mut pipe) = Pipe::take() else { return self.copy(context, from, to, eye) };
            let filled = source.try_io(Interest::READABLE, || pipe.fill(source, eye.ahead()));
            if let Some(count) = unless_blocked(filled).map_err(Side::From)? {
                if count > 0 {
                    self.rest = Rest::Piped(pipe);
                }
                break count;
            }
        };
        self.moves += 1;
        eye.moved(count).map_err(Side::Foreign)?;
        if count < LITTLE {
            self.state = State::Little;
        }
        Poll::Ready(Ok(count))
    }
}

// === impl Rest ===

impl Rest {
    fn of(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Nothing } else { Self::Bytes(bytes) }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Piped(pipe) => pipe.held() == 0,
        }
    }
}

/// Sees to it that what is encrypted is not held back meanwhile.
fn waits<T>(context: &mut Context<'_>, to: &mut Stream) -> Poll<Result<T, Side>> {
    let _ = Pin::new(to).poll_flush(context).map_err(Side::To)?;
    Poll::Pending
}

fn write(context: &mut Context<'_>, to: &mut Stream, bytes: &[u8]) -> Poll<Result<usize, Side>> {
    Poll::Ready(match ready!(Pin::new(to).poll_write(context, bytes)) {
        Ok(0) => Err(Side::To(ErrorKind::WriteZero.into())),
        written => written.map_err(Side::To),
    })
}

fn drain(context: &mut Context<'_>, to: &Stream, pipe: &mut Pipe) -> Poll<Result<usize, Side>> {
    let to = plain(to);
    loop {
        ready!(to.poll_write_ready(context)).map_err(Side::To)?;
        let drained = to.try_io(Interest::WRITABLE, || pipe.drain(to));
        if let Some(drained) = unless_blocked(drained).map_err(Side::To)? {
            return Poll::Ready(Ok(drained));
        }
    }
}

fn plain(stream: &Stream) -> &TcpStream {
    match stream {
        Stream::Plain(stream) => stream,
        Stream::Tls(_) => unreachable!("nothing that is encrypted goes by a pipe"),
    }
}

fn unless_blocked<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes that are moved by a copy before a pipe is asked for.
const LITTLE: usize = 16 * 1024;

/// Bytes that are moved by a copy where there is none.
const PIECE: usize = 64 * 1024;
