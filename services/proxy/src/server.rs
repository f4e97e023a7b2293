//! Accepts connections and passes each on, until the service ends.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use protocol::Deadline;
use runtime::drain::{Drain, DrainWatch};
use security::Access;
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;
use transport::Listeners;

use crate::{
    carry::{Carried, carry},
    options::Inspect,
    upstreams::Upstreams,
    watch::{Sums, Watch},
};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    upstreams: Upstreams,
    access: Access,
    inspect: Option<Inspect>,
    sums: Arc<Sums>,
    /// How long a session may go without a byte.
    idle: Duration,
    /// A permit a session. Without one, the next connection waits in the
    /// system's queue of the listening socket.
    permits: Arc<Semaphore>,
    drain: DrainWatch,
    sessions: TaskTracker,
}

impl Server {
    pub(crate) fn new(
        upstreams: Upstreams,
        access: Access,
        inspect: Option<Inspect>,
        deadline: Deadline,
        max_connections: usize,
        drain: &Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstreams,
            access,
            inspect,
            sums: Arc::default(),
            idle: deadline.as_duration(),
            permits: Arc::new(Semaphore::new(max_connections)),
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
            if self.permits.available_permits() == 0 {
                tracing::warn!("all connections are in use (-c): the next one waits until one ends");
            }
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (stream, peer) = listeners.accept().await;
            tracing::info!(%peer, "connection accepted");
            let server = Arc::clone(&self);
            self.sessions.spawn(async move {
                if server.drain.unless_cut(server.serve_one(stream, peer)).await.is_none() {
                    tracing::warn!(%peer, "connection cut: the service ends");
                }
                drop(permit);
            });
        }
    }

    async fn serve_one(&self, client: TcpStream, peer: SocketAddr) {
        if let Err(why) = self.access.admit_address(peer.ip()) {
            tracing::warn!(%peer, "connection closed: {why}");
            return;
        }
        if let Err(why) = self.access.admit_host(peer.ip()).await {
            tracing::warn!(%peer, "connection closed: {why}");
            return;
        }
        // What comes in small pieces goes out as it comes.
        if let Err(error) = client.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection gone before it was passed on");
            return;
        }
        let began = Instant::now();
        let upstream = match self.upstreams.connect().await {
            Ok(upstream) => upstream,
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                return;
            }
        };
        let watch = self
            .inspect
            .map(|Inspect { strict }| Watch::new(peer, upstream.address, strict, Arc::clone(&self.sums)));
        let Carried { sent, received, end } =
            carry(&client, &upstream.stream, self.idle, watch.as_ref()).await;
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
}
