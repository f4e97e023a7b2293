//! Accepts connections and passes each on, until the service ends.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use protocol::Deadline;
use runtime::drain::{Drain, DrainWatch};
use security::{Access, Refused};
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;
use transport::Listeners;

use crate::{
    carry::{Carried, carry},
    upstreams::{Connected, NoUpstream, Upstreams},
};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    upstreams: Upstreams,
    access: Access,
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
        deadline: Deadline,
        max_connections: usize,
        drain: &Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstreams,
            access,
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
            tracing::debug!(%peer, "connection accepted");
            let server = Arc::clone(&self);
            self.sessions.spawn(async move {
                // Handed on by its place: it is the most of what a session
                // holds.
                let session = Box::pin(server.serve_one(stream, peer));
                if server.drain.unless_cut(session).await.is_none() {
                    tracing::warn!(%peer, "connection cut: the service ends");
                }
                drop(permit);
            });
        }
    }

    async fn serve_one(&self, client: TcpStream, peer: SocketAddr) {
        let began = Instant::now();
        // Apart, so that its room is free once there is a session.
        let upstream = match Box::pin(self.enter(&client, peer)).await {
            Ok(upstream) => upstream,
            Err(why) => return tracing::warn!(%peer, "connection closed: {why}"),
        };
        let Carried { sent, received, end } = carry(&client, &upstream.stream, self.idle).await;
        let seconds = began.elapsed().as_secs_f32();
        let upstream = upstream.address;
        match end {
            Ok(()) => tracing::info!(%peer, %upstream, sent, received, seconds, "session passed on"),
            Err(why) => {
                tracing::warn!(%peer, %upstream, sent, received, seconds, "session broken off: {why}")
            }
        }
    }

    /// What comes before a session's bytes.
    async fn enter(&self, client: &TcpStream, peer: SocketAddr) -> Result<Connected, NotEntered> {
        self.access.admit_address(peer.ip())?;
        self.access.admit_host(peer.ip()).await?;
        // What comes in small pieces goes out as it comes.
        client.set_nodelay(true).map_err(NotEntered::Gone)?;
        Ok(self.upstreams.connect().await?)
    }
}

/// Why a connection gets no session.
#[derive(Debug, thiserror::Error)]
enum NotEntered {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("it was gone before it was passed on: {0}")]
    Gone(io::Error),
    #[error(transparent)]
    Upstream(#[from] NoUpstream),
}
