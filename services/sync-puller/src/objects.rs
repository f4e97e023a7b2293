//! Sources as objects of a cluster: `TentacleSource`.
//!
//! A watch shows what is wanted; what a spec says becomes the options of a
//! source as those of the YAML file do, with the secrets that it names read
//! through the API. How a source stands is written into its status by whoever
//! pulls it.

mod entry;
mod events;
mod follower;
mod resource;
mod secrets;
mod spec;
mod status;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use transport::Address;

use self::{events::Events, follower::Follower, resource::TentacleSource, secrets::Secrets};
use crate::{options::Given, puller::Sources};

/// Follows the objects, for as long as it is held.
pub(crate) struct Objects {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Objects {
    /// Watches the objects of the namespace, and writes their statuses as
    /// `identity`. What they say stands above what is `given` for all sources;
    /// an address that is in `own` is not theirs. Returns without waiting for
    /// the API server: there is no source at first. Must be called within a
    /// tokio runtime.
    pub(crate) fn start(
        client: Client,
        namespace: String,
        identity: String,
        given: Arc<Given>,
        own: BTreeSet<Address>,
    ) -> (Self, watch::Receiver<Sources>) {
        let (sender, sources) = watch::channel(Sources::default());
        let resource = ApiResource::erase::<TentacleSource>(&());
        let follower = Follower {
            // Each is read by itself: one that is not as it should be must not
            // hide the others.
            api: Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource),
            secrets: Secrets::new(Api::namespaced(client.clone(), &namespace)),
            events: Events::new(client, &identity),
            given,
            own,
            namespace,
            identity,
            sources: sender,
            entries: Default::default(),
            listed: BTreeSet::new(),
            writes: Default::default(),
            is_naming_others: false,
            is_changed: false,
            trouble: None,
        };
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run(stop.clone())));
        (Self { stop, task }, sources)
    }

    /// Writes the last statuses: what was fetched, and that nothing is pulled
    /// here any more. To be called when nothing is; takes 5 s at most.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        if timeout(LAST_WORDS, self.task).await.is_err() {
            tracing::warn!("not every status could be written before the end");
        }
    }
}

/// How long the last statuses may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
