//! How much may lie in a spool: counted in memory, so that no file waits for
//! a look at the disk.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::folder::Census;

/// The most that all folders of a spool hold together, what is on its way
/// included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Files; none: as many as the disk takes.
    pub files: Option<u64>,
    /// Their bytes; none: as many as the disk takes.
    pub bytes: Option<u64>,
}

/// Counts what comes and goes, and lets nothing in above the [`Limits`].
///
/// What others add or remove is seen by [`Quota::recount`]. Between two of
/// those, the count is never below what this process has left in the spool.
#[derive(Debug)]
pub struct Quota {
    limits: Limits,
    state: Mutex<State>,
}

/// Room for a file that is on its way; given back when it is dropped, unless
/// the file was placed.
#[derive(Debug)]
pub struct Claim {
    quota: Arc<Quota>,
    room: Amount,
    /// Bytes of the file whose place it takes.
    replaced: u64,
}

/// Why there is no room for a file: what lies in the spool and is on its way,
/// and how much may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverQuota {
    /// Too many files.
    #[error("{held} files are in the spool or on their way, of at most {most}")]
    Files {
        /// Files.
        held: u64,
        /// The limit.
        most: u64,
    },
    /// Too many bytes.
    #[error("{held} bytes are in the spool or on their way, of at most {most}, and {more} more are needed")]
    Bytes {
        /// Bytes.
        held: u64,
        /// What the file needs.
        more: u64,
        /// The limit.
        most: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    files: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Files that have their names.
    stored: Amount,
    /// Room of those that do not yet.
    claimed: Amount,
    /// Files that are being removed, and still counted as stored.
    leaving: Amount,
    /// All that were placed, and all that were removed, since the start.
    placed: Amount,
    removed: Amount,
}

// === impl Limits ===

impl Limits {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.files.is_some() || self.bytes.is_some()
    }
}

// === impl Quota ===

impl Quota {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Room for a file of `bytes` under a name of its own.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub fn claim(self: &Arc<Self>, bytes: u64) -> Result<Claim, OverQuota> {
        self.claim_amount(Amount { files: 1, bytes }, 0)
    }

    /// Room for a file of `bytes` that takes the place of one of `replaced`
    /// bytes: for what it has more. Whether that one is still there is seen
    /// when it is placed.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub fn claim_beyond(self: &Arc<Self>, bytes: u64, replaced: u64) -> Result<Claim, OverQuota> {
        self.claim_amount(Amount { files: 0, bytes: bytes.saturating_sub(replaced) }, replaced)
    }

    fn claim_amount(self: &Arc<Self>, room: Amount, replaced: u64) -> Result<Claim, OverQuota> {
        self.take(room)?;
        Ok(Claim { quota: Arc::clone(self), room, replaced })
    }

    fn take(&self, room: Amount) -> Result<(), OverQuota> {
        let mut state = self.state();
        let held = state.stored.plus(state.claimed);
        let after = held.plus(room);
        // Who needs nothing more is let in even above a limit.
        if let Some(most) = self.limits.files.filter(|&most| room.files > 0 && after.files > most) {
            return Err(OverQuota::Files { held: held.files, most });
        }
        if let Some(most) = self.limits.bytes.filter(|&most| room.bytes > 0 && after.bytes > most) {
            return Err(OverQuota::Bytes { held: held.bytes, more: room.bytes, most });
        }
        state.claimed = state.claimed.plus(room);
        Ok(())
    }

    /// What lies in the spool is what `count` says, as far as nothing came or
    /// went meanwhile: an answer for all folders of the spool together.
    ///
    /// # Errors
    /// Those of `count`.
    pub fn recount(&self, count: impl FnOnce() -> io::Result<Census>) -> io::Result<Census> {
        let (placed, removed) = {
            let state = self.state();
            (state.placed, state.removed)
        };
        let census = count()?;
        let counted = Amount { files: census.files, bytes: census.bytes };
        let mut state = self.state();
        // What came meanwhile may not have been seen, and what is leaving is
        // taken off later.
        let most = counted.plus(state.placed.minus(placed)).plus(state.leaving);
        // What left meanwhile, or has its name and is claimed still, may have
        // been seen.
        let least = counted.minus(state.removed.minus(removed)).minus(state.claimed);
        state.stored = Amount {
            files: state.stored.files.clamp(least.files, most.files),
            bytes: state.stored.bytes.clamp(least.bytes, most.bytes),
        };
        Ok(census)
    }

    /// Counts a file as removed if `remove` says that it was.
    pub(crate) fn leaves<E>(&self, bytes: u64, remove: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let one = Amount { files: 1, bytes };
        {
            let mut state = self.state();
            state.leaving = state.leaving.plus(one);
        }
        let removed = remove();
        let mut state = self.state();
        state.leaving = state.leaving.minus(one);
        if removed.is_ok() {
            state.stored = state.stored.minus(one);
            state.removed = state.removed.plus(one);
        }
        removed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Claim ===

impl Claim {
    /// Takes more room where the file has grown to `bytes`.
    ///
    /// # Errors
    /// [`OverQuota`], as [`io::ErrorKind::QuotaExceeded`].
    pub(crate) fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.extend(Amount { files: self.room.files, bytes: bytes.saturating_sub(self.replaced) })
    }

    /// Gives a file of `bytes` its name by `rename`, in place of one of
    /// `replaced` bytes where there is one. To be called while no other file
    /// comes or goes under that name.
    ///
    /// # Errors
    /// As [`Claim::grow`], and those of `rename`.
    pub(crate) fn place(
        &mut self,
        bytes: u64,
        replaced: Option<u64>,
        rename: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let one = Amount { files: 1, bytes };
        let gone = replaced.map_or(Amount::default(), |bytes| Amount { files: 1, bytes });
        self.extend(one.minus(gone))?;
        {
            let mut state = self.quota.state();
            state.leaving = state.leaving.plus(gone);
        }
        let renamed = rename();
        let mut state = self.quota.state();
        state.leaving = state.leaving.minus(gone);
        renamed?;
        state.claimed = state.claimed.minus(self.room);
        self.room = Amount::default();
        state.stored = state.stored.plus(one).minus(gone);
        state.placed = state.placed.plus(one);
        state.removed = state.removed.plus(gone);
        Ok(())
    }

    fn extend(&mut self, room: Amount) -> io::Result<()> {
        let more = room.minus(self.room);
        if more != Amount::default() {
            let over = |over| io::Error::new(io::ErrorKind::QuotaExceeded, over);
            self.quota.take(more).map_err(over)?;
            self.room = self.room.plus(more);
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.quota.state();
        state.claimed = state.claimed.minus(self.room);
    }
}

// === impl Amount ===

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { files: self.files.saturating_add(other.files), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn minus(self, other: Self) -> Self {
        Self { files: self.files.saturating_sub(other.files), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

#[cfg(test)]
mod tests;
