//! A consumer on the same machine, which removes files on its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{ffi::OsStr, fs, io, path::Path};

use spool::{Disk, EntryName, RealDisk, Space, Spool, Status};

#[tokio::test]
async fn a_file_that_a_consumer_removes_first_is_gone_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let folder = Spool::open_on(ConsumerIsFirst, home.path()).unwrap().folder("").unwrap();
    fs::write(home.path().join("a.data"), b"x").unwrap();
    let lease = folder.lease(&EntryName::new(b"a.data").unwrap()).await.unwrap().unwrap();
    assert!(!lease.remove().await.unwrap());
    assert!(!home.path().join("a.data").exists());
}

/// The machine's disk, where a consumer removes each file just before the
/// spool does.
#[derive(Clone, Debug)]
struct ConsumerIsFirst;

impl Disk for ConsumerIsFirst {
    type File = fs::File;

    fn create(&self, path: &Path) -> io::Result<fs::File> {
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        RealDisk.open(path)
    }

    fn write(&self, file: &fs::File, piece: &[u8]) -> io::Result<()> {
        RealDisk.write(file, piece)
    }

    fn read(&self, file: &fs::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        RealDisk.read(file, offset, buffer)
    }

    fn begin_flush(&self, file: &fs::File, offset: u64, size: u64) {
        RealDisk.begin_flush(file, offset, size);
    }

    fn flush_data(&self, file: &fs::File) -> io::Result<()> {
        RealDisk.flush_data(file)
    }

    fn flush_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.flush_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename_new(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        RealDisk.remove(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_folder(path)
    }

    fn list(&self, folder: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        RealDisk.list(folder, each)
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        RealDisk.status(path)
    }

    fn status_of(&self, file: &fs::File) -> io::Result<Status> {
        RealDisk.status_of(file)
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        RealDisk.space(folder)
    }
}
