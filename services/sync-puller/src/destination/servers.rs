//! Central Tentacle servers, by turns.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use protocol::{ClientError, Deadline, Refusal};
use runtime::options::SecretSource;
use security::{CertificateCheck, ClientTls};
use transport::Address;

use super::DestinationError;
use crate::upstream::{Session, Upstream};

/// The servers of one destination.
#[derive(Debug)]
pub(crate) struct Servers {
    /// At least one.
    servers: Vec<Server>,
    /// Connections so far.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Server {
    address: Address,
    upstream: Upstream,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    trouble: Option<Trouble>,
    pauses: ExponentialBackoff,
}

/// Why a server is passed over.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// It takes connections, and no files.
    is_full: bool,
    /// It is left alone until then.
    until: Instant,
}

// === impl Servers ===

impl Servers {
    /// Must be called within a tokio runtime; blocks.
    pub(super) fn start(
        addresses: &[Address],
        password: Option<&SecretSource>,
        tls: Option<&ClientTls>,
    ) -> anyhow::Result<Self> {
        // As the documented sync_timeout and sync_retries.
        let deadline = Deadline::new(Duration::from_secs(10), 3);
        let start = |address: &Address| {
            let upstream = Upstream::start(address.clone(), deadline, tls.cloned(), password.cloned())?;
            let state = Mutex::new(State { trouble: None, pauses: pauses() });
            anyhow::Ok(Server { address: address.clone(), upstream, state })
        };
        let servers = addresses.iter().map(start).collect::<Result<_, _>>()?;
        // Processes that start together do not all begin with the first.
        Ok(Self { servers, turn: AtomicUsize::new(fastrand::usize(..addresses.len())) })
    }

    pub(super) fn is_one(&self) -> bool {
        self.servers.len() == 1
    }

    /// Whether each of them was in trouble the last time.
    pub(super) fn are_all_troubled(&self) -> bool {
        self.servers.iter().all(|server| server.trouble().is_some())
    }

    pub(super) fn is_left_alone(&self, index: usize) -> bool {
        self.servers[index].is_left_alone()
    }

    pub(super) fn address(&self, index: usize) -> &Address {
        &self.servers[index].address
    }

    /// A connection to the one whose turn it is, and its number. One that is
    /// in trouble is passed over; where all are, that one is tried which has
    /// been left alone for longest.
    pub(super) async fn connect(&self) -> Result<(usize, Session), DestinationError> {
        let (turn, count) = (self.turn.fetch_add(1, Relaxed), self.servers.len());
        let mut order: Vec<_> = (0..count).map(|number| (turn.wrapping_add(number)) % count).collect();
        if order.iter().all(|&index| self.servers[index].is_left_alone()) {
            order.sort_by_key(|&index| self.servers[index].trouble().map(|trouble| trouble.until));
            order.truncate(1);
        } else {
            order.retain(|&index| !self.servers[index].is_left_alone());
        }
        self.first_of(&order).await
    }

    /// A connection to any of them, however it was.
    pub(super) async fn probe(&self) -> Result<(), DestinationError> {
        let (_, session) = self.first_of(&(0..self.servers.len()).collect::<Vec<_>>()).await?;
        let _ = session.quit().await;
        Ok(())
    }

    async fn first_of(&self, order: &[usize]) -> Result<(usize, Session), DestinationError> {
        let mut failed = None;
        for &index in order {
            match self.connect_to(index).await {
                Ok(session) => return Ok((index, session)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.expect("there is at least one server"))
    }

    /// A connection to this one.
    pub(super) async fn connect_to(&self, index: usize) -> Result<Session, DestinationError> {
        let server = &self.servers[index];
        match server.upstream.connect().await {
            Ok(session) => {
                let mut state = server.state();
                state.trouble = state.trouble.filter(|trouble| trouble.is_full);
                Ok(session)
            }
            Err(error) => {
                self.is_troubled(index, false, &error.to_string());
                Err(error.into())
            }
        }
    }

    /// It has taken a file.
    pub(super) fn took(&self, index: usize) {
        let mut state = self.servers[index].state();
        state.trouble = None;
        state.pauses = pauses();
    }

    /// It has broken a connection.
    pub(super) fn broke(&self, index: usize, error: &ClientError) {
        self.is_troubled(index, false, &error.to_string());
    }

    /// It has no room.
    pub(super) fn is_full(&self, index: usize, why: &Refusal) {
        self.is_troubled(index, true, &why.to_string());
    }

    fn is_troubled(&self, index: usize, is_full: bool, why: &str) {
        let server = &self.servers[index];
        let mut state = server.state();
        // What was under way when it broke does not count each by itself.
        if state.trouble.is_some_and(|trouble| trouble.until > Instant::now()) {
            return;
        }
        if state.trouble.is_none() && !self.is_one() {
            tracing::warn!(server = %server.address, error = why, "the central server is passed over");
        }
        let until = Instant::now() + state.pauses.next().unwrap_or(LONGEST_PAUSE);
        state.trouble = Some(Trouble { is_full, until });
    }

    /// Whether the certificates for them are in order.
    pub(super) fn checks(&self) -> Vec<CertificateCheck> {
        self.servers.iter().filter_map(|server| server.upstream.check()).collect()
    }
}

// === impl Server ===

impl Server {
    fn trouble(&self) -> Option<Trouble> {
        self.state().trouble
    }

    fn is_left_alone(&self) -> bool {
        self.trouble().is_some_and(|trouble| trouble.until > Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer each time, spread by chance, bounded.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

const LONGEST_PAUSE: Duration = Duration::from_secs(30);
