//! A spool: a root folder that one process holds, and folders below it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    disk::{Disk, RealDisk},
    folder::Folder,
    lock::{Lock, LockError},
};

/// A folder that this process alone holds, with all of its folders.
///
/// What a crash left aside is swept when a folder is opened.
#[derive(Debug)]
pub struct Spool<D: Disk = RealDisk> {
    disk: D,
    root: PathBuf,
    /// Each folder once, because a folder knows its leases. The key is the
    /// path below the root, empty for the root.
    folders: Mutex<HashMap<PathBuf, Folder<D>>>,
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
}

impl<D: Disk + Clone> Spool<D> {
    /// [`Spool::open`] on a disk of one's own. The lock is always the
    /// machine's.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open_on(disk: D, root: &Path) -> Result<Self, SpoolError> {
        let failed = |error| SpoolError::Io(root.to_owned(), error);
        match std::fs::metadata(root) {
            Ok(found) if !found.is_dir() => return Err(SpoolError::NoFolder(root.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Missing(root.to_owned()));
            }
            Err(error) => return Err(failed(error)),
            Ok(_) => {}
        }
        let lock = Lock::take(root).map_err(|error| match error {
            LockError::Held(holder) => SpoolError::Held(root.to_owned(), holder),
            LockError::Io(error) => failed(error),
        })?;
        let spool = Self { disk, root: root.to_owned(), folders: Mutex::default(), _lock: lock };
        spool.folder("")?;
        Ok(spool)
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
        let folder = Folder::on(self.disk.clone(), &self.root, below);
        folder.sweep().map_err(|error| SpoolError::Io(folder.path().to_owned(), error))?;
        folders.insert(below.to_owned(), folder.clone());
        Ok(folder)
    }
}
