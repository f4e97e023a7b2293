//! Values that are made of files, made anew when the files change.

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

/// A value made of files. It is made anew within two seconds of a change of
/// one of them; where that fails, the old one stays in use, and an error line
/// says why.
///
/// Files are looked at by their path, through links: Kubernetes changes a
/// mounted secret by swapping a link to a folder
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#mounted-secrets-are-updated-automatically>).
pub struct Reloaded<T> {
    current: Arc<ArcSwap<T>>,
    /// Ends the watching with the value.
    _watch: Option<AbortOnDropHandle<()>>,
}

// === impl Reloaded ===

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes the value by `load`, which reads `files` and blocks, and watches
    /// them. `what` is what error lines call it. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Those of the first `load`.
    pub fn start(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let seen = look(&files);
        let current = Arc::new(ArcSwap::from_pointee(load()?));
        let watch = (!files.is_empty()).then(|| {
            let watched = Watched { what, files, load, current: Arc::clone(&current) };
            AbortOnDropHandle::new(tokio::spawn(watched.watch(seen)))
        });
        Ok(Self { current, _watch: watch })
    }
}

impl<T> Reloaded<T> {
    /// The value now.
    pub fn get(&self) -> Arc<T> {
        self.current.load_full()
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloaded(..)")
    }
}

struct Watched<T, L> {
    what: &'static str,
    files: Vec<PathBuf>,
    load: L,
    current: Arc<ArcSwap<T>>,
}

impl<T: Send + Sync + 'static, L: Fn() -> Result<T, String> + Send + Sync + 'static> Watched<T, L> {
    async fn watch(self, mut seen: Vec<Look>) {
        let watched = Arc::new(self);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let again = Arc::clone(&watched);
            match spawn_blocking(move || again.look_again(seen)).await {
                Ok(now) => seen = now,
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    fn look_again(&self, seen: Vec<Look>) -> Vec<Look> {
        // Before the files are read: what changes meanwhile is seen the next
        // time.
        let now = look(&self.files);
        if now == seen {
            return now;
        }
        match (self.load)() {
            Ok(value) => {
                self.current.store(Arc::new(value));
                tracing::info!("{} read again", self.what);
            }
            Err(error) => {
                tracing::error!(%error, "{} changed and cannot be used: the old one stays in use", self.what)
            }
        }
        now
    }
}

/// Device, inode, size and time of change in nanoseconds of a file that is
/// there: differs once the file does.
type Look = Option<(u64, u64, u64, i128)>;

fn look(files: &[PathBuf]) -> Vec<Look> {
    let look = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        Some((found.dev(), found.ino(), found.len(), changed))
    };
    files.iter().map(look).collect()
}

/// Leaves time to read the files within two seconds of a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
