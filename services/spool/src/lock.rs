//! One process a spool, or several that share it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use crate::name::RESERVED;

/// Held as long as the spool is in use. The system lets go of it when the
/// process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why a folder could not be locked.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process has it; its id, if it told.
    Held(Option<u32>),
    Io(io::Error),
}

impl Lock {
    /// For this process alone.
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let mut held = Self::locked(folder, File::try_lock)?;
        // The id is for the message of whoever comes second; a spool on a
        // full disk must still open.
        let file = &mut held._file;
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(held)
    }

    /// Together with others that share it.
    pub(crate) fn share(folder: &Path) -> Result<Self, LockError> {
        Self::locked(folder, File::try_lock_shared)
    }

    fn locked(folder: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path(folder));
        let mut file = opened.map_err(LockError::Io)?;
        match lock(&file) {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(holder(&mut file))),
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(format!("{RESERVED}lock"))
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
