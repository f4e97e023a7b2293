//! One folder: storing, reading, leasing and listing its files.

mod state;

use std::{
    collections::HashSet,
    fmt, io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, MutexGuard, PoisonError},
    time::SystemTime,
};

pub(crate) use self::state::State;
use crate::{
    blocking::spawn_blocking,
    commit::CommitError,
    disk::{Disk, RealDisk, Space},
    draft::{Aside, Draft},
    name::{self, EntryName},
    quota::Quota,
    read::{Lease, Reader},
};

/// A folder of files. Cheap to clone; the clones are the same folder.
pub struct Folder<D: Disk = RealDisk>(pub(crate) Arc<State<D>>);

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Files, without those that are being written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest came.
    pub oldest: Option<SystemTime>,
    /// Bytes that are free where it is.
    pub available: u64,
}

impl Folder<RealDisk> {
    /// A folder that other processes use too, such as a consumer's: neither
    /// locked nor swept. It is at `below` under `root`, which is there; it is
    /// made with its first file.
    pub fn shared(root: &Path, below: impl AsRef<Path>) -> Self {
        Self::shared_on(RealDisk, root, below)
    }
}

impl<D: Disk> Folder<D> {
    /// [`Folder::shared`] on a disk of one's own.
    pub fn shared_on(disk: D, root: &Path, below: impl AsRef<Path>) -> Self {
        Self::on(disk, root, below.as_ref())
    }

    /// The folder at `below` under `root`, which is there.
    pub(crate) fn on(disk: D, root: &Path, below: &Path) -> Self {
        Self::within(disk, root, below, None)
    }

    /// The same, with a bound on what it holds together with others.
    pub(crate) fn within(disk: D, root: &Path, below: &Path, quota: Option<Arc<Quota>>) -> Self {
        Self::with(disk, root, below, false, quota)
    }

    /// The same, made now and swept. It is never made again: another process
    /// may have taken it away, and must not be worked against. Blocks.
    pub(crate) fn own(disk: D, root: &Path, below: &Path) -> io::Result<Self> {
        let folder = Self::with(disk, root, below, true, None);
        let is_taken = folder.0.disk.status(folder.path()).is_ok();
        folder.0.make_path()?;
        // A new one is empty.
        if is_taken {
            folder.sweep()?;
        }
        Ok(folder)
    }

    fn with(disk: D, root: &Path, below: &Path, own: bool, quota: Option<Arc<Quota>>) -> Self {
        Self(Arc::new(State::new(disk, (root, below), own, quota)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A file to be; nothing is on the disk yet.
    pub fn draft(&self) -> Draft<D> {
        Draft::new(self.clone())
    }

    /// Whether something stands under a name.
    ///
    /// # Errors
    /// The disk's.
    pub async fn contains(&self, name: &EntryName) -> io::Result<bool> {
        let (state, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || match state.disk.status(&name.within(&state.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|_| true),
        })
        .await
    }

    /// Bytes of the file of this name; `None` if there is none.
    ///
    /// # Errors
    /// The disk's.
    pub async fn size(&self, name: &EntryName) -> io::Result<Option<u64>> {
        let (state, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || state.size(&name.within(&state.path))).await
    }

    /// Opens a file to read it; `None` if there is none. It is read to its
    /// end as it was, whatever becomes of its name. What it says of the name
    /// survives a power cut.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(&self, name: &EntryName) -> io::Result<Option<Reader<D>>> {
        let (state, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || {
            let opened = Reader::open(&state, &name)?;
            state.settle()?;
            Ok(opened)
        })
        .await
    }

    /// Opens a file for a reader who will remove it; `None` if there is none,
    /// or if it is offered to another such reader.
    ///
    /// # Errors
    /// The disk's.
    pub async fn lease(&self, name: &EntryName) -> io::Result<Option<Lease<D>>> {
        if !self.leases().insert(name.clone()) {
            return Ok(None);
        }
        // From here on the name is given back by a drop.
        let held = Held { folder: self.clone(), name: name.clone() };
        let (state, name) = (Arc::clone(&self.0), name.clone());
        // A reader who has it needs nothing of what is here, sure or not.
        let opened = blocking(move || Reader::open(&state, &name)).await?;
        Ok(opened.map(|reader| Lease::new(held, reader)))
    }

    /// Every name of which `keep` says so, each with a newline behind it: of
    /// files and of folders, in any order, without the spool's own. A folder
    /// that is not there holds none. What it says survives a power cut.
    ///
    /// # Errors
    /// The disk's.
    pub async fn list(&self, mut keep: impl FnMut(&[u8]) -> bool + Send + 'static) -> io::Result<Vec<u8>> {
        let state = Arc::clone(&self.0);
        blocking(move || {
            let mut names = Vec::new();
            state.list(&mut |name| {
                let name = name.as_bytes();
                if !name::is_reserved(name) && keep(name) {
                    names.extend_from_slice(name);
                    names.push(b'\n');
                }
            })?;
            state.settle()?;
            Ok(names)
        })
        .await
    }

    /// Gives a file a name in another folder of the same file system. Neither
    /// folder is flushed: after a power cut the file stands in one of the two.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn hand_over(
        &self,
        name: &EntryName,
        to: &Self,
        new: &EntryName,
        overwrite: bool,
    ) -> Result<(), CommitError> {
        let (from, target) = (name.within(&self.0.path), new.within(&to.0.path));
        let to = Arc::clone(&to.0);
        let renamed = blocking(move || {
            let rename = || {
                to.keep_path()?;
                match overwrite {
                    true => to.disk.rename(&from, &target),
                    false => to.disk.rename_new(&from, &target),
                }
            };
            rename().or_else(|error| to.make(error).and_then(|()| rename()))
        });
        renamed.await.map_err(taken)
    }

    /// Removes a file, and makes that survive a power cut.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove(&self, name: &EntryName) -> io::Result<()> {
        let (state, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || {
            state.change(|| state.disk.remove(&name.within(&state.path)))?;
            state.flush()
        })
        .await
    }

