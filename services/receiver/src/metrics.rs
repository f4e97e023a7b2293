//! What lies in the spool.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::{KeyValue, global, metrics::Counter};
use runtime::telemetry::METER;
use spool::{Census, Limits};

use crate::site::Site;

/// Tells what lies in the spool of `site`. It is counted when somebody asks, at most every [`COUNT_EVERY`], by a thread of
/// its own: where that takes longer than a moment, the last figures are told.
pub(crate) fn watch_spool(site: &Arc<Site>) {
    let counted = Arc::new(Counted { site: Arc::downgrade(site), state: Mutex::default() });
    let meter = global::meter(METER);
    let gauge =
        |name: &'static str, unit: &'static str, about: &'static str, of: fn(&Census) -> Option<u64>| {
            let counted = Arc::clone(&counted);
            let _ = meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(about)
                .with_callback(move |seen| {
                    if let Some(figure) = counted.census().as_ref().and_then(of) {
                        seen.observe(figure, &[]);
                    }
                })
                .build();
        };
    gauge("tentacle_spool_files", "{file}", "Files in the spool", |census| Some(census.files));
    gauge("tentacle_spool_bytes", "By", "Bytes of the files in the spool", |census| Some(census.bytes));
    gauge("tentacle_spool_free_bytes", "By", "Bytes that are free where the spool is", |census| {
        Some(census.available)
    });
    gauge(
        "tentacle_spool_oldest_seconds",
        "s",
        "Age of the oldest file in the spool, 0 where it is empty",
        |census| {
            Some(
                census.oldest.map_or(0, |oldest| {
                    SystemTime::now().duration_since(oldest).map_or(0, |age| age.as_secs())
                }),
            )
        },
    );
}

/// Tells how much the spool holds at most; nothing where that is not bounded.
pub(crate) fn tell_limits(limits: Limits) {
    let gauge = |name: &'static str, unit: &'static str, about: &'static str, most: Option<u64>| {
        let Some(most) = most else { return };
        let _ = global::meter(METER)
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |seen| seen.observe(most, &[]))
            .build();
    };
    gauge("tentacle_spool_max_files", "{file}", "Files that the spool holds at most", limits.files);
    gauge("tentacle_spool_max_bytes", "By", "Bytes of files that the spool holds at most", limits.bytes);
}

/// Counts a file that there is no room for, by a word for why.
pub(crate) fn refused(why: &'static str) {
    static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
        global::meter(METER)
            .u64_counter("tentacle_spool_refused")
            .with_description("Files that the spool has no room for, by why")
            .build()
    });
    REFUSED.add(1, &[KeyValue::new("reason", why)]);
}

/// The last census of a spool.
struct Counted {
    site: Weak<Site>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Census>,
    /// When the last count was begun.
    begun: Option<Instant>,
    /// Where the count under way comes to its end.
    under_way: Option<mpsc::Receiver<Option<Census>>>,
}

impl Counted {
    fn census(&self) -> Option<Census> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.under_way.is_none() && state.begun.is_none_or(|begun| begun.elapsed() >= COUNT_EVERY) {
            let (tell, told) = mpsc::channel();
            let site = self.site.upgrade()?;
            let counting = thread::Builder::new().name("census".to_owned());
            counting.spawn(move || _ = tell.send(site.census().ok())).ok()?;
            state.begun = Some(Instant::now());
            state.under_way = Some(told);
        }
        let patience = if state.last.is_none() { FIRST_PATIENCE } else { PATIENCE };
        let under_way = state.under_way.take();
        if let Some(under_way) = under_way {
            match under_way.recv_timeout(patience) {
                Ok(census) => state.last = census,
                Err(mpsc::RecvTimeoutError::Timeout) => state.under_way = Some(under_way),
                Err(mpsc::RecvTimeoutError::Disconnected) => state.last = None,
            }
        }
        state.last
    }
}

const COUNT_EVERY: Duration = Duration::from_secs(15);

/// How long who asks waits for a count. Each of four figures may.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(100);
