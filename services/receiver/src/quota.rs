//! How much may lie in the spool (`--spool-max-bytes`, `--spool-max-files`).

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use runtime::drain::DrainWatch;
use spool::{Claim, OverQuota};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    metrics::refused,
    site::{Place, Site},
};

/// The spool's quota, and whether somebody should look what others did.
#[derive(Debug)]
pub(crate) struct Quota {
    counted: Arc<spool::Quota>,
    /// Told when a file is refused: a consumer may have made room.
    doubted: Notify,
}

/// Why a file is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("{0} ({option})", option = option(.0))]
    Over(OverQuota),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

// === impl NotAdmitted ===

impl NotAdmitted {
    /// Counts it, too.
    pub(crate) fn over(over: OverQuota) -> Self {
        refused(match over {
            OverQuota::Files { .. } => "max_files",
            OverQuota::Bytes { .. } => "max_bytes",
        });
        Self::Over(over)
    }
}

// === impl Quota ===

impl Quota {
    pub(crate) fn new(counted: &Arc<spool::Quota>) -> Self {
        Self { counted: Arc::clone(counted), doubted: Notify::new() }
    }

    /// The most that there may be.
    pub(crate) fn limits(&self) -> spool::Limits {
        self.counted.limits()
    }

    /// Room for a file of `size` bytes; where it may `overwrite` one, for the
    /// difference if there is no more.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub(crate) async fn admit(
        &self,
        place: &Place,
        size: u64,
        overwrite: bool,
    ) -> Result<Claim, NotAdmitted> {
        let over = match self.counted.claim(size) {
            Ok(claim) => return Ok(claim),
            Err(over) => over,
        };
        self.doubted.notify_one();
        let replaced = if overwrite { place.folder.size(&place.entry).await? } else { None };
        let claimed = match replaced {
            Some(replaced) => self.counted.claim_beyond(size, replaced),
            None => Err(over),
        };
        claimed.map_err(NotAdmitted::over)
    }

    /// Counts what lies in the spool of `site`, and says so where that is
    /// more than there may be. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn begin(&self, site: &Site) -> io::Result<()> {
        let census = site.census()?;
        let limits = self.limits();
        let is_over = |held: u64, most: Option<u64>| most.is_some_and(|most| held > most);
        if is_over(census.files, limits.files) || is_over(census.bytes, limits.bytes) {
            tracing::warn!(
                files = census.files,
                bytes = census.bytes,
                max_files = limits.files,
                max_bytes = limits.bytes,
                "more lies in the spool than --spool-max-files or --spool-max-bytes allow: new files are refused until less does"
            );
        }
        Ok(())
    }
}

/// Counts anew what lies in the spool, until the service ends: soon after a
/// file was refused, and now and then.
pub(crate) async fn keep_counted(site: Arc<Site>, drain: DrainWatch) {
    let Some(quota) = &site.quota else { return };
    let counting = async {
        loop {
            let _ = timeout(COUNT_EVERY, quota.doubted.notified()).await;
            let (counted, began) = (Arc::clone(&site), Instant::now());
            match spawn_blocking(move || counted.census()).await.map_err(io::Error::other) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) | Err(error) => {
                    tracing::warn!(%error, "what lies in the spool cannot be counted: the last count holds")
                }
            }
            // A large spool is not read all the time.
            sleep(REST.max(began.elapsed() * 10)).await;
        }
    };
    tokio::select! {
        () = drain.started() => {}
        () = counting => {}
    }
}

fn option(over: &OverQuota) -> &'static str {
    match over {
        OverQuota::Files { .. } => "--spool-max-files",
        OverQuota::Bytes { .. } => "--spool-max-bytes",
    }
}

const COUNT_EVERY: Duration = Duration::from_secs(60);

const REST: Duration = Duration::from_secs(1);
