//! One server: how many connections it has, and whether it answers.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use transport::Address;

/// One address that connections are passed on to.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What was given for it: the name that its certificate is checked for.
    pub(crate) host: Address,
    connections: AtomicUsize,
    /// Whether it was reached since it was looked the last time.
    proven: AtomicBool,
    /// When that was so.
    known_at: Mutex<Option<Instant>>,
    failing: Mutex<Option<Failing>>,
}

/// How a server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// At once: another try costs next to nothing.
    Refused,
    /// By silence: each try costs a client its patience.
    Silent,
}

#[derive(Debug)]
struct Failing {
    fault: Fault,
    why: String,
    /// Periods in a row.
    times: u32,
    /// When it is probed.
    due: Instant,
}

/// Counts as a connection of a server until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Server>);

// === impl Server ===

impl Server {
    pub(crate) fn new(address: SocketAddr, host: Address) -> Self {
        Self {
            address,
            host,
            connections: AtomicUsize::new(0),
            proven: AtomicBool::new(false),
            known_at: Mutex::default(),
            failing: Mutex::default(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failing().is_some()
    }

    /// Whether it failed by silence.
    pub(crate) fn is_silent(&self) -> bool {
        self.failing().as_ref().is_some_and(|failing| failing.fault == Fault::Silent)
    }

    /// Why it is not used.
    pub(crate) fn fault(&self) -> Option<String> {
        self.failing().as_ref().map(|failing| format!("{}: {}", self.address, failing.why))
    }

    /// When it is to be probed; none where it has not failed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.failing().as_ref().map(|failing| failing.due)
    }

    /// Whether nothing has been known of it for a while; asked again and
    /// again.
    pub(crate) fn is_unproven(&self) -> bool {
        if self.has_failed() {
            return false;
        }
        let (now, mut known) = (Instant::now(), self.known_at.lock().unwrap_or_else(PoisonError::into_inner));
        if self.proven.swap(false, Relaxed) {
            *known = Some(now);
        }
        known.is_none_or(|at| now - at >= UNPROVEN)
    }

    /// It answers.
    pub(crate) fn reached(&self) {
        self.proven.store(true, Relaxed);
        if self.failing().take().is_some() {
            tracing::info!(address = %self.address, "server reached again");
        }
    }

    /// It does not answer: it is probed, later each time. Whether it did
    /// before.
    pub(crate) fn failed(&self, fault: Fault, why: &dyn fmt::Display) -> bool {
        let now = Instant::now();
        let mut failing = self.failing();
        let is_new = failing.is_none();
        let times = match &mut *failing {
            // Of the same moment as one before.
            Some(failing) if now < failing.due => {
                failing.fault = fault;
                return false;
            }
            Some(failing) => failing.times.saturating_add(1),
            None => {
                tracing::warn!(address = %self.address, "server cannot be reached: {why}");
                1
            }
        };
        *failing = Some(Failing { fault, why: why.to_string(), times, due: now + after(times) });
        is_new
    }

    /// It could not be probed.
    pub(crate) fn wait_longer(&self) {
        if let Some(failing) = &mut *self.failing() {
            failing.due = Instant::now() + after(failing.times);
        }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Counted ===

impl Counted {
    pub(crate) fn new(server: &Arc<Server>) -> Self {
        server.connections.fetch_add(1, Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// How long a server rests that has failed so many times.
fn after(times: u32) -> Duration {
    FIRST.saturating_mul(1 << times.saturating_sub(1).min(10)).min(LONGEST)
}

/// How long a server that answered is taken to do so.
const UNPROVEN: Duration = Duration::from_secs(5);

/// Bounds of the time before a probe.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
