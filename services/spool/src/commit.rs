//! Shared flushes: who finishes while a flush of the folder is under way
//! waits for the next one, together with everybody else who does.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
};

use crate::metrics::Flush;

/// Why a file could not be placed under its name.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The name is taken, and it was not to be overwritten.
    #[error("the name is taken")]
    Exists,
    /// The disk failed. The file is not there, unless it might overwrite
    /// another: then it may be there, or that one, whole.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One folder's flushes.
#[derive(Debug, Default)]
pub(crate) struct SharedFlush {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a flush is under way.
    running: bool,
    /// What those who come now wait for: a flush that has not begun.
    next: Arc<Round>,
}

/// How one flush ended; the system's error number if it failed.
type Round = OnceLock<Result<(), Option<i32>>>;

impl SharedFlush {
    /// Returns when a flush that began after this call has ended. Blocks.
    /// The first to come runs `flush` for all who are waiting by then.
    ///
    /// # Errors
    /// That flush's own.
    pub(crate) fn wait(&self, flush: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = Arc::clone(&state.next);
        loop {
            if let Some(result) = mine.get() {
                return result.map_err(|code| {
                    code.map_or_else(|| io::Error::other("a flush failed"), io::Error::from_raw_os_error)
                });
            }
            if state.running {
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Nothing runs and `mine` has no result: it is `next` still.
            state.running = true;
            state.next = Arc::default();
            drop(state);
            // Nobody takes part in it who comes from now on.
            let measured = Flush::begin(Arc::strong_count(&mine));
            let result = flush();
            measured.end(&result);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // Set once: only the thread that took the round out of `next`
            // comes here with it.
            let _ = mine.set(result.map_err(|error| error.raw_os_error()));
            state.running = false;
            self.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn those_who_come_together_share_a_flush() {
        let shared = SharedFlush::default();
        let flushes = AtomicUsize::new(0);
        let barrier = Barrier::new(32);
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    barrier.wait();
                    shared
                        .wait(|| {
                            flushes.fetch_add(1, SeqCst);
                            thread::sleep(Duration::from_millis(50));
                            Ok(())
                        })
                        .unwrap();
                });
            }
        });
        assert!(flushes.load(SeqCst) < 8, "{flushes:?}");
    }

    #[test]
    fn a_failed_flush_fails_all_who_shared_it_and_nobody_later() {
        let shared = SharedFlush::default();
        let error = shared.wait(|| Err(io::Error::from_raw_os_error(5))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        shared.wait(|| Ok(())).unwrap();
    }
}
