//! Sources that several processes share, by leases of Kubernetes.
//!
//! Each source is in a shard, and who holds the shard's lease pulls it. A
//! lease of each process's own tells the others that it is there; from who is
//! there, all of them derive the same who should hold which shard. One watch
//! shows all of these leases.
//!
//! No two hold a shard at once, whatever their clocks say: a holder stops a
//! margin before the lease's duration has passed since it sent its last
//! renewal, and another writes the lease only as it saw it for at least the
//! whole duration, which the server refuses if it was renewed meanwhile.

mod figures;
mod lease;
mod member;
mod observed;
mod plan;
mod shards;
mod tenancy;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(crate) use self::shards::shard_of;
use self::{
    figures::figures,
    lease::{LEASE_LABEL, Leases},
    observed::Free,
    plan::{Decisions, Plan},
    tenancy::{Ended, Tenancy, reached},
};
use crate::term::{Moment, Term};

/// The shards that this process holds, each with its term.
pub(crate) type Held = Arc<BTreeMap<u32, Term>>;

/// How sources are shared. All processes that share them must have the same
/// shards and name, each an identity of its own.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) shards: u32,
    /// How the names of all leases begin.
    pub(crate) name: String,
    pub(crate) identity: String,
    /// Of a lease, in whole seconds.
    pub(crate) duration: Duration,
}

/// This process's part in the sharing. Dropped, nothing is renewed any more,
/// and each term is over when its time is.
pub(crate) struct Coordination {
    draining: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// What runs.
struct Sharing {
    settings: Arc<Settings>,
    api: Api<Lease>,
    leases: Leases,
    held: Arc<watch::Sender<Held>>,
    draining: CancellationToken,
    asking: Arc<Semaphore>,
    plan: Plan,
    tenancies: JoinSet<(u32, Ended)>,
    /// To give back each of them.
    leaving: BTreeMap<u32, CancellationToken>,
    sweeping: JoinSet<()>,
    said: Said,
    /// What went wrong with the watch and with asking, each once.
    warned: BTreeMap<&'static str, String>,
}

/// How many shards are held, for the log: once it has settled.
#[derive(Default)]
struct Said {
    last: Option<(usize, usize)>,
    now: Option<(usize, usize)>,
    since: Option<Moment>,
}

// === impl Settings ===

impl Settings {
    /// From one renewal to the next, and the longest wait for an answer.
    fn pause(&self) -> Duration {
        self.duration / 3
    }
}

// === impl Coordination ===

impl Coordination {
    /// Begins at once; returns without waiting for the API server. Must be
    /// called within a tokio runtime.
    pub(crate) fn start(
        client: Client,
        namespace: &str,
        settings: Settings,
    ) -> (Self, watch::Receiver<Held>) {
        let settings = Arc::new(settings);
        let api = Api::<Lease>::namespaced(client, namespace);
        let leases = Leases::new(api.clone(), Arc::clone(&settings));
        let (held, receiver) = watch::channel(Held::default());
        let draining = CancellationToken::new();
        let sharing = Sharing {
            plan: Plan::new(Arc::clone(&settings), Moment::now()),
            settings,
            api,
            leases,
            held: Arc::new(held),
            draining: draining.clone(),
            asking: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
            tenancies: JoinSet::new(),
            leaving: BTreeMap::new(),
            sweeping: JoinSet::new(),
            said: Said::default(),
            warned: BTreeMap::new(),
        };
        (Self { draining, task: AbortOnDropHandle::new(tokio::spawn(sharing.run())) }, receiver)
    }

    /// Gives everything back: this member's own lease, so that nobody leaves a
    /// shard to it, and each shard's as soon as its term is vacated.
    pub(crate) async fn release(self) {
        self.draining.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "what was held is not given back: it runs out");
        }
    }
}

// === impl Sharing ===

impl Sharing {
    async fn run(mut self) {
        let settings = Arc::clone(&self.settings);
        let (leases, draining) = (self.leases.clone(), self.draining.clone());
        let member = tokio::spawn(member::attend(leases, settings, draining.clone()));
        let member = AbortOnDropHandle::new(member);
        while draining.run_until_cancelled(self.follow()).await.is_some() {}
        self.sweeping.abort_all();
        while self.tenancies.join_next().await.is_some() {}
        figures().counted(0, self.plan.members());
        if let Err(error) = member.await {
            tracing::error!(%error, "the lease of this member is not deleted: it runs out");
        }
    }

