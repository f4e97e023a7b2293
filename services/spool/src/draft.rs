//! A file that is being written, aside.

use std::{
    fmt, io, mem,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    blocking::spawn_blocking,
    commit::CommitError,
    disk::{Disk, RealDisk},
    folder::{Folder, blocking},
    name::{ASIDE, EntryName},
    quota::Claim,
};

/// A file to be. Dropped before [`Draft::commit`], it vanishes.
///
/// A small file goes to the disk in `commit` alone, at one go. A large one is
/// written piece by piece, each while the caller gets the next, and goes to
/// the disk on the way, so that the flush at its end has little to do and does
/// not hold up the flushes of others.
#[derive(Debug)]
pub struct Draft<D: Disk = RealDisk> {
    folder: Folder<D>,
    aside: Option<Arc<Aside<D>>>,
    /// The write under way, which gives the buffer back.
    writing: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// Bytes written.
    written: u64,
    /// Bytes that were told to go to the disk.
    flushed: u64,
    /// Its room, where there is a quota.
    claim: Option<Claim>,
}

impl<D: Disk> Draft<D> {
    pub(crate) fn new(folder: Folder<D>) -> Self {
        Self { folder, aside: None, writing: None, written: 0, flushed: 0, claim: None }
    }

    /// Has this room in a spool with a quota, and takes more where it grows
    /// beyond that.
    pub fn with_claim(mut self, claim: Option<Claim>) -> Self {
        self.claim = claim;
        self
    }

    /// Writes a piece, and returns an empty buffer of its kind for the next
    /// one. The write goes on while the caller fills that.
    ///
    /// # Errors
    /// The disk's, of this piece or of the one before it, or the quota is
    /// reached ([`io::ErrorKind::QuotaExceeded`]). The draft is of no more use
    /// then.
    pub async fn write(&mut self, piece: Vec<u8>) -> io::Result<Vec<u8>> {
        if let Some(claim) = &mut self.claim {
            claim.grow(self.written + piece.len() as u64)?;
        }
        let spare = match self.writing.take() {
            Some(writing) => writing.await.map_err(io::Error::other)??,
            None => Vec::with_capacity(piece.capacity()),
        };
        let aside = self.aside().await?;
        self.written += piece.len() as u64;
        let (start, unflushed) = (self.flushed, self.written - self.flushed);
        let flush = unflushed >= FLUSH_EVERY;
        if flush {
            self.flushed = self.written;
        }
        self.writing = Some(spawn_blocking(move || {
            let (mut piece, disk) = (piece, &aside.folder.0.disk);
            disk.write(&aside.file, &piece)?;
            if flush {
                disk.begin_flush(&aside.file, start, unflushed);
            }
            piece.clear();
            Ok(piece)
        }));
        Ok(spare)
    }

    /// Writes the last piece and gives the file its name. When it returns,
    /// the file survives a power cut.
    ///
    /// # Errors
    /// [`CommitError`]; the draft is gone.
    pub async fn commit(
        mut self,
        last: Vec<u8>,
        name: &EntryName,
        overwrite: bool,
    ) -> Result<(), CommitError> {
        if let Some(writing) = self.writing.take() {
            writing.await.map_err(io::Error::other)??;
        }
        let size = self.written + last.len() as u64;
        let mut claim = self.claim.take();
        if let Some(claim) = &mut claim {
            claim.grow(size)?;
        }
        let (aside, folder, name) = (self.aside.take(), self.folder.clone(), name.clone());
        let work = move || {
            let aside = match aside {
                Some(aside) => aside,
                None => Arc::new(Aside::create(folder)?),
            };
            aside.write_through(&last)?;
            aside.folder.0.place(&aside, (&name, size), overwrite, claim)
        };
        spawn_blocking(work).await.map_err(io::Error::other)?
    }

    async fn aside(&mut self) -> io::Result<Arc<Aside<D>>> {
        if let Some(aside) = &self.aside {
            return Ok(Arc::clone(aside));
        }
        let folder = self.folder.clone();
        let aside = Arc::new(blocking(move || Aside::create(folder)).await?);
        self.aside = Some(Arc::clone(&aside));
        Ok(aside)
    }
}

impl<D: Disk> Drop for Draft<D> {
    fn drop(&mut self) {
        // The file is removed by whoever drops it last: not on a runtime
        // thread.
        if let (Some(aside), Ok(_)) = (self.aside.take(), Handle::try_current()) {
            spawn_blocking(move || drop(aside));
        }
    }
}

/// A file under a name that nobody can ask for; removed when it is dropped,
/// unless it was placed.
pub(crate) struct Aside<D: Disk> {
    folder: Folder<D>,
    pub(crate) path: PathBuf,
    pub(crate) file: D::File,
    placed: AtomicBool,
}

impl<D: Disk> Aside<D> {
    pub(crate) fn create(folder: Folder<D>) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut made = false;
        loop {
            let name = format!("{ASIDE}{}-{}", process::id(), COUNT.fetch_add(1, Relaxed));
            let path = folder.0.path.join(name);
            match folder.0.disk.create(&path) {
                // Of a process that had our id and crashed, in a folder that
                // nobody sweeps.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // The first file, or the folder was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made => {
                    made = true;
                    folder.0.make(error)?;
                }
                created => {
                    return Ok(Self { file: created?, folder, path, placed: AtomicBool::new(false) });
                }
            }
        }
    }

    /// Appends all of `bytes`, and makes that survive a power cut.
    pub(crate) fn write_through(&self, bytes: &[u8]) -> io::Result<()> {
        let disk = &self.folder.0.disk;
        disk.write(&self.file, bytes)?;
        disk.flush_data(&self.file)
    }

    /// Removes it now, where a drop would say nothing of an error.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        *self.placed.get_mut() = true;
        self.folder.0.disk.remove(&self.path)
    }

    pub(crate) fn placed(&self) {
        self.placed.store(true, Relaxed);
    }
}

impl<D: Disk> fmt::Debug for Aside<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aside({})", self.path.display())
    }
}

impl<D: Disk> Drop for Aside<D> {
    fn drop(&mut self) {
        if !mem::replace(self.placed.get_mut(), true) {
            let _ = self.folder.0.disk.remove(&self.path);
        }
    }
}

/// Bytes of a large file that go to the disk together: fewer cost calls, more
/// leave the disk idle.
const FLUSH_EVERY: u64 = 16 << 20;
