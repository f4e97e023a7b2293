//! A spool: a root folder that one process holds, or several that share it,
//! and folders below it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    disk::{Disk, RealDisk},
    folder::Folder,
    lock::{Lock, LockError},
    quota::{Limits, Quota},
};

/// A folder that this process alone holds, with all of its folders; or one
/// that it shares with others, in which each has folders of its own.
///
/// What a crash left aside is swept when a folder is opened.
#[derive(Debug)]
pub struct Spool<D: Disk = RealDisk> {
    disk: D,
    root: PathBuf,
    /// Each folder once, because a folder knows its leases. The key is the
    /// path below the root, empty for the root.
    folders: Mutex<HashMap<PathBuf, Folder<D>>>,
    /// What all folders hold together, where that is bounded.
    quota: Option<Arc<Quota>>,
    _lock: Lock,
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is nothing.
    #[error("directory {}: does not exist (create it, or name another)", .0.display())]
    Missing(PathBuf),
    /// There is something else.
    #[error("directory {}: is not a directory", .0.display())]
    NoFolder(PathBuf),
    /// Another process holds it.
    #[error("directory {}: in use by another process{} (one spool, one process: stop that one, or name another directory)", .0.display(), .1.map_or(String::new(), |id| format!(", id {id}")))]
    Held(PathBuf, Option<u32>),
    /// It cannot be written.
    #[error("directory {}: cannot be used: {} (the service must be able to create files in it)", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

impl Spool<RealDisk> {
    /// Opens a folder that is there. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(root: &Path) -> Result<Self, SpoolError> {
        Self::open_on(RealDisk, root)
    }

    /// The same, whose folders hold no more than `limits` together. What lies
    /// there is counted by the first [`Quota::recount`]. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open_within(root: &Path, limits: Limits) -> Result<Self, SpoolError> {
        Self::open_within_on(RealDisk, root, limits)
    }

    /// Opens a folder that is there, and that other processes open so too.
    /// Only [`Spool::own`] is of use then. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`]: a process that holds it alone is in the way, too.
    pub fn shared(root: &Path) -> Result<Self, SpoolError> {
        Self::shared_on(RealDisk, root)
    }
}

impl<D: Disk + Clone> Spool<D> {
    /// [`Spool::open`] on a disk of one's own. The lock is always the
    /// machine's.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open_on(disk: D, root: &Path) -> Result<Self, SpoolError> {
        Self::open_within_on(disk, root, Limits::default())
    }

    /// [`Spool::open_within`] on a disk of one's own.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open_within_on(disk: D, root: &Path, limits: Limits) -> Result<Self, SpoolError> {
        let mut spool = Self::locked(disk, root, Lock::take)?;
        spool.quota = limits.is_some().then(|| Quota::new(limits));
        spool.folder("")?;
        Ok(spool)
    }

    /// [`Spool::shared`] on a disk of one's own, with the lock of
    /// [`Spool::open_on`].
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn shared_on(disk: D, root: &Path) -> Result<Self, SpoolError> {
        Self::locked(disk, root, Lock::share)
    }

    fn locked(disk: D, root: &Path, lock: fn(&Path) -> Result<Lock, LockError>) -> Result<Self, SpoolError> {
        let failed = |error| SpoolError::Io(root.to_owned(), error);
        match std::fs::metadata(root) {
            Ok(found) if !found.is_dir() => return Err(SpoolError::NoFolder(root.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Missing(root.to_owned()));
            }
            Err(error) => return Err(failed(error)),
            Ok(_) => {}
        }
        let lock = lock(root).map_err(|error| match error {
            LockError::Held(holder) => SpoolError::Held(root.to_owned(), holder),
            LockError::Io(error) => failed(error),
        })?;
        Ok(Self { disk, root: root.to_owned(), folders: Mutex::default(), quota: None, _lock: lock })
    }

    /// What the folders may hold together, where that is bounded.
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// A folder at `below` under the root that nobody else uses, made now and
    /// swept. It is not made again: whoever takes it away, by another name,
    /// keeps this one from leaving anything behind. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn own(&self, below: impl AsRef<Path>) -> Result<Folder<D>, SpoolError> {
        let below = below.as_ref();
        let own = Folder::own(self.disk.clone(), &self.root, below);
        own.map_err(|error| SpoolError::Io(self.root.join(below), error))
    }

    /// Takes the folder `from` away from whoever uses it, with all that is in
    /// it, by giving it the name `to`. What is there under that name already
    /// stays, and so does what cannot stand beside it. Blocks.
    ///
    /// # Errors
    /// The disk's; [`io::ErrorKind::NotFound`] where somebody else was faster.
    pub fn take(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (self.root.join(from), self.root.join(to));
        match self.disk.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => self.merge(&from, &to),
            renamed => renamed,
        }
    }

    fn merge(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        self.disk.list(from, &mut |name| names.push(name.to_owned()))?;
        for name in names {
            let (from, to) = (from.join(&name), to.join(&name));
            match self.disk.rename_new(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !self.disk.status(&from)?.is_file {
                        self.merge(&from, &to)?;
                    }
                }
                renamed => renamed?,
            }
        }
        Ok(())
    }

    /// The folder at `below` under the root (empty: the root itself). It is
    /// made with its first file, and swept when it is opened for the first
    /// time. Blocks then.
    ///
    /// `below` comes from the operator: it is joined as it is.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn folder(&self, below: impl AsRef<Path>) -> Result<Folder<D>, SpoolError> {
        let below = below.as_ref();
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folders.get(below) {
            return Ok(folder.clone());
        }
        let folder = Folder::within(self.disk.clone(), &self.root, below, self.quota.clone());
        folder.sweep().map_err(|error| SpoolError::Io(folder.path().to_owned(), error))?;
        folders.insert(below.to_owned(), folder.clone());
        Ok(folder)
    }
}
