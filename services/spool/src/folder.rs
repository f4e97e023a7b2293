//! One folder: storing, reading, leasing and listing its files.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fmt, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use crate::{
    blocking::spawn_blocking,
    commit::{CommitError, SharedFlush},
    disk::{Disk, Identity, RealDisk, Space},
    draft::{Aside, Draft},
    name::{self, EntryName},
    read::{Lease, Reader},
};

/// A folder of files. Cheap to clone; the clones are the same folder.
pub struct Folder<D: Disk = RealDisk>(pub(crate) Arc<State<D>>);

pub(crate) struct State<D> {
    pub(crate) disk: D,
    pub(crate) path: PathBuf,
    /// How many of the path's last components may have to be made.
    below: usize,
    /// Whether it was made when it was opened: who finds it gone has lost it.
    own: bool,
    /// Whether its name may not survive a power cut yet.
    is_new: AtomicBool,
    /// Names that are offered to a reader who may remove them.
    leases: Mutex<HashSet<EntryName>>,
    /// Taken by a rename over a name, and by a removal from its look at the
    /// name to its end: a newer file is never removed for an older one.
    replacing: Mutex<()>,
    flush: SharedFlush,
}

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
        Self::on(RealDisk, root, below.as_ref())
    }
}

impl<D: Disk> Folder<D> {
    /// The folder at `below` under `root`, which is there.
    pub(crate) fn on(disk: D, root: &Path, below: &Path) -> Self {
        Self::with(disk, root, below, false)
    }

    /// The same, made now and swept. It is never made again: another process
    /// may have taken it away, and must not be worked against. Blocks.
    pub(crate) fn own(disk: D, root: &Path, below: &Path) -> io::Result<Self> {
        let folder = Self::with(disk, root, below, true);
        folder.0.make_path()?;
        folder.sweep()?;
        Ok(folder)
    }

    fn with(disk: D, root: &Path, below: &Path, own: bool) -> Self {
        Self(Arc::new(State {
            disk,
            path: root.join(below),
            below: below.components().count(),
            own,
            is_new: AtomicBool::new(own),
            leases: Mutex::default(),
            replacing: Mutex::default(),
            flush: SharedFlush::default(),
        }))
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

    /// Opens a file to read it; `None` if there is none. It is read to its
    /// end as it was, whatever becomes of its name.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(&self, name: &EntryName) -> io::Result<Option<Reader<D>>> {
        let (state, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || Reader::open(&state, &name)).await
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
        Ok(self.open(name).await?.map(|reader| Lease::new(held, reader)))
    }

    /// Every name of which `keep` says so, each with a newline behind it: of
    /// files and of folders, in any order, without the spool's own. A folder
    /// that is not there holds none.
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
            let rename = || match overwrite {
                true => to.disk.rename(&from, &target),
                false => to.disk.rename_new(&from, &target),
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
            state.disk.remove(&name.within(&state.path))?;
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
        blocking(move || state.flush()).await
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

    /// Removes what a crash left aside. Only for who alone uses the folder.
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
        Ok(())
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashSet<EntryName>> {
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

impl<D: Disk> State<D> {
    /// Makes the folder where it may be missing, which `error` says, and makes
    /// that survive a power cut.
    pub(crate) fn make(&self, error: io::Error) -> io::Result<()> {
        if self.below == 0 || self.own || error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        self.make_path()?;
        self.flush_parents()
    }

    /// The root is not made: where it is gone, a file system may be that was
    /// mounted there, and the one below it is no place for files.
    fn make_path(&self) -> io::Result<()> {
        let root = self.path.ancestors().nth(self.below).unwrap_or(&self.path);
        self.disk.status(root)?;
        self.disk.make_folder(&self.path)
    }

    fn flush_parents(&self) -> io::Result<()> {
        let mut parents = self.path.ancestors().skip(1).take(self.below);
        parents.try_for_each(|parent| self.disk.flush_folder(parent))
    }

    fn list(&self, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        match self.disk.list(&self.path, each) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.below > 0 && !self.own => Ok(()),
            listed => listed,
        }
    }

    /// Gives a finished file its name and makes that survive a power cut.
    pub(crate) fn place(
        &self,
        aside: &Aside<D>,
        name: &EntryName,
        overwrite: bool,
    ) -> Result<(), CommitError> {
        let target = name.within(&self.path);
        // A file in a folder that is gone after a power cut is gone with it.
        if self.is_new.load(Relaxed) {
            self.flush_parents()?;
            self.is_new.store(false, Relaxed);
        }
        if overwrite {
            let _guard = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
            self.disk.rename(&aside.path, &target)?;
        } else {
            self.disk.rename_new(&aside.path, &target).map_err(taken)?;
        }
        aside.placed();
        self.flush().inspect_err(|_| {
            // Who is told that it failed will send it again.
            if !overwrite {
                let _ = self.disk.remove(&target);
            }
        })?;
        Ok(())
    }

    /// Removes a name if it still stands for that file; whether it did.
    pub(crate) fn remove_same(&self, name: &EntryName, identity: Identity) -> io::Result<bool> {
        let path = name.within(&self.path);
        {
            let _guard = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
            let removed = match self.disk.status(&path) {
                Ok(found) if found.identity == identity => self.disk.remove(&path),
                Ok(_) => return Ok(false),
                Err(error) => Err(error),
            };
            match removed {
                // A consumer on this machine was first, maybe just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                removed => removed?,
            }
        }
        self.flush()?;
        Ok(true)
    }

    fn flush(&self) -> io::Result<()> {
        self.flush.wait(|| self.disk.flush_folder(&self.path))
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
