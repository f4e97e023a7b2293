//! The lease that says that this process is there to share shards.

use std::sync::Arc;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    lease::{Leases, Refusal, Role},
    tenancy::reached,
};
use crate::term::Moment;

/// Keeps the lease until the drain, and then deletes it at once: others ask
/// for what this process gives back only once they do not expect it to.
pub(super) async fn attend(leases: Leases, settings: Arc<Settings>, draining: CancellationToken) {
    if draining.run_until_cancelled(keep(&leases, &settings)).await.is_some() {
        return;
    }
    for _ in 0..TRIES {
        match leases.delete(&leases.name(Role::Member), None).await {
            Err(Refusal::Failed(error)) => {
                tracing::debug!(error, "the lease of this member was not deleted: tried again");
                sleep(settings.pause() / 10).await;
            }
            _ => return,
        }
    }
    tracing::warn!("the lease of this member could not be deleted: others wait until it has run out");
}

async fn keep(leases: &Leases, settings: &Settings) {
    let mut taken = None;
    let mut failing = false;
    loop {
        let written = match &taken {
            None => leases.seize(Role::Member).await,
            Some(taken) => leases.renew(taken).await,
        };
        let next = match written {
            Ok((newer, sent)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the lease of this member is renewed again");
                }
                taken = Some(newer);
                sent.plus(settings.pause())
            }
            Err(Refusal::Failed(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error, "the lease of this member cannot be written: tried again");
                }
                Moment::now().plus(settings.pause() / 5)
            }
            Err(_) => {
                if taken.take().is_some() {
                    let identity = &settings.identity;
                    tracing::warn!(
                        identity,
                        "another process writes the lease of this member (give each process an --identity of its own)"
                    );
                }
                Moment::now().plus(settings.pause().mul_f32(fastrand::f32()))
            }
        };
        reached(next).await;
    }
}

/// To delete the lease.
const TRIES: u32 = 5;
