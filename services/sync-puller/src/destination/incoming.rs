//! The incoming folder, and the staging folder in it.
//!
//! A file is staged: durable, whole, under a name that no consumer matches.
//! It is published, by a rename, when its source has shown that it has
//! forgotten it: a consumer removes what it has read, so a file that was
//! published and then came once more would be read twice.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use spool::{CommitError, Disk, Draft, EntryName, Folder, RESERVED, Reader, RealDisk, Spool};
use transport::Address;

use super::{DestinationError, Digest, beside};
use crate::lookup::Home;

/// The folder that a consumer empties.
#[derive(Debug)]
pub(crate) struct Incoming<D: Disk = RealDisk> {
    disk: D,
    path: PathBuf,
    staging: Spool<D>,
    overwrite: bool,
    /// A number by chance.
    process: u64,
    /// How often something was taken over.
    taken: AtomicU64,
}

/// Who stages files in the incoming folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stagers {
    /// This process alone.
    One,
    /// Other pullers too, each for its sources.
    Several,
}

/// One folder of one source, on its way into the incoming folder.
#[derive(Debug)]
pub(crate) struct Intake<D: Disk = RealDisk> {
    staged: Folder<D>,
    published: Folder<D>,
    overwrite: bool,
    /// Whether something may be staged: an idle source costs no look at the
    /// disk.
    in_use: Arc<AtomicBool>,
    /// Names that were published since the last flush. A power cut might undo
    /// that and keep what was staged under the name since then, in its place.
    unflushed: Arc<Mutex<Unflushed>>,
}

/// Each with its number among all that were published.
#[derive(Debug, Default)]
struct Unflushed {
    names: HashMap<EntryName, u64>,
    published: u64,
}

impl Incoming {
    /// Opens the folder, which is there, and the staging folder in it. Blocks.
    pub(crate) fn open(path: &Path, overwrite: bool, stagers: Stagers) -> anyhow::Result<Self> {
        let found = std::fs::metadata(path).with_context(|| {
            format!("incoming folder {}: cannot be used (create it, or name another)", path.display())
        })?;
        anyhow::ensure!(found.is_dir(), "incoming folder {}: is not a directory", path.display());
        let staging = path.join(format!("{RESERVED}sync"));
        let made = match std::fs::create_dir(&staging) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        // The staging folder must survive a power cut as its files do. Who
        // made it may have been killed before that was sure.
        let kept = made.and_then(|()| RealDisk.flush_folder(path));
        kept.with_context(|| {
            format!("incoming folder {}: the service must be able to create files in it", path.display())
        })?;
        let staging = match stagers {
            Stagers::One => Spool::open(&staging),
            Stagers::Several => Spool::shared(&staging),
        };
        Ok(Self::on(RealDisk, path, staging.context("incoming folder")?, overwrite))
    }

    /// Removes what is left of a buffer for which nothing is staged, nor will
    /// be; whether it did. Blocks.
    pub(crate) fn forget_if_empty(&self, source: &Address, home: Home) -> bool {
        let source = encoded(&source.to_string());
        let mut is_gone = true;
        let Ok(found) = self.staged_for(&source) else { return false };
        for (found, _) in found.filter(|(_, of)| *of == home) {
            let found = self.staging_path().join(&source).join(found);
            for folder in entries(&found) {
                // Fails where a file is in it.
                let _ = std::fs::remove_dir(folder);
            }
            is_gone &= std::fs::remove_dir(found).is_ok();
        }
        is_gone
    }

    /// Whether the folder takes files.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) async fn probe(&self) -> std::io::Result<()> {
        Folder::shared(&self.path, "").probe().await
    }

    /// Warns of staged files of sources and folders that are not among these:
    /// they wait until theirs is back. Blocks.
    pub(crate) fn warn_of_orphans(&self, named: &[(Address, String)]) {
        let known: Vec<_> = named
            .iter()
            .map(|(source, folder)| (encoded(&source.to_string()), folder_name(folder)))
            .collect();
        for source in entries(&self.staging_path()) {
            for folder in entries(&source).iter().flat_map(|buffer| entries(buffer)) {
                let waiting = entries(&folder).iter().filter(|path| path.is_file()).count();
                if waiting > 0 && !known.contains(&(last_part(&source), last_part(&folder))) {
                    tracing::warn!(
                        files = waiting,
                        folder = %folder.display(),
                        "files were fetched from a source, or a folder of it, that is named no more; name it again, and they are settled"
                    );
                }
            }
        }
    }
}

impl<D: Disk + Clone> Incoming<D> {
    fn on(disk: D, path: &Path, staging: Spool<D>, overwrite: bool) -> Self {
        let (process, taken) = (fastrand::u64(..), AtomicU64::new(0));
        Self { disk, path: path.to_owned(), staging, overwrite, process, taken }
    }

