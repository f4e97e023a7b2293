//! Accepts connections and passes each on, until the service ends.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use protocol::Deadline;
use runtime::{
    drain::{Drain, DrainWatch},
    telemetry::SPANS,
};
use security::Place;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
};
use transport::{Listeners, TcpStream};

use crate::{
    carry::{Broken, Carried, carry},
    entrance::{Entered, Entrance, NotEntered},
    options::Inspect,
    upstreams::{Connected, Tried, Upstreams},
    watch::{Sums, Watch},
};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    entrance: Entrance,
    upstreams: Arc<Upstreams>,
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
        upstreams: Arc<Upstreams>,
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
            let (stream, peer) = listeners.accept().await;
            tracing::debug!(%peer, "connection accepted");
            let place = match self.entrance.place(peer).await {
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
                let span = tracing::info_span!(
                    target: SPANS,
                    "session",
                    otel.kind = "server",
                    network.transport = "tcp",
                    network.peer.address = %peer.ip(),
                    network.peer.port = peer.port(),
                    client.address = Empty,
                    server.address = Empty,
                    tentacle.bytes.in = Empty,
                    tentacle.bytes.out = Empty,
                    tentacle.outcome = Empty,
                    tentacle.reason = Empty,
                );
                let session = Box::pin(server.serve_one(stream, peer, place).instrument(span));
                if server.drain.unless_cut(session).await.is_none() {
                    tracing::warn!(%peer, "connection cut: the service ends");
                }
            });
        }
    }

    async fn serve_one(&self, client: TcpStream, mut peer: SocketAddr, place: Place) {
        // Apart, so that its room is free once there is a session.
        let Some(mut client) = Box::pin(self.enter(client, &mut peer, place)).await else { return };
        let began = Instant::now();
        let mut tried = Tried::default();
        loop {
            let connected = Box::pin(self.connect(&mut client, peer, &tried)).await;
            let Some(Connected { mut stream, server, counted: _counted }) = connected else { return };
            let upstream = server.address;
            let watch = self
                .inspect
                .map(|Inspect { strict }| Watch::new(peer, upstream, strict, Arc::clone(&self.sums)));
            let head = std::mem::take(&mut client.head);
            let carried =
                carry(&mut client.stream, head, &mut stream, self.idle, &self.sums, watch.as_ref()).await;
            let Carried { sent, received, end } = carried;
            if matches!(end, Err(Broken::ClosedAtOnce)) {
                self.upstreams.closed_at_once(&server, &mut tried);
                continue;
            }
            let seconds = began.elapsed().as_secs_f32();
            let counts = watch.map(Watch::finish);
            let (files, refused) = (counts.map(|counts| counts.files), counts.map(|counts| counts.refused));
            let span = Span::current();
            span.record("client.address", display(peer.ip()))
                .record("server.address", display(upstream))
                .record("tentacle.bytes.in", sent)
                .record("tentacle.bytes.out", received)
                .record("tentacle.outcome", if end.is_ok() { "ok" } else { "broken" });
            return match end {
                Ok(()) => {
                    tracing::info!(%peer, %upstream, sent, received, files, refused, seconds, "session passed on")
                }
                Err(why) => {
                    span.record("tentacle.reason", display(&why));
                    tracing::warn!(%peer, %upstream, sent, received, files, refused, seconds, "session broken off: {why}")
                }
            };
        }
    }

    /// A server for the client, which is closed where there is none.
    async fn connect(&self, client: &mut Entered, peer: SocketAddr, tried: &Tried) -> Option<Connected> {
        let connected = match self.upstreams.own_address(&client.stream) {
            Ok(own) => self.upstreams.connect((peer, own), tried).await,
            Err(error) => {
                tracing::debug!(%peer, %error, "connection gone before it was passed on");
                return None;
            }
        };
        match connected {
            Ok(connected) => Some(connected),
            Err(why) => {
                Span::current()
                    .record("tentacle.outcome", "no upstream")
                    .record("tentacle.reason", display(&why));
                tracing::warn!(%peer, "connection closed: {why}");
                let _ = timeout(self.idle, client.stream.shutdown()).await;
                None
            }
        }
    }

    /// What comes before a server is looked for; none where the client is not
    /// let in. Behind another proxy, `peer` becomes what that says.
    async fn enter(&self, client: TcpStream, peer: &mut SocketAddr, place: Place) -> Option<Entered> {
        let entered = tokio::select! {
            biased;
            entered = self.entrance.enter(client, peer, place) => entered,
            // Nothing is under way yet that would be lost.
            () = self.drain.started() => Err(NotEntered::Drained),
        };
        if let Err(why) = &entered {
            Span::current().record("tentacle.outcome", "refused").record("tentacle.reason", display(why));
        }
        match entered {
            Ok(client) => Some(client),
            Err(why) if why.is_ordinary() => {
                tracing::info!(%peer, "connection closed: {why}");
                None
            }
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                None
            }
        }
    }
}
