//! Carrying bytes where a side is encrypted: they have to be copied.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use transport::Stream;

use crate::carry::{Side, Way};

/// One direction. It is driven by polls of its own, since each of the two
/// streams belongs to both directions.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// What the other side did not take yet.
    rest: Bytes,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Moving,
    /// The end goes over.
    Ending,
    Ended,
}

// === impl Direction ===

impl Direction {
    /// One that begins with bytes that were read already.
    pub(crate) fn new(head: Bytes) -> Self {
        Self { rest: head, state: State::Moving }
    }

    /// Moves what there is; ready when the direction has ended.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        way: Way<'_>,
    ) -> Poll<Result<(), Side>> {
        loop {
            while !self.rest.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(context, &self.rest));
                self.rest.advance(counted(written, way.count)?);
            }
            // An empty one would still hold its memory.
            self.rest = Bytes::new();
            match self.state {
                State::Moving => match self.step(context, from, to, way)? {
                    Poll::Ready(0) => {
                        way.eye.ended();
                        self.state = State::Ending;
                    }
                    Poll::Ready(_) => {}
                    Poll::Pending => {
                        // What is encrypted may still be held.
                        let _ = Pin::new(&mut *to).poll_flush(context).map_err(Side::To)?;
                        return Poll::Pending;
                    }
                },
                State::Ending => {
                    // Who has gone already has nothing more to learn.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(context));
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Moves one piece; how many bytes were read. The buffer is the thread's,
    /// so that a session that waits holds none.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        way: Way<'_>,
    ) -> Result<Poll<usize>, Side> {
        thread_local! {
            static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            if Pin::new(from).poll_read(context, &mut read).map_err(Side::From)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let mut piece = read.filled();
            way.eye.see(piece).map_err(Side::Foreign)?;
            while !piece.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *to).poll_write(context, piece) else {
                    self.rest = Bytes::copy_from_slice(piece);
                    break;
                };
                piece = &piece[counted(written, way.count)?..];
            }
            Ok(Poll::Ready(read.filled().len()))
        })
    }
}

fn counted(written: io::Result<usize>, count: &AtomicU64) -> Result<usize, Side> {
    match written {
        Ok(0) => Err(Side::To(io::ErrorKind::WriteZero.into())),
        Ok(written) => {
            count.fetch_add(written as u64, Relaxed);
            Ok(written)
        }
        Err(error) => Err(Side::To(error)),
    }
}

/// Bytes that are moved at once.
const PIECE: usize = 64 * 1024;
