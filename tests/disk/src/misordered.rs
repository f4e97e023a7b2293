//! A disk on which things are done in a wrong order.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use spool::{Disk, Space, Status};

use crate::model::{CrashingDisk, Handle};

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Data is never flushed.
    NoDataFlush,
    /// Data is flushed when the file has its name.
    DataAfterRename,
    /// Folders are never flushed.
    NoFolderFlush,
    /// A folder is flushed before a file gets its name in it, and not after.
    FolderBeforeRename,
    /// A folder is flushed for the files in it alone, not for a new folder.
    NoParentFlush,
}

/// A [`CrashingDisk`] that does it, or nothing wrong.
#[derive(Clone, Debug)]
pub struct Misordered {
    disk: CrashingDisk,
    wrong: Option<Wrong>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Files whose flush is put off.
    unflushed: Vec<Arc<Handle>>,
    /// Folders in which a file came or went since their flush.
    touched: HashSet<PathBuf>,
}

impl Wrong {
    /// Everything that can be done wrong.
    pub const ALL: [Self; 5] = [
        Self::NoDataFlush,
        Self::DataAfterRename,
        Self::NoFolderFlush,
        Self::FolderBeforeRename,
        Self::NoParentFlush,
    ];
}

impl Misordered {
    /// Over a disk.
    pub fn new(disk: CrashingDisk, wrong: Option<Wrong>) -> Self {
        Self { disk, wrong, state: Arc::default() }
    }

    fn renamed(
        &self,
        from: &Path,
        to: &Path,
        rename: impl Fn(&CrashingDisk) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.wrong == Some(Wrong::FolderBeforeRename) {
            self.disk.flush_folder(folder(to))?;
        }
        rename(&self.disk)?;
        self.touch(from);
        self.touch(to);
        let put_off = std::mem::take(&mut self.state().unflushed);
        put_off.iter().try_for_each(|file| self.disk.flush_data(file))
    }

    fn touch(&self, path: &Path) {
        self.state().touched.insert(folder(path).to_owned());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Misordered {
    type File = Arc<Handle>;

    fn create(&self, path: &Path) -> io::Result<Arc<Handle>> {
        self.disk.create(path).map(Arc::new)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<Handle>> {
        self.disk.open(path).map(Arc::new)
    }

    fn write(&self, file: &Arc<Handle>, piece: &[u8]) -> io::Result<()> {
        self.disk.write(file, piece)
    }

    fn read(&self, file: &Arc<Handle>, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read(file, offset, buffer)
    }

    fn begin_flush(&self, _: &Arc<Handle>, _: u64, _: u64) {}

    fn flush_data(&self, file: &Arc<Handle>) -> io::Result<()> {
        match self.wrong {
            Some(Wrong::NoDataFlush) => Ok(()),
            Some(Wrong::DataAfterRename) => {
                self.state().unflushed.push(Arc::clone(file));
                Ok(())
            }
            _ => self.disk.flush_data(file),
        }
    }

    fn flush_folder(&self, folder: &Path) -> io::Result<()> {
        match self.wrong {
            Some(Wrong::NoFolderFlush | Wrong::FolderBeforeRename) => Ok(()),
            Some(Wrong::NoParentFlush) if !self.state().touched.remove(folder) => Ok(()),
            _ => self.disk.flush_folder(folder),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.renamed(from, to, |disk| disk.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.renamed(from, to, |disk| disk.rename_new(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.touch(path);
        self.disk.remove(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.make_folder(path)
    }

    fn list(&self, folder: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        self.disk.list(folder, each)
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        self.disk.status(path)
    }

    fn status_of(&self, file: &Arc<Handle>) -> io::Result<Status> {
        self.disk.status_of(file)
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        self.disk.space(folder)
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
