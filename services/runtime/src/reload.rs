//! Values that are made of files, made anew when the files change.

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// A value made of files. It is made anew within two seconds of a change of
/// one of them; where that fails, the old one stays in use, an error line says
/// why, and it is tried again every ten seconds: the reason may pass without
/// another change, as too many open files do.
///
/// Files are looked at by their path, through links: Kubernetes changes a
/// mounted secret by swapping a link to a folder
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#mounted-secrets-are-updated-automatically>).
pub struct Reloaded<T> {
    current: Arc<ArcSwap<T>>,
    /// Why the files could not be used the last time.
    failure: Arc<ArcSwapOption<String>>,
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
        let failure = Arc::default();
        let watch = (!files.is_empty()).then(|| {
            let watched =
                Watched { what, files, load, current: Arc::clone(&current), failure: Arc::clone(&failure) };
            AbortOnDropHandle::new(tokio::spawn(watched.watch(seen)))
        });
        Ok(Self { current, failure, _watch: watch })
    }
}

impl<T> Reloaded<T> {
    /// The value now.
    pub fn get(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Why the files as they are now cannot be used, and an older value is;
    /// none where they can.
    pub fn failure(&self) -> Option<Arc<String>> {
        self.failure.load_full()
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
    failure: Arc<ArcSwapOption<String>>,
}

/// Why the files could not be used the last time.
struct Failure {
    why: String,
    tried: Instant,
}

impl<T: Send + Sync + 'static, L: Fn() -> Result<T, String> + Send + Sync + 'static> Watched<T, L> {
    async fn watch(self, mut seen: Vec<Look>) {
        let watched = Arc::new(self);
        let mut failure: Option<Failure> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Before the files are read: what changes meanwhile is seen the
            // next time.
            let looking = Arc::clone(&watched);
            // The runtime ends.
            let Ok(now) = spawn_blocking(move || look(&looking.files)).await else { return };
            let changed = now != seen;
            if !changed && failure.as_ref().is_none_or(|failure| failure.tried.elapsed() < AGAIN_AFTER) {
                continue;
            }
            seen = now;
            let loading = Arc::clone(&watched);
            let loaded = match spawn_blocking(move || (loading.load)()).await {
                Ok(loaded) => loaded,
                Err(ended) if ended.is_panic() => Err("reading it failed in a way that is a bug".to_owned()),
                // The runtime ends.
                Err(_) => return,
            };
            let said = failure.take().filter(|_| !changed).map(|failure| failure.why);
            failure = watched.take(loaded, said);
        }
    }

    /// Puts it into use; what was `said` of the same files is not said again.
    fn take(&self, loaded: Result<T, String>, said: Option<String>) -> Option<Failure> {
        match loaded {
            Ok(value) => {
                self.current.store(Arc::new(value));
                self.failure.store(None);
                tracing::info!("{} read again", self.what);
                None
            }
            Err(why) => {
                if said.as_ref() != Some(&why) {
                    tracing::error!(error = %why, "{} changed and cannot be used: the old one stays in use", self.what);
                }
                self.failure.store(Some(Arc::new(why.clone())));
                Some(Failure { why, tried: Instant::now() })
            }
        }
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

/// Spares the processor: a key may be encrypted at the cost of seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use tempfile::NamedTempFile;
    use tracing::subscriber::DefaultGuard;

    use super::*;

    /// A number in a file, read by a `load` that fails as it is told.
    struct Number {
        file: NamedTempFile,
        /// Of the next reading: `panic`, or what else is wrong.
        trouble: Arc<Mutex<Option<&'static str>>>,
        readings: Arc<AtomicUsize>,
        reloaded: Reloaded<u32>,
        log: Log,
        _logging: DefaultGuard,
    }

    impl Number {
        fn start() -> Self {
            let log = Log::default();
            let writer = log.clone();
            let logging = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
            let _logging = tracing::subscriber::set_default(logging.finish());
            let file = NamedTempFile::new().unwrap();
            fs::write(&file, "1").unwrap();
            let (trouble, readings) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
            let (told, counted, path) = (Arc::clone(&trouble), Arc::clone(&readings), file.path().to_owned());
            let load = move || {
                counted.fetch_add(1, Relaxed);
                let told = *told.lock().unwrap_or_else(PoisonError::into_inner);
                match told {
                    Some("panic") => panic!("told so"),
                    Some(why) => Err(why.to_owned()),
                    None => Ok(fs::read_to_string(&path).unwrap().parse().unwrap()),
                }
            };
            let reloaded = Reloaded::start("number", vec![file.path().to_owned()], load).unwrap();
            Self { file, trouble, readings, reloaded, log, _logging }
        }

        fn write(&self, number: u32) {
            fs::write(&self.file, number.to_string()).unwrap();
        }

        fn trouble(&self, trouble: Option<&'static str>) {
            *self.trouble.lock().unwrap() = trouble;
        }

        fn said(&self, what: &str) -> usize {
            String::from_utf8_lossy(&self.log.0.lock().unwrap()).matches(what).count()
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_for_a_reason_that_passes_is_tried_again_and_said_once() {
        let number = Number::start();
        number.trouble(Some("too many open files"));
        number.write(22);
        tokio::time::sleep(Duration::from_secs(95)).await;
        let readings = number.readings.load(Relaxed);
        assert!((8..=11).contains(&readings), "{readings}");
        assert_eq!((*number.reloaded.get(), number.said("ERROR")), (1, 1));
        number.trouble(Some("an I/O error"));
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(number.said("ERROR"), 2);
        number.trouble(None);
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!((*number.reloaded.get(), number.said("INFO")), (22, 1));
        let readings = number.readings.load(Relaxed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(number.readings.load(Relaxed), readings);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_reading_that_failed() {
        let number = Number::start();
        number.trouble(Some("panic"));
        number.write(22);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((*number.reloaded.get(), number.said("ERROR")), (1, 1));
        number.trouble(None);
        number.write(333);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(*number.reloaded.get(), 333);
    }
}
