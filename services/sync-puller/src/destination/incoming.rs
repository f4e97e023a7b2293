//! The incoming folder, and the staging folder in it.
//!
//! A file is staged: durable, whole, under a name that no consumer matches.
//! It is published, by a rename, when its source has shown that it has
//! forgotten it: a consumer removes what it has read, so a file that was
//! published and then came once more would be read twice.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use spool::{CommitError, Draft, EntryName, Folder, RESERVED, Reader, Spool};
use transport::Address;

use super::{DestinationError, Digest, beside};
use crate::lookup::Home;

/// The folder that a consumer empties.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
    staging: Spool,
    overwrite: bool,
}

/// One folder of one source, on its way into the incoming folder.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    staged: Folder,
    published: Folder,
    overwrite: bool,
}

impl Incoming {
    /// Opens the folder, which is there, and the staging folder in it, which
    /// is ours alone. Blocks.
    pub(crate) fn open(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        let found = std::fs::metadata(path).with_context(|| {
            format!("incoming folder {}: cannot be used (create it, or name another)", path.display())
        })?;
        anyhow::ensure!(found.is_dir(), "incoming folder {}: is not a directory", path.display());
        let staging = path.join(format!("{RESERVED}sync"));
        // The staging folder must survive a power cut as its files do.
        let made = match std::fs::create_dir(&staging) {
            Ok(()) => std::fs::File::open(path).and_then(|incoming| incoming.sync_all()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        made.with_context(|| {
            format!("incoming folder {}: the service must be able to create files in it", path.display())
        })?;
        let staging = Spool::open(&staging).context("incoming folder")?;
        Ok(Self { path: path.to_owned(), staging, overwrite })
    }

    /// The way of the files of one folder (empty: the root) of one of a
    /// source's buffers. Blocks.
    pub(crate) fn intake(&self, source: &Address, home: Home, folder: &str) -> anyhow::Result<Intake> {
        let staged = self.staging.folder(below_staging(source, home, folder)).context("incoming folder")?;
        Ok(Intake { staged, published: Folder::shared(&self.path, folder), overwrite: self.overwrite })
    }

    /// The buffers of a source for which something is or was staged. Blocks.
    pub(crate) fn homes(&self, source: &Address) -> Vec<Home> {
        let source = encoded(&source.to_string());
        let home = |path: &PathBuf| {
            let rest = path.file_name()?.to_str()?.strip_prefix(&source)?;
            match rest.strip_prefix(OF_SEVERAL) {
                Some(address) => address.replace("%3A", ":").parse().ok().map(Home::At),
                None => rest.is_empty().then_some(Home::Only),
            }
        };
        entries(&self.staging_path()).iter().filter_map(home).collect()
    }

    /// Removes what is left of a buffer for which nothing is staged, nor will
    /// be; whether it did. Blocks.
    pub(crate) fn forget_if_empty(&self, source: &Address, home: Home) -> bool {
        let below = self.staging_path().join(staged_as(source, home));
        for folder in entries(&below) {
            // Fails where a file is in it.
            let _ = std::fs::remove_dir(folder);
        }
        std::fs::remove_dir(below).is_ok()
    }

    fn staging_path(&self) -> PathBuf {
        self.path.join(format!("{RESERVED}sync"))
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
        let known: Vec<_> =
            named.iter().map(|(source, folder)| below_staging(source, Home::Only, folder)).collect();
        for folder in entries(&self.staging_path()).iter().flat_map(|source| entries(source)) {
            let waiting = entries(&folder).iter().filter(|path| path.is_file()).count();
            if waiting > 0 && !known.contains(&without_address(&folder)) {
                tracing::warn!(
                    files = waiting,
                    folder = %folder.display(),
                    "files were fetched from a source, or a folder of it, that is named no more; name it again, and they are settled"
                );
            }
        }
    }
}

impl Intake {
    /// A file to be staged.
    pub(crate) fn draft(&self) -> Draft {
        self.staged.draft()
    }

    /// What is staged and not published.
    pub(crate) async fn staged(&self) -> Result<Vec<EntryName>, DestinationError> {
        let names = self.staged.list(|_| true).await?;
        let names = names.split(|&byte| byte == b'\n');
        Ok(names.filter_map(|name| EntryName::new(name).ok()).collect())
    }

    /// Stages a draft under its name: durable when it returns. Where the name
    /// is staged already, the same content stays one file; of two contents,
    /// the source has forgotten the staged one, which is published.
    pub(crate) async fn stage(
        &self,
        draft: Draft,
        last: Vec<u8>,
        digest: &Digest,
        name: &EntryName,
    ) -> Result<(), DestinationError> {
        if let Some(staged) = self.staged.open(name).await? {
            if digest_of_file(staged).await? == *digest {
                return Ok(());
            }
            self.publish(name).await?;
        }
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
                Ok(()) => break,
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

    /// Makes what was published survive a power cut under its new name. Until
    /// then it would be found staged.
    pub(crate) async fn flush(&self) -> Result<(), DestinationError> {
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

async fn digest_of_file(mut reader: Reader) -> std::io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut piece = reader.next(Vec::new()).await?;
    while !piece.is_empty() {
        hash.update(&piece);
        piece = reader.next(piece).await?;
    }
    Ok(hash.finalize().into())
}

/// Where files of a folder (empty: the root) of one of a source's buffers are
/// staged.
fn below_staging(source: &Address, home: Home, folder: &str) -> String {
    let source = staged_as(source, home);
    match folder {
        "" => format!("{source}/files"),
        _ => format!("{source}/folder-{}", encoded(folder)),
    }
}

fn staged_as(source: &Address, home: Home) -> String {
    let source = encoded(&source.to_string());
    match home {
        Home::Only => source,
        Home::At(address) => format!("{source}{OF_SEVERAL}{}", encoded(&address.to_string())),
    }
}

/// The last two parts of a path, as [`below_staging`] has them for
/// [`Home::Only`].
fn without_address(folder: &Path) -> String {
    let last = |path: Option<&OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let source = last(folder.parent().and_then(Path::file_name));
    let source = source.split_once(OF_SEVERAL).map_or(&*source, |(source, _)| source);
    format!("{source}/{}", last(folder.file_name()))
}

/// Before the address of one buffer of several; [`encoded`] makes none.
const OF_SEVERAL: char = '@';

/// A name of one component for any text, different for different texts.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let encode = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