    /// The ways of the files of `folders` (empty: the root) of one of a
    /// source's buffers. What is staged for it comes along, whoever staged it;
    /// who did, and still runs, can neither stage nor publish any more. Blocks.
    pub(crate) fn take_over(
        &self,
        source: &Address,
        home: Home,
        folders: &[String],
    ) -> anyhow::Result<Vec<Intake<D>>> {
        let source = encoded(&source.to_string());
        let taken = format!("{source}/{}{HELD_BY}{}", buffer(home), self.token());
        for (found, of) in self.staged_for(&source)? {
            if of == home {
                match self.staging.take(format!("{source}/{found}"), &taken) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    moved => moved.with_context(|| format!("incoming folder: {source}/{found}"))?,
                }
            }
        }
        let intake = |folder: &String| {
            let staged =
                self.staging.own(format!("{taken}/{}", folder_name(folder))).context("incoming folder")?;
            let published = Folder::shared_on(self.disk.clone(), &self.path, folder);
            let (in_use, unflushed) = (Arc::new(true.into()), Arc::default());
            anyhow::Ok(Intake { staged, published, overwrite: self.overwrite, in_use, unflushed })
        };
        folders.iter().map(intake).collect()
    }

    /// The buffers of a source for which something is or was staged. Blocks.
    pub(crate) fn homes(&self, source: &Address) -> anyhow::Result<BTreeSet<Home>> {
        Ok(self.staged_for(&encoded(&source.to_string()))?.map(|(_, home)| home).collect())
    }

    /// What there is below a source's folder, and of which of its buffers.
    /// What is overlooked would be fetched once more, and published twice.
    fn staged_for(&self, source: &str) -> anyhow::Result<impl Iterator<Item = (String, Home)> + use<D>> {
        let mut found = Vec::new();
        let path = self.staging_path().join(source);
        let listed = self.disk.list(&path, &mut |name| {
            let name = name.to_str();
            found.extend(name.and_then(|name| Some((name.to_owned(), home_of(name)?))));
        });
        match listed {
            // Nothing was staged yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            listed => listed.with_context(|| format!("incoming folder: {}", path.display()))?,
        }
        Ok(found.into_iter())
    }

    /// Differs each time, and from those of other processes.
    fn token(&self) -> String {
        format!("{:016x}-{}", self.process, self.taken.fetch_add(1, Relaxed))
    }

    fn staging_path(&self) -> PathBuf {
        self.path.join(format!("{RESERVED}sync"))
    }
}

impl<D: Disk> Intake<D> {
    /// A file to be staged.
    pub(crate) fn draft(&self) -> Draft<D> {
        self.staged.draft()
    }

    /// What is staged and not published. Nothing may be under way into it.
    pub(crate) async fn staged(&self) -> Result<Vec<EntryName>, DestinationError> {
        if !self.in_use.load(Relaxed) {
            return Ok(Vec::new());
        }
        let names = self.staged.list(|_| true).await?;
        if names.is_empty() {
            self.in_use.store(false, Relaxed);
        }
        let names = names.split(|&byte| byte == b'\n');
        Ok(names.filter_map(|name| EntryName::new(name).ok()).collect())
    }

    /// Stages a draft under its name: durable when it returns. Where the name
    /// is staged already, the same content stays one file; of two contents,
    /// the source has forgotten the staged one, which is published.
    pub(crate) async fn stage(
        &self,
        draft: Draft<D>,
        last: Vec<u8>,
        digest: &Digest,
        name: &EntryName,
    ) -> Result<(), DestinationError> {
        self.in_use.store(true, Relaxed);
        // Seldom there, and what `open` finds waits for the flushes of others.
        if self.staged.contains(name).await?
            && let Some(staged) = self.staged.open(name).await?
        {
            if digest_of_file(staged).await? == *digest {
                return Ok(());
            }
            self.publish(name).await?;
        }
        self.free(name).await?;
        match draft.commit(last, name, false).await {
            Ok(()) => Ok(()),
            Err(CommitError::Io(error)) => Err(error.into()),
            // Nobody else writes here.
            Err(error @ CommitError::Exists) => Err(std::io::Error::other(error).into()),
        }
    }

