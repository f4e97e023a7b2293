//! Room that stays free in the spool's file system, so that neither readers'
//! `MV` nor the spool itself meet a disk that is full to the last byte.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use spool::{Folder, Space};
use tokio::time::Instant;

/// Lets files in for as long as the reserve is not touched. The file system is
/// asked at most once a second; in between, what was let in is counted.
#[derive(Debug)]
pub(crate) struct Reserve {
    folder: Folder,
    /// Bytes; none: a share of the file system.
    size: Option<u64>,
    state: Mutex<State>,
}

/// A file that was let in, until it is stored or not.
#[derive(Debug)]
pub(crate) struct Admitted(Option<(Arc<Reserve>, u64)>);

/// Why a file is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{available} bytes are free, of which {reserve} stay free (--reserve-space)")]
pub(crate) struct NoRoom {
    available: u64,
    reserve: u64,
}

#[derive(Debug)]
struct State {
    looked: Option<Instant>,
    found: NoRoom,
    /// Bytes that can still be let in, before the next look.
    room: u64,
    /// Bytes of files that were let in and may not be written yet.
    under_way: u64,
}

impl Reserve {
    /// Of `size` bytes; 0 keeps nothing free.
    pub(crate) fn new(folder: Folder, size: Option<u64>) -> Arc<Self> {
        let found = NoRoom { available: u64::MAX, reserve: 0 };
        let state = State { looked: None, found, room: u64::MAX, under_way: 0 };
        Arc::new(Self { folder, size, state: Mutex::new(state) })
    }

    /// Lets a file of `size` bytes in, if it leaves the reserve free.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) async fn admit(self: &Arc<Self>, size: u64) -> Result<Admitted, NoRoom> {
        if self.size == Some(0) {
            return Ok(Admitted(None));
        }
        if self.is_my_turn() {
            // A disk that cannot be asked says so itself when it is written.
            let _ = self.look().await;
        }
        let mut state = self.state();
        state.room = state.room.checked_sub(size).ok_or(state.found)?;
        state.under_way = state.under_way.saturating_add(size);
        Ok(Admitted(Some((Arc::clone(self), size))))
    }

    /// Asks the file system.
    ///
    /// # Errors
    /// The system's, or the reserve is touched: [`NoRoom`] in words.
    pub(crate) async fn look(&self) -> io::Result<()> {
        let space = self.folder.space().await?;
        let (available, reserve) = (space.available, self.size.unwrap_or_else(|| share(space)));
        let mut state = self.state();
        state.looked = Some(Instant::now());
        state.found = NoRoom { available, reserve };
        // What is under way may have been written or not: it counts twice for
        // a moment, rather than not at all.
        state.room = available.saturating_sub(reserve).saturating_sub(state.under_way);
        if available < reserve { Err(io::Error::other(state.found)) } else { Ok(()) }
    }

    /// Whether the last look is old; the next caller has the turn a second
    /// later, whatever becomes of this one.
    fn is_my_turn(&self) -> bool {
        let mut state = self.state();
        let is_old = state.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if is_old {
            state.looked = Some(Instant::now());
        }
        is_old
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some((reserve, size)) = self.0.take() {
            let mut state = reserve.state();
            state.under_way = state.under_way.saturating_sub(size);
        }
    }
}

fn share(space: Space) -> u64 {
    (space.total / 100).min(LARGEST_SHARE)
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes that are kept free of a large file system, of which the share is one
/// per cent: some thousand folder entries and agents' files.
const LARGEST_SHARE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_one_per_cent_of_a_small_disk() {
        let total = |total| share(Space { total, available: 0 });
        assert_eq!((total(1_000_000), total(1 << 40)), (10_000, 16 << 20));
    }

    #[tokio::test]
    async fn what_is_under_way_is_counted_between_two_looks() {
        let folder = std::env::temp_dir();
        let folder = Folder::shared(&folder, "");
        let free = folder.space().await.unwrap().available;
        let reserve = Reserve::new(folder.clone(), Some(free / 2));
        let most = free / 8 * 3;
        let first = reserve.admit(most).await.unwrap();
        assert!(reserve.admit(most).await.is_err());
        // A look does not forget what is under way.
        reserve.look().await.unwrap();
        assert!(reserve.admit(most).await.is_err());
        drop(first);
        reserve.look().await.unwrap();
        reserve.admit(most).await.unwrap();

        let none = Reserve::new(folder.clone(), Some(0));
        none.admit(u64::MAX).await.unwrap();
        let all = Reserve::new(folder, Some(u64::MAX));
        assert!(all.admit(1).await.unwrap_err().to_string().ends_with("stay free (--reserve-space)"));
        assert!(all.look().await.is_err());
    }
}
