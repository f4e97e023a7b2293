//! Where connections are passed on to.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use protocol::{Client, ClientError, ConnectionError, Deadline};
use runtime::health::Check;
use security::{Connector, Password};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, lookup_host},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use transport::{Address, Stream, proxy_header, tls::HandshakeError};

/// The servers behind the proxy. Each connection goes to the one that has the
/// fewest; one that could not be reached is tried last for a while.
///
/// Names are looked up again and again, as what a name of Kubernetes stands
/// for changes.
#[derive(Debug)]
pub(crate) struct Upstreams {
    hosts: Vec<Address>,
    /// Where the proxy itself listens: a connection to there would come back.
    own: Vec<SocketAddr>,
    /// Whether servers are told the clients' addresses.
    send_proxy: bool,
    connector: Connector,
    password: Option<Password>,
    deadline: Deadline,
    found: tokio::sync::Mutex<Found>,
    servers: Mutex<HashMap<SocketAddr, Arc<Upstream>>>,
    /// Whether one of them can be used.
    check: Check,
    /// When one was reached the last time.
    reached: Mutex<Option<Instant>>,
}

/// A connection to a server; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) address: SocketAddr,
    _counted: Counted,
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
enum NotReached {
    #[error(transparent)]
    Tcp(#[from] io::Error),
    #[error("this proxy itself listens there (name another server: -b)")]
    Own,
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    #[error("it refuses the password (--upstream-password), or asks for none")]
    Password,
    #[error("password: {0}{hint}", hint = hint(.0))]
    Client(#[from] ClientError),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoUpstream {
    #[error("no server could be reached: {0}")]
    Unreachable(String),
    #[error("no server could be reached within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

/// What the names stood for the last time.
#[derive(Debug, Default)]
struct Found {
    /// Each with the first of the hosts that stands for it.
    addresses: Vec<(SocketAddr, usize)>,
    /// Names that stand for nothing now.
    lost: Vec<String>,
    at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Upstream {
    connections: AtomicUsize,
    passed_over: Mutex<PassedOver>,
}

#[derive(Clone, Copy, Debug, Default)]
struct PassedOver {
    until: Option<Instant>,
    /// In a row.
    failures: u32,
}

#[derive(Debug)]
struct Counted(Arc<Upstream>);

// === impl Upstreams ===

impl Upstreams {
    pub(crate) fn new(
        hosts: Vec<Address>,
        own: Vec<SocketAddr>,
        send_proxy: bool,
        connector: Connector,
        password: Option<Password>,
        deadline: Deadline,
        check: Check,
    ) -> Self {
        Self {
            hosts,
            own,
            send_proxy,
            connector,
            password,
            deadline,
            found: tokio::sync::Mutex::default(),
            servers: Mutex::default(),
            check,
            reached: Mutex::default(),
        }
    }

    /// A connection to the server that has the fewest of those that can be
    /// reached, for a client's from one address to the other.
    ///
    /// # Errors
    /// [`NoUpstream`]: the last server's reason.
    pub(crate) async fn connect(&self, from_to: (SocketAddr, SocketAddr)) -> Result<Connected, NoUpstream> {
        self.connect_for(Some(from_to)).await
    }

    /// Keeps the check true where no session does: a server is connected to as
    /// for a session, and left, once none was reached for so long. Until it is
    /// dropped.
    pub(crate) fn probe(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let upstreams = Arc::clone(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let left = |reached: Instant| PROBE_AFTER.saturating_sub(reached.elapsed());
                let rest = upstreams.reached().map_or(Duration::ZERO, left);
                if !rest.is_zero() {
                    sleep(rest).await;
                    continue;
                }
                match upstreams.connect_for(None).await {
                    Ok(mut connected) => {
                        let _ = timeout(upstreams.patience(), connected.stream.shutdown()).await;
                    }
                    Err(_) => sleep(PROBE_AFTER).await,
                }
            }
        }))
    }

    /// For a client's connection, or for none.
    async fn connect_for(&self, from_to: Option<(SocketAddr, SocketAddr)>) -> Result<Connected, NoUpstream> {
        let connected = self.connect_in_turn(from_to).await;
        match &connected {
            Ok(_) => {
                *self.reached() = Some(Instant::now());
                self.check.passes();
            }
            Err(why) => self.check.fails(why.to_string()),
        }
        connected
    }

    async fn connect_in_turn(
        &self,
        from_to: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Connected, NoUpstream> {
        let ends = Instant::now() + self.patience();
        let (addresses, mut last) = timeout_at(ends, self.addresses()).await.map_err(|_| self.timed_out())?;
        let servers = self.in_turn(addresses);
        for (tried, (address, host, server)) in servers.iter().enumerate() {
            // A server that swallows everything must not take the time of the
            // next one.
            let now = Instant::now();
            let untried = u32::try_from(servers.len() - tried).unwrap_or(u32::MAX);
            let until = now + ends.saturating_duration_since(now) / untried;
            // From here on, so that connections that begin together are shared
            // out.
            let counted = Counted::new(server);
            let why = match timeout_at(until, self.reach(*address, host, from_to)).await {
                Ok(Ok(stream)) => {
                    server.reached(*address);
                    return Ok(Connected { stream, address: *address, _counted: counted });
                }
                Ok(Err(why)) => why.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            server.failed(*address, &why);
            last = Some(format!("{address}: {why}"));
        }
        Err(last.map_or_else(|| self.timed_out(), NoUpstream::Unreachable))
    }

    /// A connection to this server, ready for a client's bytes.
    async fn reach(
        &self,
        address: SocketAddr,
        host: &Address,
        from_to: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Stream, NotReached> {
        // Not seen by what is accepted: that would dial again before it is.
        if self.leads_back(address) {
            return Err(NotReached::Own);
        }
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        match from_to {
            Some((from, to)) if self.send_proxy => proxy_header::write(&mut stream, from, to).await?,
            None if self.send_proxy => proxy_header::write_own(&mut stream).await?,
            _ => {}
        }
        let mut stream = self.connector.connect(stream, host, self.patience()).await?;
        if let Some(password) = &self.password {
            // A server does not speak before it is asked: nothing has come
            // behind its answer.
            let mut client = Client::new(&mut stream, self.deadline);
            client.authenticate(&password.digest()).await.map_err(|error| match error {
                ClientError::Connection(ConnectionError::Closed) => NotReached::Password,
                error => error.into(),
            })?;
        }
        Ok(stream)
    }

    fn timed_out(&self) -> NoUpstream {
        NoUpstream::TimedOut(self.patience())
    }

    fn patience(&self) -> Duration {
        self.deadline.as_duration()
    }

    /// Those that were reached the last time first, of them those with the
    /// fewest connections.
    fn in_turn(&self, addresses: Vec<(SocketAddr, usize)>) -> Vec<(SocketAddr, &Address, Arc<Upstream>)> {
        let mut known = self.servers();
        // What is of no name any more is forgotten once its connections end.
        known.retain(|address, server| {
            addresses.iter().any(|(found, _)| found == address) || server.connections.load(Relaxed) > 0
        });
        let mut servers: Vec<_> = addresses
            .into_iter()
            .map(|(address, host)| {
                (address, &self.hosts[host], Arc::clone(known.entry(address).or_default()))
            })
            .collect();
        drop(known);
        let now = Instant::now();
        servers.sort_by_cached_key(|(_, _, server)| {
            (server.is_passed_over(now), server.connections.load(Relaxed))
        });
        servers
    }

    /// What the names stand for, looked up at most every few seconds, and the
    /// reason of one that stands for nothing.
    async fn addresses(&self) -> (Vec<(SocketAddr, usize)>, Option<String>) {
        // Who comes while it is looked up waits for that.
        let mut found = self.found.lock().await;
        if found.at.is_none_or(|at| at.elapsed() >= LOOK_UP_EVERY) {
            let before = std::mem::take(&mut *found);
            let mut lost = Vec::new();
            for (number, host) in self.hosts.iter().enumerate() {
                let looking =
                    timeout(self.patience() / 2, lookup_host((host.host.as_str(), host.port))).await;
                let why = match looking {
                    Ok(Ok(addresses)) => {
                        found.addresses.extend(addresses.map(|address| (address, number)));
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer in time".to_owned(),
                };
                lost.push(format!("{}: cannot be resolved: {why}", host.host));
            }
            found.addresses.sort_unstable();
            found.addresses.dedup_by_key(|(address, _)| *address);
            for why in lost.iter().filter(|why| !before.lost.contains(why)) {
                tracing::warn!("{why}");
            }
            if !lost.is_empty() && found.addresses.is_empty() {
                // The resolver may be away for a while, the servers not.
                found.addresses = before.addresses;
            }
            found.lost = lost;
            found.at = Some(Instant::now());
        }
        (found.addresses.clone(), found.lost.last().cloned())
    }

    fn leads_back(&self, address: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            let is_same = own.ip() == address.ip() || address.ip().is_unspecified();
            own.port() == address.port() && (is_same || (own.ip().is_unspecified() && is_local(address.ip())))
        })
    }

    fn reached(&self) -> MutexGuard<'_, Option<Instant>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Upstream>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is an address of this machine.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
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

// === impl Upstream ===

impl Upstream {
    fn is_passed_over(&self, now: Instant) -> bool {
        self.passed_over().until.is_some_and(|until| now < until)
    }

    fn reached(&self, address: SocketAddr) {
        let before = std::mem::take(&mut *self.passed_over());
        if before.failures > 0 {
            tracing::info!(%address, "server reached again");
        }
    }

    /// Passes it over, longer each time.
    fn failed(&self, address: SocketAddr, why: &str) {
        let mut passed_over = self.passed_over();
        if passed_over.failures == 0 {
            tracing::warn!(%address, "server cannot be reached: {why}");
        }
        let after = FIRST.saturating_mul(1 << passed_over.failures.min(10)).min(LONGEST);
        passed_over.failures = passed_over.failures.saturating_add(1);
        passed_over.until = Some(Instant::now() + after);
    }

    fn passed_over(&self) -> MutexGuard<'_, PassedOver> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Counted ===

impl Counted {
    fn new(server: &Arc<Upstream>) -> Self {
        server.connections.fetch_add(1, Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connection(ConnectionError::Tls) => " (--upstream-tls)",
        _ => "",
    }
}

/// How long what a name stands for is taken to be so.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// How long no server is reached before one is tried for the check.
const PROBE_AFTER: Duration = Duration::from_secs(5);

/// How long a server that failed is tried last, at first and at most.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