    /// Takes over what another buffer's files were staged as, of a name and
    /// content that this buffer has too; whether it did. Survives a power cut.
    pub(crate) async fn adopt(&self, other: &Self, name: &EntryName) -> Result<bool, DestinationError> {
        self.in_use.store(true, Relaxed);
        self.free(name).await?;
        match other.staged.hand_over(name, &self.staged, name, false).await {
            Ok(()) => {}
            // Another buffer that has it too was faster.
            Err(CommitError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(CommitError::Io(error)) => return Err(error.into()),
            Err(CommitError::Exists) if other.digest(name).await? == self.digest(name).await? => {
                other.staged.remove(name).await?;
            }
            // The one that is staged here is settled first.
            Err(CommitError::Exists) => return Ok(false),
        }
        self.staged.flush().await?;
        other.staged.flush().await?;
        Ok(true)
    }

    /// What is staged under a name.
    pub(crate) async fn digest(&self, name: &EntryName) -> Result<Option<Digest>, DestinationError> {
        match self.staged.open(name).await? {
            Some(staged) => Ok(Some(digest_of_file(staged).await?)),
            None => Ok(None),
        }
    }

    /// Gives a staged file to the consumer. Where its name is taken by the
    /// same content, that stands for both; by another, it gets a name beside.
    pub(crate) async fn publish(&self, name: &EntryName) -> Result<(), DestinationError> {
        let mut target = name.clone();
        for number in 2.. {
            match self.staged.hand_over(name, &self.published, &target, self.overwrite).await {
                Ok(()) => {
                    let mut unflushed = self.unflushed();
                    unflushed.published += 1;
                    let number = unflushed.published;
                    unflushed.names.insert(name.clone(), number);
                    break;
                }
                // A folder is not overwritten.
                Err(CommitError::Io(error)) if error.kind() == std::io::ErrorKind::IsADirectory => {}
                Err(CommitError::Io(error)) => return Err(self.unpublished(&error).into()),
                Err(CommitError::Exists) => {}
            }
            if self.is_same(name, &target).await? {
                self.staged.remove(name).await?;
                break;
            }
            let next = EntryName::new(&beside(name.as_bytes(), number));
            target = next.map_err(std::io::Error::other)?;
        }
        if target != *name {
            tracing::warn!(?name, kept_as = ?target, "the name is taken by another content: both are kept");
        }
        Ok(())
    }

    /// Makes sure that what was staged under a name, and published, is not
    /// lost by what is staged under it next.
    async fn free(&self, name: &EntryName) -> Result<(), DestinationError> {
        let is_free = {
            let unflushed = self.unflushed();
            !unflushed.names.contains_key(name) && unflushed.names.len() < UNFLUSHED
        };
        if is_free { Ok(()) } else { self.flush().await }
    }

    fn unflushed(&self) -> MutexGuard<'_, Unflushed> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what was published survive a power cut under its new name. Until
    /// then it would be found staged.
    pub(crate) async fn flush(&self) -> Result<(), DestinationError> {
        let covered = self.unflushed().published;
        self.flush_both().await?;
        // Not before: nobody may wait for the flush to its end.
        self.unflushed().names.retain(|_, number| *number > covered);
        Ok(())
    }

    async fn flush_both(&self) -> Result<(), DestinationError> {
        for folder in [&self.published, &self.staged] {
            match folder.flush().await {
                // Made with its first file, which has not come yet.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                flushed => flushed?,
            }
        }
        Ok(())
    }

    /// Says which folder it is, and what it has to be.
    fn unpublished(&self, error: &std::io::Error) -> std::io::Error {
        let hint = match error.kind() {
            std::io::ErrorKind::CrossesDevices => {
                " (a folder in the incoming folder must be on the same file system)"
            }
            _ => "",
        };
        std::io::Error::new(error.kind(), format!("{}: {error}{hint}", self.published.path().display()))
    }

    async fn is_same(&self, staged: &EntryName, published: &EntryName) -> Result<bool, DestinationError> {
        let (Some(one), Some(other)) =
            (self.staged.open(staged).await?, self.published.open(published).await?)
        else {
            // The consumer was faster.
            return Ok(false);
        };
        if one.size() != other.size() {
            return Ok(false);
        }
        Ok(digest_of_file(one).await? == digest_of_file(other).await?)
    }
}

impl<D: Disk> Clone for Intake<D> {
    fn clone(&self) -> Self {
        Self {
            staged: self.staged.clone(),
            published: self.published.clone(),
            overwrite: self.overwrite,
            in_use: Arc::clone(&self.in_use),
            unflushed: Arc::clone(&self.unflushed),
        }
    }
}

async fn digest_of_file<D: Disk>(mut reader: Reader<D>) -> std::io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut piece = reader.next(Vec::new()).await?;
    while !piece.is_empty() {
        hash.update(&piece);
        piece = reader.next(piece).await?;
    }
    Ok(hash.finalize().into())
}

/// What a folder (empty: the root) is called where its files are staged.
fn folder_name(folder: &str) -> String {
    match folder {
        "" => "files".to_owned(),
        _ => format!("folder-{}", encoded(folder)),
    }
}

/// What a buffer is called below its source's folder.
fn buffer(home: Home) -> String {
    match home {
        Home::Only => ONLY.to_owned(),
        Home::At(address) => encoded(&address.to_string()),
    }
}

/// The buffer that is called so, whoever holds it.
fn home_of(name: &str) -> Option<Home> {
    match name.split_once(HELD_BY).map_or(name, |(buffer, _)| buffer) {
        ONLY => Some(Home::Only),
        address => address.replace("%3A", ":").parse().ok().map(Home::At),
    }
}

fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names that are remembered between two flushes, at most.
const UNFLUSHED: usize = 4096;

/// The buffer of a name that stands for no other.
const ONLY: &str = "buffer";

/// Before what tells whose the folder is; [`encoded`] makes none.
const HELD_BY: char = '~';

/// A name of one component for any text, different for different texts.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let encode = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
