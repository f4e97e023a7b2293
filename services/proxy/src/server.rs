//! Accepts connections and passes each on, until the service ends.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use protocol::Deadline;
use runtime::drain::{Drain, DrainWatch};
use security::Access;
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;
use transport::{Listeners, proxy_header};

use crate::{
    carry::{Carried, carry},
    upstreams::Upstreams,
};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    upstreams: Upstreams,
    access: Access,
    /// Whether servers are told the clients' addresses.
    send_proxy: bool,
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
        send_proxy: bool,
        deadline: Deadline,
        max_connections: usize,
        drain: &Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstreams,
            access,
            send_proxy,
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
            let (stream, mut peer) = listeners.accept().await;
            tracing::info!(%peer, "connection accepted");
            let server = Arc::clone(&self);
            self.sessions.spawn(async move {
                if server.drain.unless_cut(server.serve_one(stream, &mut peer)).await.is_none() {
                    tracing::warn!(%peer, "connection cut: the service ends");
                }
                drop(permit);
            });
        }
    }

    /// With a header of a proxy before it, `from` becomes the client.
    async fn serve_one(&self, client: TcpStream, from: &mut SocketAddr) {
        let peer = *from;
        if let Err(why) = self.access.admit_address(peer.ip()) {
            tracing::warn!(%peer, "connection closed: {why}");
            return;
        }
        let peer = match self.access.client(&client, peer, self.idle).await {
            Ok(peer) => peer,
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                return;
            }
        };
        *from = peer;
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
        let mut upstream = match self.upstreams.connect().await {
            Ok(upstream) => upstream,
            Err(why) => {
                tracing::warn!(%peer, "connection closed: {why}");
                return;
            }
        };
        if self.send_proxy
            && let Err(error) = introduce(&client, peer, &mut upstream.stream).await
        {
            let upstream = upstream.address;
            tracing::warn!(%peer, %upstream, "connection closed: the PROXY header cannot be sent: {error}");
            return;
        }
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
}

/// Tells a server whose connection this is, and what it was made to.
async fn introduce(client: &TcpStream, peer: SocketAddr, upstream: &mut TcpStream) -> io::Result<()> {
    proxy_header::write(upstream, peer, client.local_addr()?).await
}
