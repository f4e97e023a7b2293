//! One named source: the buffers that its name stands for, each pulled by
//! itself.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use security::CertificateCheck;
use spool::blocking::spawn_blocking;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::timeout,
};

use crate::{
    bounds::Bounds,
    destination::{Destination, Kind},
    lookup::{Buffers, Home, Lookups, Resolver, buffers},
    options,
    orphans::Orphans,
    report::Report,
    rounds::{self, Emptied},
    source::Source,
    term::Term,
    upstream::Upstream,
};

/// A source as it was named.
pub(crate) struct Site {
    options: options::Source,
    upstream: Upstream,
    destination: Destination,
    bounds: Bounds,
    /// Where nothing is staged, there are none.
    orphans: Option<Arc<Orphans>>,
    resolver: Resolver,
    term: Term,
    report: Report,
    /// What the name stands for.
    wanted: Buffers,
    /// What is being pulled.
    pulled: Vec<Pulled>,
    tasks: JoinSet<Emptied>,
}

/// A buffer that is being pulled.
struct Pulled {
    task: Id,
    home: Home,
    addresses: Vec<SocketAddr>,
    /// Dropped: it ends after its round.
    stays: Option<watch::Sender<()>>,
}

impl Site {
    /// Must be called within a tokio runtime; blocks.
    pub(crate) fn new(
        options: options::Source,
        destination: Destination,
        bounds: Bounds,
        resolver: Resolver,
        once: bool,
        term: Term,
        report: Report,
    ) -> anyhow::Result<Self> {
        let upstream = Upstream::start(
            options.address.clone(),
            options.deadline,
            options.tls.clone(),
            options.password.clone(),
        )?;
        let orphans = match destination.kind() {
            Kind::Servers(_) => None,
            Kind::Folder(incoming) => {
                let folders = options.named().map(|(_, folder)| folder).collect();
                // One round cannot wait for anything to come back.
                let patience = if once { Duration::ZERO } else { COMES_BACK_WITHIN };
                let address = options.address.clone();
                Some(Arc::new(Orphans::new(address, folders, Arc::clone(incoming), patience)))
            }
        };
        Ok(Self {
            options,
            upstream,
            destination,
            bounds,
            orphans,
            resolver,
            term,
            report,
            wanted: Buffers::new(),
            pulled: Vec::new(),
            tasks: JoinSet::new(),
        })
    }

    /// Whether the certificates are in order; none where connections are not
    /// encrypted.
    pub(crate) fn check(&self) -> Option<CertificateCheck> {
        self.upstream.check()
    }

