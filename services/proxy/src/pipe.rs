//! Pipes that bytes go through from socket to socket without a copy:
//! splice(2).

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A pipe, and what is in it. An empty one goes back to be used again.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Until it is dropped.
    ends: Option<Ends>,
    held: usize,
}

#[derive(Debug)]
struct Ends {
    reads: OwnedFd,
    writes: OwnedFd,
}

// === impl Pipe ===

impl Pipe {
    /// A pipe that was used before, or a new one.
    ///
    /// # Errors
    /// The system's: out of descriptors, most likely.
    pub(crate) fn take() -> io::Result<Self> {
        let ends = match spare().pop() {
            Some(ends) => ends,
            None => {
                let (reads, writes) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                // As large as a user may; a smaller one works too.
                let _ = fcntl_setpipe_size(&writes, SIZE);
                Ends { reads, writes }
            }
        };
        Ok(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves what has come on a socket into the pipe, which must be empty, and
    /// at most `most` bytes; 0 at the end of what comes.
    ///
    /// # Errors
    /// The socket's; [`io::ErrorKind::WouldBlock`] where nothing has come.
    pub(crate) fn fill(&mut self, from: &impl AsFd, most: u64) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(SIZE);
        let moved = splice(from, None, &self.ends().writes, None, most, flags)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what is in the pipe to a socket.
    ///
    /// # Errors
    /// The socket's; [`io::ErrorKind::WouldBlock`] where it takes nothing now.
    pub(crate) fn drain(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = splice(&self.ends().reads, None, to, None, self.held, flags)?;
        self.held -= moved;
        Ok(moved)
    }

    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut spare = spare();
        if self.held == 0 && spare.len() < SPARE {
            spare.extend(self.ends.take());
        }
    }
}

fn spare() -> MutexGuard<'static, Vec<Ends>> {
    static PIPES: Mutex<Vec<Ends>> = Mutex::new(Vec::new());
    PIPES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a pipe.
const SIZE: usize = 1024 * 1024;

/// Empty pipes that are kept.
const SPARE: usize = 64;
