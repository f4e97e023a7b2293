//! Where connections are passed on to.

mod names;
mod reach;
mod server;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, global};
use runtime::telemetry::{METER, SPANS};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{
    Instrument as _,
    field::{Empty, display},
};
use transport::{Address, Stream};

pub(crate) use self::{
    names::Known,
    reach::Reach,
    server::{Counted, Server},
};
use self::{reach::NotReached, server::Fault};

/// The servers behind the proxy. Each connection goes to the one that has the
/// fewest. One that failed is passed over until a probe has reached it; but
/// one that refused at once is still tried, last.
#[derive(Debug)]
pub(crate) struct Upstreams {
    hosts: Vec<Address>,
    reach: Arc<Reach>,
    known: watch::Receiver<Known>,
    /// Whose turn it is among equals.
    turn: AtomicUsize,
    _looking: JoinSet<()>,
}

/// A connection to a server; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) server: Arc<Server>,
    pub(crate) counted: Counted,
}

/// The servers that one client's connection was passed on to in vain.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<SocketAddr>);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoUpstream {
    #[error("no server could be reached: {0}")]
    Unreachable(String),
    #[error("no server could be reached within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("this machine has no room for a connection to a server: {0}")]
    Short(io::Error),
}

// === impl Upstreams ===

impl Upstreams {
    /// Begins to look the names of `hosts` up, again and again. Must be called
    /// within a runtime that lasts as long as this.
    ///
    /// # Errors
    /// One of `hosts` is the proxy itself.
    pub(crate) fn start(hosts: Vec<Address>, reach: Reach) -> anyhow::Result<Self> {
        for host in &hosts {
            reach.check(host)?;
        }
        let (known, looking) = names::start(&hosts);
        let turn = AtomicUsize::new(0);
        Ok(Self { hosts, reach: Arc::new(reach), known, turn, _looking: looking })
    }

    /// Tells what is known of the servers to whoever asks for metrics.
    pub(crate) fn watch(self: &Arc<Self>) {
        let gauge = |name: &'static str, about: &'static str, of: fn(&Server) -> u64| {
            let upstreams = Arc::downgrade(self);
            let _ = global::meter(METER)
                .u64_observable_gauge(name)
                .with_description(about)
                .with_callback(move |seen| {
                    let Some(upstreams) = upstreams.upgrade() else { return };
                    let servers = Arc::clone(&upstreams.known.borrow().servers);
                    for server in servers.iter().take(MOST_LABELS) {
                        let upstream = KeyValue::new("upstream", server.address.to_string());
                        seen.observe(of(server), &[upstream]);
                    }
                })
                .build();
        };
        gauge(
            "tentacle_upstream_healthy",
            "Whether the server was reached the last time it was tried",
            |server| u64::from(!server.has_failed()),
        );
        gauge("tentacle_upstream_sessions", "Sessions that are passed on to the server", |server| {
            server.connections() as u64
        });
    }

    /// The proxy's side of a client's connection, where servers are told of
    /// it.
    ///
    /// # Errors
    /// The client is gone.
    pub(crate) fn own_address(&self, client: &Stream) -> io::Result<SocketAddr> {
        if self.reach.send_proxy {
            return client.local_addr();
        }
        // Nobody reads it.
        Ok(SocketAddr::from(([0; 4], 0)))
    }

    /// A connection to the server that has the fewest of those that can be
    /// reached and are not in `tried`, for a client's from one address to the
    /// other.
    ///
    /// # Errors
    /// [`NoUpstream`]: the last server's reason.
    pub(crate) async fn connect(
        &self,
        from_to: (SocketAddr, SocketAddr),
        tried: &Tried,
    ) -> Result<Connected, NoUpstream> {
        let ends = Instant::now() + self.reach.patience();
        let (servers, mut last) = self.servers(ends).await?;
        let mut untried = self.in_turn(&servers);
        untried.retain(|server| !tried.0.contains(&server.address));
        while let Some(server) = fewest(&mut untried) {
            // From here on, so that connections that begin together are shared
            // out.
            let counted = Counted::new(&server);
            // One that swallows everything must not take the time of the next.
            let now = Instant::now();
            let others = u32::try_from(untried.len()).unwrap_or(u32::MAX).saturating_add(1);
            let least = LEAST_SHARE.min(self.reach.patience() / 2);
            let share = (ends.saturating_duration_since(now) / others).max(least);
            let open_by = (now + share).min(ends);
            let span = tracing::info_span!(
                target: SPANS,
                "dial",
                otel.kind = "client",
                network.transport = "tcp",
                server.address = %server.host,
                network.peer.address = %server.address.ip(),
                network.peer.port = server.address.port(),
                tentacle.outcome = Empty,
                tentacle.reason = Empty,
            );
            let opened =
                self.reach.open(&server, Some(from_to), open_by, ends).instrument(span.clone()).await;
            match &opened {
                Ok(_) => span.record("tentacle.outcome", "ok"),
                Err(why) => span.record("tentacle.outcome", "failed").record("tentacle.reason", display(why)),
            };
            match opened {
                Ok(stream) => {
                    server.reached();
                    return Ok(Connected { stream, server, counted });
                }
                Err(NotReached::Short(error)) => return Err(NoUpstream::Short(error)),
                Err(why) => {
                    last = Some(format!("{}: {why}", server.address));
                    self.failed(&server, why.fault(), &why);
                }
            }
        }
        Err(match last.or_else(|| servers.iter().find_map(|server| server.fault())) {
            Some(why) => NoUpstream::Unreachable(why),
            None => NoUpstream::TimedOut(self.reach.patience()),
        })
    }

