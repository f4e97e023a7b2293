//! One shard that this process asks for, holds and gives back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Held, Settings,
    figures::{Outcome, figures},
    lease::{Leases, Refusal, Role, Taken},
    observed::{After, Free},
};
use crate::term::{Moment, Tenure, Term};

/// A shard, from asking for it until it is left.
pub(super) struct Tenancy {
    pub(super) shard: u32,
    pub(super) free: Free,
    pub(super) leases: Leases,
    pub(super) settings: Arc<Settings>,
    /// So many may be asked for at once.
    pub(super) asking: Arc<Semaphore>,
    pub(super) held: Arc<watch::Sender<Held>>,
    /// Everything is given back.
    pub(super) draining: CancellationToken,
    /// This one is: a child of the above.
    pub(super) leaving: CancellationToken,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Another process was faster.
    Refused,
    /// The lease could not be asked for, for this reason.
    Failed(String),
    GivenBack,
    Lost,
}

// === impl Tenancy ===

impl Tenancy {
    pub(super) async fn run(self) -> (u32, Ended) {
        (self.shard, self.ask_and_hold().await)
    }

    async fn ask_and_hold(&self) -> Ended {
        let asked = {
            let Ok(_permit) = self.asking.acquire().await else { return Ended::Refused };
            if self.leaving.is_cancelled() {
                return Ended::GivenBack;
            }
            self.leases.take(Role::Shard(self.shard), self.free.stored.as_ref()).await
        };
        let shard = self.shard;
        match asked {
            Ok((taken, sent)) => self.hold(taken, sent).await,
            Err(Refusal::Conflict | Refusal::Gone) => {
                tracing::debug!(shard, "another process was faster");
                Ended::Refused
            }
            Err(Refusal::Failed(error)) => {
                tracing::debug!(shard, error, "the shard cannot be asked for");
                Ended::Failed(error)
            }
        }
    }

    async fn hold(&self, mut taken: Taken, sent: Moment) -> Ended {
        let mut until = self.leases.until(sent);
        let (mut tenure, term) = Term::new(until);
        self.publish(Some(term));
        self.say_taken();
        let pause = self.settings.pause();
        // Shards that were taken together are not renewed together.
        let mut next = sent.plus(pause.mul_f32(0.5 + fastrand::f32() / 2.0));
        let mut failure = None;
        let mut ending = false;
        loop {
            tokio::select! {
                biased;
                () = reached(until) => {
                    let why = failure.unwrap_or_else(|| "no answer".to_owned());
                    return self.lose(tenure, &format!("the lease could not be renewed in time: {why}")).await;
                }
                () = tenure.vacated(), if ending => break,
                () = self.leaving.cancelled(), if !ending => {
                    ending = true;
                    tenure.end();
                    self.publish(None);
                }
                renewed = self.renew(&taken, next) => match renewed {
                    Ok((newer, sent)) => {
                        figures().renewed(Outcome::Ok);
                        (taken, until) = (newer, self.leases.until(sent));
                        tenure.extend(until);
                        next = sent.plus(pause);
                    }
                    Err(Refusal::Failed(why)) => {
                        figures().renewed(Outcome::Failed);
                        tracing::debug!(shard = self.shard, error = why, "the lease was not renewed: tried again");
                        failure = Some(why);
                        next = Moment::now().plus(pause / 5);
                    }
                    Err(refusal) => {
                        figures().renewed(Outcome::Lost);
                        return self.lose(tenure, &refusal.to_string()).await;
                    }
                }
            }
        }
        self.release(&taken, until).await;
        Ended::GivenBack
    }

    async fn renew(&self, taken: &Taken, at: Moment) -> Result<(Taken, Moment), Refusal> {
        reached(at).await;
        self.leases.renew(taken).await
    }

    async fn lose(&self, mut tenure: Tenure, why: &str) -> Ended {
        tenure.extend(Moment::now());
        tenure.end();
        self.publish(None);
        tracing::warn!(shard = self.shard, why, "shard lost");
        tenure.vacated().await;
        Ended::Lost
    }

    /// Tried until it runs out by itself.
    async fn release(&self, taken: &Taken, until: Moment) {
        let (shard, why) = (self.shard, if self.draining.is_cancelled() { "drain" } else { "surplus" });
        tracing::info!(shard, why, "shard left");
        loop {
            match self.leases.release(taken).await {
                Err(Refusal::Failed(error)) if Moment::now() < until => {
                    tracing::debug!(shard, error, "the lease was not given back: tried again");
                    sleep(self.settings.pause() / 10).await;
                }
                Err(error) => {
                    let error = error.to_string();
                    tracing::warn!(
                        shard,
                        why,
                        error,
                        "the lease of a shard that was left could not be given back"
                    );
                    return;
                }
                Ok(()) => {
                    tracing::info!(shard, why, "shard given back");
                    return;
                }
            }
        }
    }

    fn publish(&self, term: Option<Term>) {
        self.held.send_modify(|held| {
            let mut newer = BTreeMap::clone(held);
            match term {
                Some(term) => newer.insert(self.shard, term),
                None => newer.remove(&self.shard),
            };
            *held = Arc::new(newer);
        });
    }

    fn say_taken(&self) {
        let after = match self.free.after {
            After::Free => "free",
            After::Expired => "expired",
            After::Created => "created",
        };
        let lease = self.leases.name(Role::Shard(self.shard));
        tracing::info!(shard = self.shard, lease, after, was = self.free.was, "shard taken");
    }
}

/// Waits for a moment.
pub(super) async fn reached(moment: Moment) {
    loop {
        match moment.after(Moment::now()) {
            Duration::ZERO => return,
            // Tokio's clock stands still while the machine sleeps.
            left => sleep(left.min(Duration::from_secs(1))).await,
        }
    }
}
