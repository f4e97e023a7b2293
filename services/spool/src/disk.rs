//! The seam: all that this crate asks of a file system.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    num::NonZeroU64,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::SystemTime,
};

use rustix::fs::{Advice, CWD, OFlags, RenameFlags};

/// A file system, as far as the spool needs one.
///
/// The real one is [`RealDisk`]; tests may stand in one that crashes or
/// fails. Every call may block.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: fmt::Debug + Send + Sync + 'static;

    /// Makes a file that is not there yet, for writing.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` where there is one.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a regular file for reading. Whatever is none (a folder, a link,
    /// a pipe) is not found.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Appends all of `piece`.
    ///
    /// # Errors
    /// The system's; a part may have been written.
    fn write(&self, file: &Self::File, piece: &[u8]) -> io::Result<()>;

    /// Reads at `offset` into the front of `buffer`; how many bytes, 0 at the
    /// end.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Begins to bring a part of what was written to the disk, so that a
    /// flush later has less to do. Promises nothing, and does not wait.
    fn begin_flush(&self, file: &Self::File, offset: u64, size: u64);

    /// Makes what was written survive a power cut.
    ///
    /// # Errors
    /// The system's; after one, what was written counts as lost.
    fn flush_data(&self, file: &Self::File) -> io::Result<()>;

    /// Makes the names in a folder survive a power cut.
    ///
    /// # Errors
    /// The system's.
    fn flush_folder(&self, folder: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of what has it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name that is free.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` where the name is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder and those above it, where they are not there yet.
    ///
    /// # Errors
    /// The system's.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Calls `each` with every name in a folder, without `.` and `..`.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, folder: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()>;

    /// What stands under a path.
    ///
    /// # Errors
    /// The system's; `NotFound` where nothing does.
    fn status(&self, path: &Path) -> io::Result<Status>;

    /// What an open file is.
    ///
    /// # Errors
    /// The system's.
    fn status_of(&self, file: &Self::File) -> io::Result<Status>;

    /// How much room there is where a folder is.
    ///
    /// # Errors
    /// The system's.
    fn space(&self, folder: &Path) -> io::Result<Space>;
}

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Used or not.
    pub total: u64,
    /// What this process may still use.
    pub available: u64,
}

/// What the spool wants to know of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Bytes.
    pub size: u64,
    /// Which file it is, whatever its name.
    pub identity: Identity,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// When its content came, as far as the file system knows.
    pub modified: Option<SystemTime>,
}

/// Device and inode: tells whether a name still stands for the file that was
/// opened by it. Good while that file is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64, u64);

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Identity {
    /// Of a disk that tests make up.
    pub fn new(device: u64, inode: u64) -> Self {
        Self(device, inode)
    }
}

impl Disk for RealDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        // A pipe must not block the opener, and a link must not lead out of
        // the folder.
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let file =
            opened.map_err(|error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => io::ErrorKind::NotFound.into(),
                _ => error,
            })?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn write(&self, mut file: &File, piece: &[u8]) -> io::Result<()> {
        file.write_all(piece)
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    fn begin_flush(&self, file: &File, offset: u64, size: u64) {
        // Advice on pages that are dirty starts their write-back on Linux, and
        // leaves them in the page cache (posix_fadvise(2)). An error would
        // come again from the flush.
        if let Some(size) = NonZeroU64::new(size) {
            let _ = rustix::fs::fadvise(file, offset, Some(size), Advice::DontNeed);
        }
    }

    fn flush_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn flush_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some network file systems do not have the flag. A link that
            // must be new says the same in two steps, and a crash between
            // them leaves the file whole under both names.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            other => Ok(other?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, folder: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            each(&entry?.file_name());
        }
        Ok(())
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        fs::symlink_metadata(path).map(|found| status(&found))
    }

    fn status_of(&self, file: &File) -> io::Result<Status> {
        file.metadata().map(|found| status(&found))
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { total: bytes(found.f_blocks), available: bytes(found.f_bavail) })
    }
}

fn status(found: &fs::Metadata) -> Status {
    Status {
        size: found.len(),
        identity: Identity(found.dev(), found.ino()),
        is_file: found.is_file(),
        modified: found.modified().ok(),
    }
}