    /// Whether a session would find a server. One that no session has reached
    /// for a while is tried as for one.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn look(&self) -> Result<(), String> {
        let Known { servers, lost, .. } = self.known.borrow().clone();
        for server in servers.iter().filter(|server| server.is_unproven()) {
            if let Err(why) = self.reach.probe(server).await {
                if let NotReached::Short(error) = why {
                    return Err(NoUpstream::Short(error).to_string());
                }
                self.failed(server, why.fault(), &why);
            } else {
                server.reached();
            }
        }
        if servers.iter().any(|server| !server.has_failed()) {
            return Ok(());
        }
        let why = servers.iter().find_map(|server| server.fault()).or(lost);
        Err(why.unwrap_or_else(|| "their names have not been resolved yet".to_owned()))
    }

    /// It closed before anything was sent, in either direction: others come
    /// first for a while, and for this client it was tried.
    pub(crate) fn closed_at_once(&self, server: &Arc<Server>, tried: &mut Tried) {
        tried.0.push(server.address);
        self.failed(server, Fault::Refused, &"it closes connections at once");
    }

    fn failed(&self, server: &Arc<Server>, fault: Fault, why: &dyn fmt::Display) {
        if server.failed(fault, why) {
            tokio::spawn(probe(Arc::clone(&self.reach), Arc::downgrade(server)));
        }
    }

    /// All servers that are known, and the reason of a name that stands for
    /// none. Waits for the first that is found.
    async fn servers(&self, ends: Instant) -> Result<(Arc<[Arc<Server>]>, Option<String>), NoUpstream> {
        let mut known = self.known.clone();
        let found = timeout_at(ends, known.wait_for(|known| known.is_settled())).await;
        match found {
            Ok(Ok(known)) => Ok((Arc::clone(&known.servers), known.lost.clone())),
            // Nobody looks any more: the service ends.
            Ok(Err(_)) => Err(NoUpstream::Unreachable("the service is ending".to_owned())),
            Err(_) => Err(NoUpstream::Unreachable("their names have not been resolved yet".to_owned())),
        }
    }

    /// Those that may be tried, beginning with another one each time.
    fn in_turn(&self, servers: &[Arc<Server>]) -> Vec<Arc<Server>> {
        let turn = match servers.len() {
            0 => 0,
            count => self.turn.fetch_add(1, Relaxed) % count,
        };
        let (later, first) = servers.split_at(turn);
        first.iter().chain(later).filter(|server| !server.is_silent()).map(Arc::clone).collect()
    }
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, host) in self.hosts.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}

/// Takes out the first of those with the fewest connections; one that failed
/// comes last.
fn fewest(untried: &mut Vec<Arc<Server>>) -> Option<Arc<Server>> {
    let order = |server: &Arc<Server>| (server.has_failed(), server.connections());
    let (at, _) = untried.iter().enumerate().min_by_key(|(_, server)| order(server))?;
    Some(untried.remove(at))
}

/// Tries a server that failed until it is reached, or of no name any more.
async fn probe(reach: Arc<Reach>, server: std::sync::Weak<Server>) {
    loop {
        let Some(due) = server.upgrade().and_then(|server| server.due()) else { return };
        tokio::time::sleep_until(due).await;
        let Some(server) = server.upgrade() else { return };
        if !server.has_failed() {
            continue;
        }
        match reach.probe(&server).await {
            Ok(()) => server.reached(),
            // That is not the server's.
            Err(NotReached::Short(_)) => server.wait_longer(),
            Err(why) => _ = server.failed(why.fault(), &why),
        }
    }
}

/// Servers with series of their own.
const MOST_LABELS: usize = 4000;

/// The least that a server has for opening a connection, however many others
/// are to be tried yet; no more than half of the whole.
const LEAST_SHARE: Duration = Duration::from_secs(1);
