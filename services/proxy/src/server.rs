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
    upstreams::Upstreams,
};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    entrance: Entrance,
    upstreams: Upstreams,
    /// How long a session may go without a byte.
    idle: Duration,
    drain: DrainWatch,
    sessions: TaskTracker,
}

impl Server {
    pub(crate) fn new(
        entrance: Entrance,
        upstreams: Upstreams,
        deadline: Deadline,
        drain: &Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            entrance,
            upstreams,
            idle: deadline.as_duration(),
            drain: drain.watch(),
            sessions: drain.tracker(),
        })
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
            tracing::info!(%peer, "connection accepted");
            let place = match self.entrance.place(peer, permit).await {
                Ok(place) => place,
                Err(why) => {
                    tracing::warn!(%peer, "connection closed: {why}");
                    continue;
                }
            };
            let server = Arc::clone(&self);
            self.sessions.spawn(async move {
                if server.drain.unless_cut(server.serve_one(stream, peer, place)).await.is_none() {
                    tracing::warn!(%peer, "connection cut: the service ends");
                }
            });
        }
    }

    async fn serve_one(&self, client: TcpStream, peer: SocketAddr, place: Place) {
        // What comes in small pieces goes out as it comes.
        if let Err(error) = client.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection gone before it was passed on");
            return;
        }
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
                return;
            }
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                return;
            }
        };
        let began = Instant::now();
        let mut upstream = match self.upstreams.connect().await {
            Ok(upstream) => upstream,
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                let _ = timeout(self.idle, client.stream.shutdown()).await;
                return;
            }
        };
        let Entered { stream, head, .. } = &mut client;
        let Carried { sent, received, end } =
            carry(stream, std::mem::take(head), &mut upstream.stream, self.idle).await;
        let seconds = began.elapsed().as_secs_f32();
        let upstream = upstream.address;
        match end {
            Ok(()) => tracing::info!(%peer, %upstream, sent, received, seconds, "session passed on"),
            Err(why) => {
                tracing::warn!(%peer, %upstream, sent, received, seconds, "session broken off: {why}")
            }
        }
    }
}
