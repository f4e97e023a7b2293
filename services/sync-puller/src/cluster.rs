//! A part in a Kubernetes cluster: sources that its objects name, and shards
//! of them that are shared with other pullers.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    coordination::{self, Coordination, Held},
    objects::Objects,
    options::{Given, Kubernetes},
    puller::Sources,
};

/// This process's part. Dropped without [`Cluster::leave`], others replace it
/// once its leases have run out.
pub(crate) struct Cluster {
    coordination: Option<Coordination>,
    objects: Option<Objects>,
    _joining: Option<AbortOnDropHandle<()>>,
}

/// What a part in a cluster changes for the puller.
#[derive(Default)]
pub(crate) struct Shown {
    /// All sources, those of the options among them; without objects, none
    /// are added.
    pub(crate) sources: Option<watch::Receiver<Sources>>,
    /// The shards that are held, and how many there are; without sharing,
    /// everything is.
    pub(crate) held: Option<(watch::Receiver<Held>, u32)>,
}

impl Cluster {
    /// Begins at once; returns without waiting for the API server. `own` are
    /// the sources of the options.
    pub(crate) fn join(
        options: &Kubernetes,
        (client, namespace): (Client, String),
        given: Given,
        own: &Sources,
    ) -> (Self, Shown) {
        let mut shown = Shown::default();
        let coordination = options.sharing.as_ref().map(|sharing| {
            let settings = coordination::Settings {
                shards: sharing.shards,
                name: sharing.lease_name.clone(),
                identity: options.identity.clone(),
                duration: sharing.lease_duration,
            };
            let (coordination, held) = Coordination::start(client.clone(), &namespace, settings);
            shown.held = Some((held, sharing.shards));
            coordination
        });
        let mut joining = None;
        let objects = options.custom_resources.then(|| {
            let addresses = own.keys().cloned().collect();
            let (given, identity) = (Arc::new(given), options.identity.clone());
            let (objects, found) = Objects::start(client, namespace, identity, given, addresses);
            let (all, sources) = watch::channel(Arc::clone(own));
            joining = Some(AbortOnDropHandle::new(tokio::spawn(join_sources(Arc::clone(own), found, all))));
            shown.sources = Some(sources);
            objects
        });
        (Self { coordination, objects, _joining: joining }, shown)
    }

    /// Gives each shard back as soon as nothing of it is under way any more,
    /// and writes the last statuses when nothing at all is, which `drained`
    /// waits for, at most about `bound`.
    pub(crate) async fn leave(self, drained: impl Future<Output = ()>, bound: Duration) {
        let give_back = async {
            let Some(coordination) = self.coordination else { return };
            if timeout(bound + LAST_REQUESTS, coordination.release()).await.is_err() {
                tracing::warn!(
                    "not every lease could be given back: others replace this process when they have run out"
                );
            }
        };
        tokio::join!(drained, give_back);
        if let Some(objects) = self.objects {
            objects.end().await;
        }
    }
}

/// Tells of both: the options' own sources, and the objects'.
async fn join_sources(own: Sources, mut found: watch::Receiver<Sources>, all: watch::Sender<Sources>) {
    loop {
        let mut joined = (*found.borrow_and_update()).as_ref().clone();
        joined.extend(own.iter().map(|(address, wanted)| (address.clone(), wanted.clone())));
        all.send_replace(Arc::new(joined));
        if found.changed().await.is_err() {
            return;
        }
    }
}

/// How long an API server that does not answer holds up the end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
