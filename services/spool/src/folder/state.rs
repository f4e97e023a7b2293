//! What the clones of a folder share, and what is done to its names.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use super::taken;
use crate::{
    commit::{CommitError, SharedFlush},
    disk::{Disk, Identity, Status},
    draft::Aside,
    name::EntryName,
    quota::{Claim, Quota},
};

/// What the clones of a folder share.
pub(crate) struct State<D> {
    pub(crate) disk: D,
    pub(crate) path: PathBuf,
    /// How many of the path's last components may have to be made.
    pub(super) below: usize,
    /// Whether it was made when it was opened: who finds it gone has lost it.
    own: bool,
    /// Whether a power cut might take the folder itself away, by its name or
    /// one above it. Held while these are flushed: whoever finds the folder
    /// there has not made it, and promises nothing before that ends.
    may_vanish: Mutex<bool>,
    /// Names that are offered to a reader who may remove them.
    pub(super) leases: Mutex<HashSet<EntryName>>,
    /// Taken by a rename over a name, and by a removal from its look at the
    /// name to its end: a newer file is never removed for an older one.
    replacing: Mutex<()>,
    flush: SharedFlush,
    /// Counts each name that is given or removed, twice: before and behind it.
    changes: AtomicU64,
    /// Up to which change a flush has covered them.
    flushed: AtomicU64,
    /// What it may hold, together with others.
    pub(super) quota: Option<Arc<Quota>>,
}

impl<D: Disk> State<D> {
    pub(super) fn new(disk: D, (root, below): (&Path, &Path), own: bool, quota: Option<Arc<Quota>>) -> Self {
        let (path, below) = (root.join(below), below.components().count());
        Self {
            disk,
            path,
            below,
            own,
            // Who made it may have been killed before the flush.
            may_vanish: Mutex::new(below > 0),
            leases: Mutex::default(),
            replacing: Mutex::default(),
            flush: SharedFlush::default(),
            changes: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            quota,
        }
    }

    /// Makes the folder where it may be missing, which `error` says.
    pub(crate) fn make(&self, error: io::Error) -> io::Result<()> {
        if !self.is_awaited(&error) {
            return Err(error);
        }
        let mut may_vanish = self.may_vanish.lock().unwrap_or_else(PoisonError::into_inner);
        *may_vanish = true;
        self.make_path()
    }

    /// Whether `error` says that the folder is not there, and its first file
    /// will make it.
    pub(super) fn is_awaited(&self, error: &io::Error) -> bool {
        self.below > 0 && !self.own && error.kind() == io::ErrorKind::NotFound
    }

    /// The root is not made: where it is gone, a file system may be that was
    /// mounted there, and the one below it is no place for files.
    pub(super) fn make_path(&self) -> io::Result<()> {
        let root = self.path.ancestors().nth(self.below).unwrap_or(&self.path);
        self.disk.status(root)?;
        self.disk.make_folder(&self.path)
    }

    /// Makes the folder itself survive a power cut: a file in one that is
    /// gone after it is gone too.
    pub(super) fn keep_path(&self) -> io::Result<()> {
        let mut may_vanish = self.may_vanish.lock().unwrap_or_else(PoisonError::into_inner);
        if *may_vanish {
            let mut parents = self.path.ancestors().skip(1).take(self.below);
            parents.try_for_each(|parent| self.disk.flush_folder(parent))?;
            *may_vanish = false;
        }
        Ok(())
    }

    pub(crate) fn list(&self, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        match self.disk.list(&self.path, each) {
            Err(error) if self.is_awaited(&error) => Ok(()),
            listed => listed,
        }
    }

    /// Gives a finished file of `size` bytes its name, for which it has
    /// `claim` where there is a quota, and makes that survive a power cut.
    pub(crate) fn place(
        &self,
        aside: &Aside<D>,
        (name, size): (&EntryName, u64),
        overwrite: bool,
        claim: Option<Claim>,
    ) -> Result<(), CommitError> {
        let target = name.within(&self.path);
        self.keep_path()?;
        let rename = || {
            self.change(|| match overwrite {
                true => self.disk.rename(&aside.path, &target),
                false => self.disk.rename_new(&aside.path, &target),
            })
        };
        let named = match claim {
            None if !overwrite => rename(),
            claim => {
                let _guard = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
                match claim {
                    None => rename(),
                    Some(mut claim) => {
                        let replaced = if overwrite { self.size(&target)? } else { None };
                        claim.place(size, replaced, rename)
                    }
                }
            }
        };
        named.map_err(taken)?;
        aside.placed();
        self.flush().inspect_err(|_| {
            // Who is told that it failed will send it again. By now, the name
            // may stand for a file that another one sent and was promised.
            if !overwrite && let Ok(mine) = self.disk.status_of(&aside.file) {
                let _ = self.remove_where(name, |found| found.identity == mine.identity);
            }
        })?;
        Ok(())
    }

    /// Removes a name if it still stands for that file, and makes that survive
    /// a power cut; whether it did.
    pub(crate) fn remove_same(&self, name: &EntryName, identity: Identity) -> io::Result<bool> {
        let removed = self.remove_where(name, |found| found.identity == identity)?;
        if removed.is_some() {
            self.flush()?;
        }
        Ok(removed.is_some())
    }

    /// Removes a name if what it stands for now `is_it`, and says what it was.
    pub(crate) fn remove_where(
        &self,
        name: &EntryName,
        is_it: impl FnOnce(&Status) -> bool,
    ) -> io::Result<Option<Status>> {
        let path = name.within(&self.path);
        let _guard = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = match self.disk.status(&path) {
            Ok(found) if is_it(&found) => self.remove(&path, found.size).map(|()| Some(found)),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match removed {
            // A consumer on this machine was first, maybe just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            removed => removed,
        }
    }

    /// Removes a file of `size` bytes.
    fn remove(&self, path: &Path, size: u64) -> io::Result<()> {
        let remove = || self.change(|| self.disk.remove(path));
        match &self.quota {
            Some(quota) => quota.leaves(size, remove),
            None => remove(),
        }
    }

    /// Bytes of the file at `path`, if there is one.
    pub(super) fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        match self.disk.status(path) {
            Ok(found) => Ok(found.is_file.then_some(found.size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.flush.wait(|| {
            let covered = self.changes.load(SeqCst);
            self.disk.flush_folder(&self.path)?;
            self.flushed.fetch_max(covered, SeqCst);
            Ok(())
        })
    }

    /// Makes sure of what was just read of the names: whoever is shown that a
    /// file is there, or is not, may forget it or never ask again.
    pub(super) fn settle(&self) -> io::Result<()> {
        if self.flushed.load(SeqCst) == self.changes.load(SeqCst) {
            return Ok(());
        }
        match self.flush() {
            Err(error) if self.is_awaited(&error) => Ok(()),
            flushed => flushed,
        }
    }

    /// Gives or removes a name, which a flush that began before has not
    /// covered.
    pub(super) fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.changes.fetch_add(1, SeqCst);
        let changed = change();
        self.changes.fetch_add(1, SeqCst);
        changed
    }
}
