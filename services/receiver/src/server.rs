//! Accepts connections and gives each a session, until the service ends.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use runtime::{
    drain::{Drain, DrainWatch, Drained},
    telemetry::SPANS,
};
use security::{Entrance, Place};
use tokio_util::task::TaskTracker;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
};
use transport::{Listeners, TcpStream};

use crate::{session::Session, site::Site};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    entrance: Entrance,
    drain: DrainWatch,
    sessions: TaskTracker,
}

impl Server {
    pub(crate) fn new(site: Arc<Site>, entrance: Entrance, drain: &Drain) -> Arc<Self> {
        Arc::new(Self { site, entrance, drain: drain.watch(), sessions: drain.tracker() })
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
            let (stream, peer) = listeners.accept().await;
            tracing::info!(%peer, "connection accepted");
            let place = match self.entrance.place(peer).await {
                Ok(place) => place,
                Err(why) => {
                    tracing::warn!(%peer, "connection closed: {why}");
                    continue;
                }
            };
            let server = Arc::clone(&self);
            self.sessions.spawn(async move { server.serve_one(stream, peer, place).await });
        }
    }

    async fn serve_one(&self, stream: TcpStream, mut peer: SocketAddr, place: Place) {
        let span = tracing::info_span!(
            target: SPANS,
            "connection",
            otel.kind = "server",
            network.transport = "tcp",
            network.peer.address = %peer.ip(),
            network.peer.port = peer.port(),
            client.address = Empty,
            tentacle.outcome = Empty,
            tentacle.reason = Empty,
        );
        // Handed on by their places, as idle sessions are many: what enters
        // needs no room once it is in.
        let work = Box::pin(async {
            let entered = tokio::select! {
                biased;
                entered = Box::pin(self.entrance.enter(stream, &mut peer, place)) => Some(entered),
                // Nothing is under way yet that would be lost.
                () = self.drain.started() => None,
            };
            if let Some(Err(why)) = &entered {
                Span::current().record("tentacle.outcome", "refused").record("tentacle.reason", display(why));
            }
            match entered {
                Some(Ok((stream, permit))) => {
                    Span::current().record("client.address", display(peer.ip()));
                    Session::new(stream, peer, Arc::clone(&self.site), self.drain.clone()).run(permit).await
                }
                Some(Err(why)) if why.is_ordinary() => tracing::info!(%peer, "connection closed: {why}"),
                Some(Err(why)) => tracing::warn!(%peer, "connection closed: {why}"),
                None => tracing::info!(%peer, "connection closed: the service is ending"),
            }
        });
        if self.drain.unless_cut(work.instrument(span)).await.is_none() {
            tracing::warn!(%peer, "connection cut: the service ends");
        }
    }
}

/// Ends what `drain` holds within `bound`, and says how that went.
pub(crate) async fn end(drain: Drain, bound: Duration) {
    match drain.finish(bound).await {
        Drained::Whole => tracing::info!("ended"),
        Drained::Cut(connections) => tracing::warn!(connections, "ended, with transfers cut"),
    }
}
