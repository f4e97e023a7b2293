//! What all connections share.

use std::{collections::HashMap, io, sync::Arc};

use protocol::{Deadline, FileName, FilterError, Filters, NameError, NameRules};
use runtime::limits::Buffers;
use security::{Password, Penalties};
use spool::{Census, Claim, EntryName, EntryNameError, Folder, Spool};
use tokio::sync::Semaphore;

use crate::{
    metrics::refused,
    options::Options,
    quota::{NotAdmitted, Quota},
    reserve::{Admitted, NoRoom, Reserve},
};

/// The spool and the rules by which it is reached.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) rules: NameRules,
    filters: Filters,
    /// By the name that the filters give; the root's is empty.
    folders: HashMap<String, Folder>,
    reserve: Arc<Reserve>,
    /// What the spool holds at most, where that is bounded.
    pub(crate) quota: Option<Quota>,
    /// Of the bodies that are under way.
    pub(crate) buffers: Buffers,
    pub(crate) password: Option<Password>,
    pub(crate) penalties: Penalties,
    /// Whether `LS` and `MV` are served.
    pub(crate) insecure: bool,
    pub(crate) overwrite: bool,
    pub(crate) max_size: u64,
    pub(crate) max_line: usize,
    pub(crate) deadline: Deadline,
    /// A list is held whole while it is sent: so many at once.
    pub(crate) listings: Semaphore,
    /// A large archive is packed on a thread that waits for its reader: so
    /// many at once, so that readers who are slow leave threads for the disk.
    pub(crate) packings: Semaphore,
    /// Keeps the spool ours.
    spool: Spool,
}

/// What a file holds that was let in, until it is stored or not.
#[derive(Debug)]
pub(crate) struct Room {
    _reserve: Admitted,
    /// For the draft.
    pub(crate) claim: Option<Claim>,
}

/// Why a file is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLetIn {
    #[error(transparent)]
    Reserve(#[from] NoRoom),
    #[error(transparent)]
    Quota(#[from] NotAdmitted),
}

/// Where a file goes or comes from.
#[derive(Debug)]
pub(crate) struct Place {
    /// As it is said in logs.
    pub(crate) name: FileName,
    pub(crate) folder: Folder,
    pub(crate) entry: EntryName,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Entry(#[from] EntryNameError),
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl Site {
    /// Opens the spool. The folder of a filter is made with its first file, so
    /// that lists name what the peers' lists name. Blocks.
    pub(crate) fn open(options: &Options) -> anyhow::Result<Self> {
        let spool = Spool::open_within(&options.directory, options.limits)?;
        let root = spool.folder("")?;
        let mut folders = HashMap::new();
        for name in options.filters.folders().chain([""]) {
            folders.insert(name.to_owned(), spool.folder(name)?);
        }
        let site = Self {
            rules: options.name_rules.clone(),
            filters: options.filters.clone(),
            folders,
            buffers: Buffers::of_this_process(),
            reserve: Reserve::new(root, options.reserve_space),
            password: options
                .password
                .clone()
                .map(Password::start)
                .transpose()
                .map_err(anyhow::Error::msg)?,
            penalties: Penalties::new(options.deadline.as_duration()),
            insecure: options.insecure,
            overwrite: options.overwrite,
            max_size: options.max_size,
            max_line: options.block_size,
            deadline: options.deadline,
            listings: Semaphore::new(LISTINGS),
            packings: Semaphore::new(PACKINGS),
            quota: spool.quota().map(Quota::new),
            spool,
        };
        site.quota.as_ref().map(|quota| quota.begin(&site)).transpose()?;
        Ok(site)
    }

    /// Lets a file of `size` bytes in, if there is room for it.
    ///
    /// # Errors
    /// [`NotLetIn`].
    pub(crate) async fn admit(&self, place: &Place, size: u64) -> Result<Room, NotLetIn> {
        let claim = match &self.quota {
            Some(quota) => Some(quota.admit(place, size, self.overwrite).await?),
            None => None,
        };
        let reserve = self.reserve.admit(size).await.inspect_err(|_| refused("reserve"))?;
        Ok(Room { _reserve: reserve, claim })
    }

    /// The folder of this name, which is the filters'; the root's is empty.
    pub(crate) fn folder_of_filter(&self, name: &str) -> Option<&Folder> {
        self.folders.get(name)
    }

    /// Checks a name from the wire and finds its folder.
    pub(crate) fn place(&self, name: &[u8]) -> Result<Place, PlaceError> {
        let name = self.rules.check(name)?;
        let entry = EntryName::new(name.as_bytes())?;
        let folder = self.folder(name.as_bytes())?.clone();
        Ok(Place { name, folder, entry })
    }

    /// The folder that `LS <argument>` lists.
    pub(crate) fn listed(&self, argument: &[u8]) -> Result<Folder, PlaceError> {
        self.rules.check_listing_argument(argument)?;
        Ok(self.folder(argument)?.clone())
    }

    /// Whether the spool takes files: one is written and removed, and the
    /// reserve of room is looked at.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) async fn probe(&self) -> io::Result<()> {
        self.folders[""].probe().await?;
        self.reserve.look().await
    }

    /// What lies in all folders of the spool. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn census(&self) -> io::Result<Census> {
        match self.spool.quota() {
            Some(quota) => quota.recount(|| self.count()),
            None => self.count(),
        }
    }

    fn count(&self) -> io::Result<Census> {
        let mut sum = self.folders[""].census()?;
        for folder in self.folders.iter().filter(|(name, _)| !name.is_empty()).map(|(_, folder)| folder) {
            let census = folder.census()?;
            sum.files += census.files;
            sum.bytes += census.bytes;
            sum.oldest = [sum.oldest, census.oldest].into_iter().flatten().min();
        }
        Ok(sum)
    }

    fn folder(&self, name: &[u8]) -> Result<&Folder, FilterError> {
        let folder = self.filters.folder_for(name)?;
        Ok(self.folders.get(folder).expect("a folder was opened for each filter, and for the root"))
    }
}

// === impl NotLetIn ===

impl NotLetIn {
    /// In words for a peer: a full spool is to it what a full disk is.
    pub(crate) fn said_to_peer(&self) -> &'static str {
        match self {
            Self::Quota(NotAdmitted::Disk(error)) => said_to_peer(error),
            Self::Quota(NotAdmitted::Over(_)) | Self::Reserve(_) => {
                said_to_peer(&io::ErrorKind::StorageFull.into())
            }
        }
    }
}

/// A disk's failure in words for a peer: what to do about it is the operator's
/// matter, and stands in the log.
pub(crate) fn said_to_peer(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no space left on the server",
        _ => "the server cannot use its disk",
    }
}

const LISTINGS: usize = 16;

/// Of the 512 threads that tokio has for work that blocks.
const PACKINGS: usize = 16;
