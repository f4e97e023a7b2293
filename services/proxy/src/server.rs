//! Accepts connections and passes each on, until the service ends.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use protocol::{ConnectionError, Deadline};
use runtime::drain::{Drain, DrainWatch};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;
use transport::Listeners;

use crate::{
    carry::{Carried, carry},
    entrance::{Entered, Entrance, NotEntered, Place},
    options::Inspect,
    upstreams::{Connected, Upstreams},
    watch::{Sums, Watch},
};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    entrance: Entrance,
    upstreams: Upstreams,
    inspect: Option<Inspect>,
    sums: Arc<Sums>,
    /// How long a session may go without a byte.
    idle: Duration,
    drain: DrainWatch,
    sessions: TaskTracker,
}

impl Server {
    pub(crate) fn new(
        entrance: Entrance,
        upstreams: Upstreams,
        inspect: Option<Inspect>,
        deadline: Deadline,
        drain: &Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            entrance,
            upstreams,
            inspect,
            sums: Arc::default(),
            idle: deadline.as_duration(),
            drain: drain.watch(),
            sessions: drain.tracker(),
        })
    }

    /// What has gone over since the start.
    pub(crate) fn sums(&self) -> Arc<Sums> {
        Arc::clone(&self.sums)
    }

    /// Serves all of `listeners` until the drain starts.
    pub(crate) async fn serve(self: Arc<Self>, listeners: Listeners) {
        let drain = self.drain.clone();
        tokio::select! {
            () = drain.started() => {}
            never = self.accept(listeners) => match never {},
        }
    }

    async fn accept(self: Arc<Self>, mut listeners: Listeners) -> Infallible {
        loop {
            let permit = self.entrance.ready().await;
            let (stream, peer) = listeners.accept().await;
            tracing::debug!(%peer, "connection accepted");
            let place = match self.entrance.place(peer, permit).await {
                Ok(place) => place,
                Err(why) => {
                    tracing::warn!(%peer, "connection closed: {why}");
                    continue;
                }
            };
            let server = Arc::clone(&self);
            self.sessions.spawn(async move {
                // Handed on by its place: it is the most of what a session
                // holds.
                let session = Box::pin(server.serve_one(stream, peer, place));
                if server.drain.unless_cut(session).await.is_none() {
                    tracing::warn!(%peer, "connection cut: the service ends");
                }
            });
        }
    }

    async fn serve_one(&self, client: TcpStream, mut peer: SocketAddr, place: Place) {
        // Apart, so that its room is free once there is a session.
        let entered = Box::pin(self.enter(client, &mut peer, place)).await;
        let Some((mut client, mut upstream)) = entered else { return };
        let began = Instant::now();
        let Entered { stream, head, .. } = &mut client;
        let watch = self
            .inspect
            .map(|Inspect { strict }| Watch::new(peer, upstream.address, strict, Arc::clone(&self.sums)));
        let Carried { sent, received, end } =
            carry(stream, std::mem::take(head), &mut upstream.stream, self.idle, &self.sums, watch.as_ref())
                .await;
        let seconds = began.elapsed().as_secs_f32();
        let upstream = upstream.address;
        let counts = watch.map(Watch::finish);
        let (files, refused) = (counts.map(|counts| counts.files), counts.map(|counts| counts.refused));
        match end {
            Ok(()) => {
                tracing::info!(%peer, %upstream, sent, received, files, refused, seconds, "session passed on")
            }
            Err(why) => {
                tracing::warn!(%peer, %upstream, sent, received, files, refused, seconds, "session broken off: {why}")
            }
        }
    }

    /// What comes before a session's bytes; none where there is no session.
    /// Behind another proxy, `peer` becomes what that says.
    async fn enter(
        &self,
        client: TcpStream,
        peer: &mut SocketAddr,
        place: Place,
    ) -> Option<(Entered, Connected)> {
        // What comes in small pieces goes out as it comes.
        let own = match client.set_nodelay(true).and_then(|()| client.local_addr()) {
            Ok(own) => own,
            Err(error) => {
                tracing::debug!(%peer, %error, "connection gone before it was passed on");
                return None;
            }
        };
        let entered = tokio::select! {
            biased;
            entered = self.entrance.enter(client, peer, place) => entered,
            // Nothing is under way yet that would be lost.
            () = self.drain.started() => Err(NotEntered::Drained),
        };
        let mut client = match entered {
            Ok(client) => client,
            Err(why @ (NotEntered::Drained | NotEntered::Connection(ConnectionError::Closed))) => {
                tracing::info!(%peer, "connection closed: {why}");
                return None;
            }
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                return None;
            }
        };
        match self.upstreams.connect((*peer, own)).await {
            Ok(upstream) => Some((client, upstream)),
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                let _ = timeout(self.idle, client.stream.shutdown()).await;
                None
            }
        }
    }
}