    /// Pulls until the term ends; begins after `first`.
    pub(crate) async fn pull(mut self, first: Duration) {
        let pause = self.options.interval.min(LOOK_UP_EVERY);
        let patience = self.options.deadline.as_duration();
        let (address, resolver) = (self.options.address.clone(), Arc::clone(&self.resolver));
        let mut lookups = Lookups::new(address, resolver, (pause, patience), self.report.clone());
        let is_name = self.options.address.host.parse::<IpAddr>().is_err();
        let term = self.term.clone();
        tokio::select! {
            () = tokio::time::sleep(first) => {}
            () = term.ending() => return,
        }
        loop {
            tokio::select! {
                wanted = lookups.changed(), if is_name || self.wanted.is_empty() => {
                    self.wanted = wanted;
                    if self.wanted.is_empty() {
                        self.report.failed(format!("{}: the name stands for no address now", self.options.address));
                    }
                    self.say();
                }
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                // What could not be started is tried again.
                () = tokio::time::sleep(pause), if self.pulled.len() < self.wanted.len() => {}
                () = term.ending() => break,
            }
            self.follow().await;
        }
        drop(lookups);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Pulls each buffer until it has nothing more; whether nothing is left.
    pub(crate) async fn pull_once(mut self) -> Emptied {
        let address = &self.options.address;
        let patience = self.options.deadline.as_duration();
        let found = match timeout(patience, (self.resolver)(address.clone())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", patience.as_secs_f32())),
        };
        self.wanted = match found {
            Ok(found) => buffers(&found, false),
            Err(error) => {
                tracing::warn!(source = %address, error, "the name cannot be looked up");
                return Emptied::No;
            }
        };
        self.say();
        if self.wanted.is_empty() {
            return Emptied::No;
        }
        let mut emptied = if self.start_all(true).await { Emptied::Yes } else { Emptied::No };
        while let Some(one) = self.tasks.join_next().await {
            if !matches!(one, Ok(Emptied::Yes)) {
                emptied = Emptied::No;
            }
        }
        if let Some(orphans) = &self.orphans
            && !orphans.is_empty().await
        {
            tracing::warn!(source = %self.options.address, "files that were fetched from addresses that are gone wait until each of the name's buffers has said that it does not have them");
            emptied = Emptied::No;
        }
        emptied
    }

    /// Lets go of the buffers that the name no longer stands for, and starts
    /// the new ones.
    async fn follow(&mut self) {
        for pulled in &mut self.pulled {
            if self.wanted.get(&pulled.home) != Some(&pulled.addresses) {
                pulled.stays = None;
            }
        }
        // A new address may lead to the buffer of one that is gone: two
        // sources must not pull it at once, and what the first one leaves
        // staged must be seen by the second one before it takes anything.
        if self.pulled.iter().all(|pulled| pulled.stays.is_some()) {
            self.start_all(false).await;
        }
    }

    /// Starts what is not being pulled; whether nothing went wrong.
    async fn start_all(&mut self, once: bool) -> bool {
        if let Some(orphans) = &self.orphans {
            let current: BTreeSet<_> = self.wanted.keys().copied().collect();
            if let Err(error) = orphans.look(current).await {
                tracing::error!(source = %self.options.address, error = format!("{error:#}"), "cannot look for what is staged");
                return false;
            }
        }
        let mut is_well = true;
        for (home, addresses) in self.wanted.clone() {
            if self.pulled.iter().any(|pulled| pulled.home == home) {
                continue;
            }
            if let Err(error) = self.start(home, addresses, once).await {
                tracing::error!(source = %self.options.address, error = format!("{error:#}"), "cannot be pulled");
                is_well = false;
            }
        }
        is_well
    }

    async fn start(&mut self, home: Home, addresses: Vec<SocketAddr>, once: bool) -> anyhow::Result<()> {
        let (options, destination) = (self.options.clone(), self.destination.clone());
        let (upstream, orphans) = (self.upstream.at(addresses.clone()), self.orphans.clone());
        let (bounds, term) = (self.bounds.clone(), self.term.clone());
        let opening =
            spawn_blocking(move || Source::new(options, upstream, home, destination, orphans, bounds, term));
        let source = opening.await??;
        let (stays, gone) = watch::channel(());
        let report = self.report.clone();
        let task = self.tasks.spawn(async move {
            match once {
                true => rounds::pull_once(source).await,
                false => {
                    rounds::pull(source, report, gone).await;
                    Emptied::Yes
                }
            }
        });
        self.pulled.push(Pulled { task: task.id(), home, addresses, stays: Some(stays) });
        Ok(())
    }

    fn ended(&mut self, ended: Result<(Id, Emptied), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        self.pulled.retain(|pulled| pulled.task != id);
    }

    fn say(&self) {
        let (source, buffers) = (&self.options.address, self.wanted.len());
        let addresses: Vec<_> =
            self.wanted.values().flatten().map(|address| address.ip().to_string()).collect();
        let addresses = addresses.join(" ");
        match buffers {
            0 => tracing::warn!(%source, "the name stands for no address now"),
            1 => tracing::debug!(%source, addresses, "the name stands for one buffer"),
            _ => {
                tracing::info!(%source, buffers, addresses, "the name stands for several buffers, each pulled by itself")
            }
        }
    }
}

/// How often a name is looked up, at least.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

/// How long what is staged for an address that is gone waits for its buffer to
/// come back at another one: a pod of a node that failed is given up after
/// 5 minutes, as a rule, and has to start after that.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(600);
