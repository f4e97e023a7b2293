//! Figures of sources.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use opentelemetry::{KeyValue, global};
use runtime::telemetry::METER;

/// The figures of one source, which last as long as it is pulled.
#[derive(Debug)]
pub(crate) struct Figures {
    label: String,
    /// Seconds since 1970, as the next two; 0: never.
    last_success: AtomicU64,
    /// When nothing was left there.
    emptied: AtomicU64,
    began: u64,
    up: AtomicU64,
    backlog: AtomicU64,
    files: AtomicU64,
    rounds: AtomicU64,
    failed: AtomicU64,
    retries: AtomicU64,
}

/// All sources that are pulled, by their labels.
static SOURCES: LazyLock<Mutex<HashMap<String, Weak<Figures>>>> = LazyLock::new(Mutex::default);

// === impl Figures ===

impl Figures {
    /// Of the source that is called so. All sources on top of [`MOST_LABELS`] share one.
    pub(crate) fn of(name: &str) -> Arc<Self> {
        LazyLock::force(&WATCHED);
        let mut sources = sources();
        sources.retain(|_, figures| figures.strong_count() > 0);
        let label = if sources.len() < MOST_LABELS || sources.contains_key(name) { name } else { "other" };
        if let Some(figures) = sources.get(label).and_then(Weak::upgrade) {
            return figures;
        }
        let figures = Arc::new(Self {
            label: label.to_owned(),
            last_success: AtomicU64::new(0),
            emptied: AtomicU64::new(0),
            began: now(),
            up: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            files: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        });
        sources.insert(label.to_owned(), Arc::downgrade(&figures));
        figures
    }

    /// So many files are listed.
    pub(crate) fn listed(&self, files: usize) {
        self.backlog.store(files as u64, Relaxed);
    }

    /// A round has brought so many files, however it ended.
    pub(crate) fn brought(&self, files: u64) {
        self.files.fetch_add(files, Relaxed);
    }

    /// A round has ended well, and left so many names.
    pub(crate) fn succeeded(&self, left: usize) {
        self.up.store(1, Relaxed);
        self.rounds.fetch_add(1, Relaxed);
        self.last_success.store(now(), Relaxed);
        self.backlog.store(left as u64, Relaxed);
        if left == 0 {
            self.emptied.store(now(), Relaxed);
        }
    }

    /// A round has failed.
    pub(crate) fn failed(&self) {
        self.up.store(0, Relaxed);
        self.failed.fetch_add(1, Relaxed);
    }

    /// It is tried again after a failure.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// How long ago nothing was left there.
    fn lag(&self) -> u64 {
        now().saturating_sub(self.emptied.load(Relaxed).max(self.began))
    }
}

/// The figures of all sources, told when somebody asks.
static WATCHED: LazyLock<()> = LazyLock::new(|| {
    let meter = global::meter(METER);
    let gauge =
        |name: &'static str, unit: &'static str, about: &'static str, of: fn(&Figures) -> Option<u64>| {
            let _ = meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(about)
                .with_callback(move |seen| {
                    for figures in all() {
                        if let Some(figure) = of(&figures) {
                            seen.observe(figure, &[KeyValue::new("source", figures.label.clone())]);
                        }
                    }
                })
                .build();
        };
    gauge("tentacle_source_up", "", "Whether the last round ended well", |of| Some(of.up.load(Relaxed)));
    gauge(
        "tentacle_source_last_success_timestamp_seconds",
        "s",
        "When a round ended well the last time, in seconds since 1970",
        |of| Some(of.last_success.load(Relaxed)).filter(|&at| at > 0),
    );
    gauge(
        "tentacle_source_backlog_files",
        "{file}",
        "Files that the source listed the last time and that were not fetched yet",
        |of| Some(of.backlog.load(Relaxed)),
    );
    gauge(
        "tentacle_source_lag_seconds",
        "s",
        "How long ago a round left nothing at the source, or this process began",
        |of| Some(of.lag()),
    );
    let _ = meter
        .u64_observable_counter("tentacle_source_rounds")
        .with_description("Rounds, by how they ended")
        .with_callback(|seen| {
            for of in all() {
                for (outcome, count) in [("ok", &of.rounds), ("failed", &of.failed)] {
                    let labels =
                        [KeyValue::new("source", of.label.clone()), KeyValue::new("outcome", outcome)];
                    seen.observe(count.load(Relaxed), &labels);
                }
            }
        })
        .build();
    let counter = |name: &'static str, about: &'static str, of: fn(&Figures) -> &AtomicU64| {
        let _ = meter
            .u64_observable_counter(name)
            .with_description(about)
            .with_callback(move |seen| {
                for figures in all() {
                    let source = KeyValue::new("source", figures.label.clone());
                    seen.observe(of(&figures).load(Relaxed), &[source]);
                }
            })
            .build();
    };
    counter("tentacle_source_files", "Files that were fetched, counted when a round ends", |of| &of.files);
    counter("tentacle_source_retries", "Rounds that came after one that failed", |of| &of.retries);
});

fn all() -> Vec<Arc<Figures>> {
    sources().values().filter_map(Weak::upgrade).collect()
}

fn sources() -> MutexGuard<'static, HashMap<String, Weak<Figures>>> {
    SOURCES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Sources with a label of their own. With all series of each, far fewer than a Prometheus takes from one target.
const MOST_LABELS: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_given_back() {
        let held: Vec<_> =
            (0..MOST_LABELS + 7).map(|number| Figures::of(&format!("site-{number}"))).collect();
        assert_eq!(held[MOST_LABELS - 1].label, format!("site-{}", MOST_LABELS - 1));
        assert_eq!(held[MOST_LABELS].label, "other");
        assert!(Arc::ptr_eq(&held[MOST_LABELS], &held[MOST_LABELS + 6]));
        assert!(Arc::ptr_eq(&held[3], &Figures::of("site-3")));
        drop(held);
        assert_eq!(Figures::of("late").label, "late");
    }
}
