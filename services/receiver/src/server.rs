//! Accepts connections and gives each a session, until the service ends.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use runtime::drain::{Drain, DrainWatch, Drained};
use security::{Acceptor, Access, Handshakes, Refused, Slot};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::TaskTracker;
use transport::{Listeners, Stream, proxy_header::HeaderError, tls::HandshakeError};

use crate::{session::Session, site::Site};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    access: Access,
    acceptor: Acceptor,
    /// A permit a session. Without one, the next plain connection waits in the
    /// system's queue of the listening socket.
    permits: Arc<Semaphore>,
    /// Encrypted connections wait here: they take a permit once their
    /// handshake is done.
    handshakes: Arc<Handshakes>,
    drain: DrainWatch,
    sessions: TaskTracker,
}

impl Server {
    pub(crate) fn new(
        site: Arc<Site>,
        access: Access,
        acceptor: Acceptor,
        max_connections: usize,
        drain: &Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            site,
            access,
            acceptor,
            permits: Arc::new(Semaphore::new(max_connections)),
            handshakes: Handshakes::new(HANDSHAKES),
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

    /// All listeners in one loop: a loop for each would hold a permit for
    /// each, and leave none for the one where somebody waits.
    async fn accept(self: Arc<Self>, mut listeners: Listeners) -> Infallible {
        loop {
            let permit = if self.acceptor.is_tls() { None } else { Some(self.permit().await) };
            let (stream, peer) = listeners.accept().await;
            tracing::info!(%peer, "connection accepted");
            // Who is refused takes no handshake's room.
            if let Err(why) = self.access.admit_address(peer.ip()) {
                tracing::warn!(%peer, "connection closed: {why}");
                continue;
            }
            let entry = match permit {
                Some(permit) => Entry::Plain(permit),
                None => Entry::Tls(self.handshakes.slot(peer.ip()).await),
            };
            let server = Arc::clone(&self);
            self.sessions.spawn(async move { server.serve_one(stream, peer, entry).await });
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permits = || Arc::clone(&self.permits);
        if let Ok(permit) = permits().try_acquire_owned() {
            return permit;
        }
        tracing::warn!("all connections are in use (-c): the next one waits until one ends");
        permits().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The header of a proxy, by which `peer` becomes the client, the names of
    /// `-T`, the handshake, and the permit for what follows it.
    async fn enter(
        &self,
        stream: TcpStream,
        peer: &mut SocketAddr,
        entry: Entry,
    ) -> Result<(Stream, OwnedSemaphorePermit), NotEntered> {
        let patience = self.site.deadline.as_duration();
        let slot = match entry {
            Entry::Plain(permit) => {
                *peer = self.access.client(&stream, *peer, patience).await?;
                self.access.admit_host(peer.ip()).await?;
                return Ok((stream.into(), permit));
            }
            Entry::Tls(slot) => slot,
        };
        // Within the slot, as whoever owns an address says how long its name
        // takes.
        let handshake = async {
            *peer = self.access.client(&stream, *peer, patience).await?;
            slot.is_of(peer.ip());
            self.access.admit_host(peer.ip()).await?;
            Ok::<_, NotEntered>(self.acceptor.accept(stream).await?)
        };
        let stream = slot.hold(handshake).await.ok_or(NotEntered::MadeRoom)??;
        self.access.admit_certificate(stream.peer_certificate())?;
        let permit = tokio::time::timeout(patience, self.permit()).await.map_err(|_| NotEntered::Full)?;
        Ok((stream, permit))
    }

    async fn serve_one(&self, stream: TcpStream, mut peer: SocketAddr, entry: Entry) {
        // Replies are small and are waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection gone before it was served");
            return;
        }
        // Handed on by their places, as idle sessions are many: what enters
        // needs no room once it is in.
        let work = Box::pin(async {
            let entered = tokio::select! {
                biased;
                entered = Box::pin(self.enter(stream, &mut peer, entry)) => entered,
                // Nothing is under way yet that would be lost.
                () = self.drain.started() => Err(NotEntered::Drained),
            };
            match entered {
                Ok((stream, permit)) => {
                    Session::new(stream, peer, Arc::clone(&self.site), self.drain.clone()).run(permit).await
                }
                Err(why @ NotEntered::Drained) => tracing::info!(%peer, "connection closed: {why}"),
                // As some look whether anybody listens.
                Err(why @ NotEntered::Handshake(HandshakeError::Closed(_))) => {
                    tracing::info!(%peer, "connection closed: {why}");
                }
                Err(why) => tracing::warn!(%peer, "connection closed: {why}"),
            }
        });
        if self.drain.unless_cut(work).await.is_none() {
            tracing::warn!(%peer, "connection cut: the service ends");
        }
    }
}

/// What an accepted connection holds until it has its session.
#[derive(Debug)]
enum Entry {
    Plain(OwnedSemaphorePermit),
    Tls(Slot),
}

/// Why a connection gets no session.
#[derive(Debug, thiserror::Error)]
enum NotEntered {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("its handshake made room for a newer one")]
    MadeRoom,
    #[error("all connections are in use (-c)")]
    Full,
    #[error("the service is ending")]
    Drained,
}

/// Ends what `drain` holds within `bound`, and says how that went.
pub(crate) async fn end(drain: Drain, bound: Duration) {
    match drain.finish(bound).await {
        Drained::Whole => tracing::info!("ended"),
        Drained::Cut(connections) => tracing::warn!(connections, "ended, with transfers cut"),
    }
}

/// Handshakes at once: each holds some ten kB, and a descriptor.
const HANDSHAKES: usize = 512;
