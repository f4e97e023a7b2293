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
    /// From when it is made until it is dropped.
    ends: Option<Ends>,
    held: usize,
}

/// What all sessions share.
struct Pool {
    spare: Vec<Ends>,
    /// The spare ones, and those in use.
    pipes: usize,
}

#[derive(Debug)]
struct Ends {
    reads: OwnedFd,
    writes: OwnedFd,
}

// === impl Pipe ===

impl Pipe {
    /// A pipe that was used before, or a new one; none where there are enough,
    /// or the system gives none of full size. What a user may have of pipes is
    /// little (`pipe-user-pages-soft` of pipe(7), 64 MB of the whole machine),
    /// and what comes beyond that holds less than a copy moves.
    pub(crate) fn take() -> Option<Self> {
        let ends = {
            let mut pool = pool();
            let spare = pool.spare.pop();
            if spare.is_none() && pool.pipes == MOST {
                return None;
            }
            pool.pipes += usize::from(spare.is_none());
            spare
        };
        // From here on, dropping it gives its place back.
        let mut pipe = Self { ends, held: 0 };
        if pipe.ends.is_none() {
            pipe.ends = Some(Ends::new()?);
        }
        Some(pipe)
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
        let mut pool = pool();
        match self.ends.take() {
            Some(ends) if self.held == 0 && pool.spare.len() < SPARE => pool.spare.push(ends),
            _ => pool.pipes -= 1,
        }
    }
}

// === impl Ends ===

impl Ends {
    fn new() -> Option<Self> {
        let (reads, writes) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let size = fcntl_setpipe_size(&writes, SIZE).ok()?;
        (size >= SIZE).then_some(Self { reads, writes })
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    static POOL: Mutex<Pool> = Mutex::new(Pool { spare: Vec::new(), pipes: 0 });
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a pipe: with a quarter, a byte costs a fifth more.
const SIZE: usize = 1024 * 1024;

/// Pipes at once, and those of them that are kept when nobody needs them:
/// other programs want theirs, too.
const MOST: usize = 16;
const SPARE: usize = 8;
