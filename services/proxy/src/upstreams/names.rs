//! What the servers' names stand for: looked up again and again, as what a
//! name of Kubernetes stands for changes.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use transport::Address;

use super::server::Server;

/// What is known now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) servers: Arc<[Arc<Server>]>,
    /// Why a name stands for nothing.
    pub(crate) lost: Option<String>,
    /// Names that no answer has come for yet.
    waiting: usize,
}

/// Gathers what is found for each host.
#[derive(Debug)]
struct Gathered {
    hosts: Vec<(Address, Found)>,
    /// Those that are used, or were and have connections yet.
    servers: HashMap<SocketAddr, Arc<Server>>,
}

#[derive(Debug, Default)]
struct Found {
    addresses: Vec<SocketAddr>,
    /// When that was last so.
    at: Option<Instant>,
    lost: Option<String>,
}

/// Begins to look the names up, each by a task of its own, which ends with
/// what is returned.
pub(super) fn start(hosts: &[Address]) -> (watch::Receiver<Known>, JoinSet<()>) {
    let found = hosts.iter().map(|host| (host.clone(), Found::default())).collect();
    let gathered = Arc::new(Mutex::new(Gathered { hosts: found, servers: HashMap::new() }));
    let (tell, known) = watch::channel(Known { waiting: hosts.len(), ..Known::default() });
    let tell = Arc::new(tell);
    let mut looking = JoinSet::new();
    for (number, host) in hosts.iter().enumerate() {
        let report = {
            let (gathered, tell) = (Arc::clone(&gathered), Arc::clone(&tell));
            move |answer| {
                let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                gathered.take(number, answer);
                tell.send_replace(gathered.known());
            }
        };
        match host.host.parse::<IpAddr>() {
            Ok(address) => {
                report(Ok(vec![SocketAddr::new(address, host.port)]));
                // Whoever waits must not take the end of all reports for that
                // of the service.
                looking.spawn(async move {
                    let _report = report;
                    std::future::pending().await
                });
            }
            Err(_) => _ = looking.spawn(look_up_for_ever(host.clone(), report)),
        }
    }
    (known, looking)
}

/// However long an answer takes: the next question waits for it, so that a
/// silent resolver holds no more than a thread for each name.
async fn look_up_for_ever(host: Address, report: impl Fn(io::Result<Vec<SocketAddr>>)) {
    loop {
        report(host.look_up().await);
        sleep(LOOK_UP_EVERY).await;
    }
}

// === impl Known ===

impl Known {
    /// Whether there is a server, or none to wait for.
    pub(crate) fn is_settled(&self) -> bool {
        !self.servers.is_empty() || self.waiting == 0
    }
}

// === impl Gathered ===

impl Gathered {
    fn take(&mut self, number: usize, answer: io::Result<Vec<SocketAddr>>) {
        let (host, found) = &mut self.hosts[number];
        let (now, lost_before) = (Instant::now(), found.lost.take());
        let why = match answer {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.sort_unstable();
                addresses.dedup();
                if lost_before.is_some() {
                    tracing::info!(name = %host.host, "name resolved again");
                }
                found.addresses = addresses;
                found.at = Some(now);
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        let why = format!("{}: cannot be resolved: {why}", host.host);
        if lost_before.as_ref() != Some(&why) {
            tracing::warn!("{why}");
        }
        found.lost = Some(why);
        // The resolver may be away for a while, and the servers not.
        if found.at.is_none_or(|at| now - at > KEPT) {
            found.addresses.clear();
        }
        found.at.get_or_insert(now);
    }

    fn known(&mut self) -> Known {
        let mut servers: Vec<Arc<Server>> = Vec::new();
        for (host, found) in &self.hosts {
            for &address in &found.addresses {
                // Of several hosts, the first stands for it.
                if servers.iter().all(|server| server.address != address) {
                    let server = self.servers.entry(address);
                    servers.push(Arc::clone(
                        server.or_insert_with(|| Arc::new(Server::new(address, host.clone()))),
                    ));
                }
            }
        }
        self.servers.retain(|address, server| {
            server.connections() > 0 || servers.iter().any(|used| used.address == *address)
        });
        Known {
            servers: servers.into(),
            lost: self.hosts.iter().find_map(|(_, found)| found.lost.clone()),
            waiting: self.hosts.iter().filter(|(_, found)| found.at.is_none()).count(),
        }
    }
}

/// Time between an answer and the next question.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// How long what a name stood for is used when it stands for nothing now.
const KEPT: Duration = Duration::from_secs(300);
