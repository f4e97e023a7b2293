//! Whether a destination takes files. While it does not, nothing is pulled
//! into it: files are safest where they are.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use opentelemetry::{KeyValue, global};
use runtime::telemetry::METER;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// The gate of one destination.
#[derive(Debug)]
pub(crate) struct Gate {
    /// What log lines and figures call the destination.
    name: String,
    state: watch::Sender<State>,
    pauses: Mutex<Pauses>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nobody has tried it. Files may try.
    Unknown,
    Open,
    /// For this reason.
    Closed(String),
}

/// How long it stays closed before it is tried.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    opened: Option<Instant>,
}

// === impl Gate ===

impl Gate {
    /// The gate of a destination that is called so, which its figure shows
    /// for as long as it is there.
    pub(crate) fn new(name: String) -> Arc<Self> {
        LazyLock::force(&WATCHED);
        let pauses = Mutex::new(Pauses { next: FIRST_PAUSE, opened: None });
        let gate = Arc::new(Self { name, state: watch::Sender::new(State::Unknown), pauses });
        let mut gates = gates();
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(Arc::downgrade(&gate));
        gate
    }

    /// Whether files are waited with.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed(_))
    }

    /// What is wrong with it, if anything is known.
    pub(crate) fn standing(&self) -> Result<(), String> {
        match &*self.state.borrow() {
            State::Unknown => Err("not known yet".to_owned()),
            State::Open => Ok(()),
            State::Closed(why) => Err(why.clone()),
        }
    }

    /// Waits until it is not closed. Who had to wait goes on at a moment of
    /// its own: thousands of sources would all come at once.
    pub(crate) async fn passed(&self) {
        let mut state = self.state.subscribe();
        if !self.is_closed() {
            return;
        }
        // Fails when the sender is gone, which is ourselves.
        let _ = state.wait_for(|state| !matches!(state, State::Closed(_))).await;
        sleep(SPREAD.mul_f64(fastrand::f64())).await;
    }

    /// It does not take files.
    pub(crate) fn close(&self, why: String) {
        self.state.send_if_modified(|state| {
            let was_open = !matches!(state, State::Closed(_));
            if was_open {
                tracing::warn!(destination = self.name, error = why, "pulling into it pauses");
                self.pauses().closed();
            }
            *state = State::Closed(why);
            was_open
        });
    }

    fn open(&self) {
        self.state.send_if_modified(|state| {
            if matches!(state, State::Closed(_)) {
                tracing::info!(destination = self.name, "pulling goes on");
                self.pauses().opened = Some(Instant::now());
            }
            let changed = *state != State::Open;
            *state = State::Open;
            changed
        });
    }

    /// Tries the destination by `probe` while it is closed, and while it is
    /// open too if it is `watched`, until there is nothing to be tried. A
    /// probe that does not end is not begun again: one that hangs holds one
    /// thread.
    pub(crate) async fn keep<P>(self: Arc<Self>, watched: bool, probe: impl Fn() -> P)
    where
        P: Future<Output = Option<Result<(), String>>>,
    {
        if !watched {
            self.closed().await;
            sleep(self.pause()).await;
        }
        loop {
            let mut probing = pin!(probe());
            let found = match timeout(PROBE_PATIENCE, &mut probing).await {
                Ok(found) => found,
                Err(_) => {
                    self.close(format!("does not answer within {} s", PROBE_PATIENCE.as_secs()));
                    probing.await
                }
            };
            match found {
                None => return,
                Some(Ok(())) => self.open(),
                Some(Err(why)) => self.close(why),
            }
            if !self.is_closed() {
                tokio::select! {
                    () = self.closed() => {}
                    () = sleep(PROBE_EVERY), if watched => continue,
                }
            }
            sleep(self.pause()).await;
        }
    }

    async fn closed(&self) {
        // Fails when the sender is gone, which is ourselves.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Closed(_))).await;
    }

    fn pause(&self) -> Duration {
        self.pauses().next
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Pauses ===

impl Pauses {
    /// Longer each time where files fail as soon as they are let through, as
    /// with a disk that has room for the probe alone.
    fn closed(&mut self) {
        self.next = match self.opened {
            Some(opened) if opened.elapsed() < self.next * 2 => (self.next * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
    }
}

/// Those of all destinations.
static GATES: LazyLock<Mutex<Vec<Weak<Gate>>>> = LazyLock::new(Mutex::default);

/// The figure of all gates, told when somebody asks.
static WATCHED: LazyLock<()> = LazyLock::new(|| {
    let _ = global::meter(METER)
        .u64_observable_gauge("tentacle_destination_up")
        .with_description(
            "Whether files are pulled into a destination, or wait at their sources until it takes them",
        )
        .with_callback(|seen| {
            let mut up = BTreeMap::new();
            for gate in gates().iter().filter_map(Weak::upgrade) {
                let is_open = !gate.is_closed();
                // Those on top of so many share one label.
                let name = if up.len() < MOST_LABELS { &*gate.name } else { "other" };
                up.entry(name.to_owned()).and_modify(|all| *all &= is_open).or_insert(is_open);
            }
            for (name, up) in up {
                seen.observe(u64::from(up), &[KeyValue::new("destination", name)]);
            }
        })
        .build();
});

fn gates() -> MutexGuard<'static, Vec<Weak<Gate>>> {
    GATES.lock().unwrap_or_else(PoisonError::into_inner)
}

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Over which those who waited go on.
const SPREAD: Duration = Duration::from_secs(1);

/// How often a destination that takes files is tried, and how long that may
/// last: a folder is written to, a server connected to.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

const MOST_LABELS: usize = 1000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use tokio::task::JoinHandle;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Kept {
        gate: Arc<Gate>,
        is_well: Arc<AtomicBool>,
        probes: Arc<AtomicUsize>,
        task: JoinHandle<()>,
    }

    fn kept(watched: bool) -> Kept {
        let (gate, is_well) = (Gate::new("x".to_owned()), Arc::new(AtomicBool::new(true)));
        let probes = Arc::new(AtomicUsize::new(0));
        let (well, count) = (Arc::clone(&is_well), Arc::clone(&probes));
        let task = tokio::spawn(Arc::clone(&gate).keep(watched, move || {
            count.fetch_add(1, Relaxed);
            let found = well.load(Relaxed).then_some(()).ok_or_else(|| "full".to_owned());
            async { Some(found) }
        }));
        Kept { gate, is_well, probes, task }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_it_is_closed_waits_until_it_takes_files_again() {
        let Kept { gate, is_well, probes, task } = kept(false);
        gate.passed().await;
        sleep(60 * SECOND).await;
        assert_eq!(probes.load(Relaxed), 0, "nobody asks how it stands");
        is_well.store(false, Relaxed);
        gate.close("full".to_owned());
        assert!(timeout(60 * SECOND, gate.passed()).await.is_err());
        assert!(probes.load(Relaxed) >= 10);
        is_well.store(true, Relaxed);
        assert!(timeout(FIRST_PAUSE + 2 * SECOND, gate.passed()).await.is_ok());
        assert_eq!(gate.standing(), Ok(()));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_one_is_closed_before_a_file_fails() {
        let Kept { gate, is_well, task, .. } = kept(true);
        assert_eq!(gate.standing(), Err("not known yet".to_owned()));
        sleep(SECOND).await;
        assert_eq!(gate.standing(), Ok(()));
        is_well.store(false, Relaxed);
        sleep(PROBE_EVERY).await;
        assert_eq!(gate.standing(), Err("full".to_owned()));
        is_well.store(true, Relaxed);
        gate.passed().await;
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn where_files_fail_and_probes_do_not_it_is_tried_less_and_less_often() {
        let Kept { gate, probes, task, .. } = kept(false);
        for _ in 0..20 {
            gate.close("full".to_owned());
            gate.passed().await;
        }
        let before = probes.load(Relaxed);
        gate.close("full".to_owned());
        assert!(timeout(LONGEST_PAUSE - SECOND, gate.passed()).await.is_err());
        gate.passed().await;
        assert_eq!(probes.load(Relaxed), before + 1);
        // It took files for a while: that counts as well.
        sleep(10 * LONGEST_PAUSE).await;
        gate.close("full".to_owned());
        assert!(timeout(FIRST_PAUSE + 2 * SECOND, gate.passed()).await.is_ok());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_closes_it_and_is_not_begun_again() {
        let (gate, begun) = (Gate::new("x".to_owned()), AtomicUsize::new(0));
        let probe = || {
            begun.fetch_add(1, Relaxed);
            std::future::pending()
        };
        assert!(timeout(600 * SECOND, Arc::clone(&gate).keep(true, probe)).await.is_err());
        assert_eq!(gate.standing(), Err("does not answer within 10 s".to_owned()));
        assert_eq!(begun.load(Relaxed), 1);
    }
}