    /// Follows the leases, until the watch is deaf and another one is needed.
    async fn follow(&mut self) {
        let selector = format!("{LEASE_LABEL}={}", self.settings.name);
        let config = watcher::Config::default().labels(&selector);
        let mut shown = pin!(watcher(self.api.clone(), config).default_backoff());
        let began = Moment::now();
        let mut changes = self.held.subscribe();
        loop {
            let now = Moment::now();
            let next = self.work(now).min(now.plus(LONGEST_WAIT));
            // A connection that leads nowhere does not say so.
            if self.plan.is_deaf(now) && now.after(began) > self.settings.duration {
                tracing::debug!("the watch of the leases shows nothing: begun anew");
                return;
            }
            tokio::select! {
                event = shown.next() => match event {
                    Some(Ok(event)) => {
                        self.plan.see(event, Moment::now());
                    }
                    Some(Err(error)) => {
                        self.warn("the leases cannot be watched: tried again", error.to_string());
                    }
                    None => return,
                },
                Some(ended) = self.tenancies.join_next() => match ended {
                    Ok((shard, ended)) => {
                        self.leaving.remove(&shard);
                        self.plan.ended(shard, &ended, Moment::now());
                        if let Ended::Failed(error) = ended {
                            self.warn("shards cannot be asked for: tried again", error);
                        }
                    }
                    Err(error) => tracing::error!(%error, "a shard is not renewed any more"),
                },
                Some(_) = self.sweeping.join_next() => {}
                _ = changes.changed() => {}
                () = reached(next) => {}
            }
        }
    }

    /// Does what is to be done now; until when there is nothing more.
    fn work(&mut self, now: Moment) -> Moment {
        let held: BTreeSet<_> = self.held.borrow().keys().copied().collect();
        let Decisions { ask, give_back, swept, next } = self.plan.decide(&held, now);
        for (shard, free) in ask {
            self.ask(shard, free);
        }
        if let Some(leaving) = give_back.and_then(|shard| self.leaving.get(&shard)) {
            leaving.cancel();
        }
        for (name, version) in swept {
            let leases = self.leases.clone();
            self.sweeping.spawn(async move {
                // Another process may have deleted it.
                let _ = leases.delete(&name, Some(version)).await;
            });
        }
        figures().counted(held.len(), self.plan.members());
        let said = self.said.say((held.len(), self.plan.members()), now);
        next.into_iter().chain(said).min().unwrap_or(Moment::NEVER)
    }

    /// Says what goes wrong, once until it is another thing or shards were
    /// settled again.
    fn warn(&mut self, what: &'static str, error: String) {
        if self.warned.get(what) != Some(&error) {
            tracing::warn!(error, "{what}");
            self.warned.insert(what, error);
        }
    }

    fn ask(&mut self, shard: u32, free: Free) {
        let leaving = self.draining.child_token();
        self.leaving.insert(shard, leaving.clone());
        let tenancy = Tenancy {
            shard,
            free,
            leases: self.leases.clone(),
            settings: Arc::clone(&self.settings),
            asking: Arc::clone(&self.asking),
            held: Arc::clone(&self.held),
            draining: self.draining.clone(),
            leaving,
        };
        self.tenancies.spawn(tenancy.run());
    }
}

// === impl Said ===

impl Said {
    /// So many shards are held, of so many members; when to say so.
    fn say(&mut self, (shards, members): (usize, usize), now: Moment) -> Option<Moment> {
        if self.now != Some((shards, members)) {
            (self.now, self.since) = (Some((shards, members)), Some(now));
        }
        let settled = self.since?.plus(SETTLED_AFTER);
        if now >= settled {
            self.since = None;
            if self.last != self.now {
                self.last = self.now;
                tracing::info!(shards, members, "shards held");
            }
            return None;
        }
        Some(settled)
    }
}

/// Requests for shards; a renewal must not wait behind a thousand of them.
const ASKED_AT_ONCE: usize = 16;

/// Tokio's clock stands still while the machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long the number of shards must stay for the log to tell it.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