    /// Makes the names as they are now survive a power cut.
    ///
    /// # Errors
    /// The disk's.
    pub async fn flush(&self) -> io::Result<()> {
        let state = Arc::clone(&self.0);
        blocking(move || {
            state.keep_path()?;
            state.flush()
        })
        .await
    }

    /// Writes a file aside, brings it to the disk and removes it: whether the
    /// folder takes files.
    ///
    /// # Errors
    /// The disk's.
    pub async fn probe(&self) -> io::Result<()> {
        let folder = self.clone();
        blocking(move || {
            let aside = Aside::create(folder)?;
            let probed = aside.write_through(PROBE);
            // Even where it could not be written.
            probed.and(aside.remove())
        })
        .await
    }

    /// How much room there is where the folder is.
    ///
    /// # Errors
    /// The disk's.
    pub async fn space(&self) -> io::Result<Space> {
        let state = Arc::clone(&self.0);
        blocking(move || state.disk.space(&state.path)).await
    }

    /// Counts the files, as far as they are there when it comes to them. Blocks, for as long as the folder is large.
    ///
    /// # Errors
    /// The disk's.
    pub fn census(&self) -> io::Result<Census> {
        let (state, mut census) = (&self.0, Census::default());
        state.list(&mut |name| {
            if name::is_reserved(name.as_bytes()) {
                return;
            }
            // One that is gone meanwhile is none.
            let Ok(found) = state.disk.status(&state.path.join(name)) else { return };
            if found.is_file {
                census.files += 1;
                census.bytes += found.size;
                census.oldest = [census.oldest, found.modified].into_iter().flatten().min();
            }
        })?;
        // A folder that is made with its first file has its room in the folder above.
        let there = state.path.ancestors().take(state.below + 1).find_map(|path| state.disk.space(path).ok());
        census.available = there.map_or(0, |space| space.available);
        Ok(census)
    }

    /// Removes what a crash left aside, and makes the names as they are now
    /// survive a power cut: a process that was killed may have given or
    /// removed some without, and whoever finds them so relies on it. Only for
    /// who alone uses the folder.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let State { disk, path, .. } = &*self.0;
        let mut left = Vec::new();
        self.0.list(&mut |name| {
            if name::is_aside(name.as_bytes()) {
                left.push(path.join(name));
            }
        })?;
        for path in &left {
            disk.remove(path)?;
        }
        if !left.is_empty() {
            tracing::info!(folder = %path.display(), files = left.len(), "swept what a crash left unfinished");
        }
        match self.0.flush() {
            Err(error) if self.0.is_awaited(&error) => Ok(()),
            flushed => flushed,
        }
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, HashSet<EntryName>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Disk> Clone for Folder<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Disk> fmt::Debug for Folder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folder({})", self.0.path.display())
    }
}

/// A name that is offered to one reader, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<D: Disk> {
    pub(crate) folder: Folder<D>,
    pub(crate) name: EntryName,
}

impl<D: Disk> Drop for Held<D> {
    fn drop(&mut self) {
        self.folder.leases().remove(&self.name);
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn taken(error: io::Error) -> CommitError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => CommitError::Exists,
        _ => CommitError::Io(error),
    }
}

/// What a probe writes: more than a file system keeps within an inode, so that
/// a full one is seen.
const PROBE: &[u8] = &[0; 4096];
