//! What an accepted connection passes before it is served.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use transport::{Stream, TcpStream, proxy_header::HeaderError, tls::HandshakeError};

use crate::{
    Acceptor, Access, Refused,
    handshakes::{Handshakes, Slot},
    metrics::{METRICS, watch_open},
};

/// Lets connections in: by their addresses, and where there is a certificate,
/// by a handshake; so many at once.
#[derive(Debug)]
pub struct Entrance {
    access: Access,
    acceptor: Acceptor,
    patience: Duration,
    /// A permit a connection.
    permits: Arc<Semaphore>,
    /// Encrypted connections wait here: they take a permit once their
    /// handshake is done.
    handshakes: Arc<Handshakes>,
}

/// What an accepted connection holds until it is in.
#[derive(Debug)]
pub struct Place(Waiting);

#[derive(Debug)]
enum Waiting {
    /// For nothing: it has the permit.
    Not(OwnedSemaphorePermit),
    /// For its handshake.
    Handshake(Slot),
}

/// Why a connection is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NotEntered {
    /// By its address, host name or certificate.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The one that a proxy must send.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Many more came.
    #[error("its handshake made room for a newer one")]
    MadeRoom,
    /// None ended in time.
    #[error("all connections are in use (-c)")]
    Full,
}

// === impl NotEntered ===

impl NotEntered {
    /// Whether it is no reason for a warning: some look whether anybody
    /// listens.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Handshake(HandshakeError::Closed(_)))
    }
}

// === impl Entrance ===

impl Entrance {
    /// Lets in `most` at once, each step within `patience`.
    pub fn new(access: Access, acceptor: Acceptor, patience: Duration, most: usize) -> Self {
        let permits = Arc::new(Semaphore::new(most));
        watch_open(&permits, most);
        Self { access, acceptor, patience, permits, handshakes: Handshakes::new(HANDSHAKES) }
    }

    /// A place for a connection that was accepted; of plain ones, it waits
    /// until another ends where there are `most`. Who is refused takes no
    /// place.
    ///
    /// # Errors
    /// Its address is not let in.
    pub async fn place(&self, peer: SocketAddr) -> Result<Place, Refused> {
        METRICS.accepted();
        self.access.admit_address(peer.ip()).inspect_err(|why| METRICS.refused(why.reason()))?;
        Ok(Place(match self.acceptor.is_tls() {
            false => Waiting::Not(self.permit().await),
            true => Waiting::Handshake(self.handshakes.slot(peer.ip()).await),
        }))
    }

    /// The header of a proxy, by which `peer` becomes the client, the names of
    /// `-T`, the handshake, and the permit, which is given back when it is
    /// dropped.
    ///
    /// # Errors
    /// [`NotEntered`].
    pub async fn enter(
        &self,
        stream: TcpStream,
        peer: &mut SocketAddr,
        place: Place,
    ) -> Result<(Stream, OwnedSemaphorePermit), NotEntered> {
        self.let_in(stream, peer, place).await.inspect_err(|why| METRICS.refused(why.reason()))
    }

    async fn let_in(
        &self,
        mut stream: TcpStream,
        peer: &mut SocketAddr,
        place: Place,
    ) -> Result<(Stream, OwnedSemaphorePermit), NotEntered> {
        let slot = match place.0 {
            Waiting::Not(permit) => {
                *peer = self.access.client(&mut stream, *peer, self.patience).await?;
                self.access.admit_host(peer.ip()).await?;
                return Ok((stream.into(), permit));
            }
            Waiting::Handshake(slot) => slot,
        };
        // Within the slot, as whoever owns an address says how long its name
        // takes.
        let handshake = async {
            *peer = self.access.client(&mut stream, *peer, self.patience).await?;
            slot.is_of(peer.ip());
            self.access.admit_host(peer.ip()).await?;
            Ok::<_, NotEntered>(self.acceptor.accept(stream).await?)
        };
        let stream = slot.hold(handshake).await.ok_or(NotEntered::MadeRoom)??;
        self.access.admit_certificate(stream.peer_certificate())?;
        let permit = timeout(self.patience, self.permit()).await;
        Ok((stream, permit.map_err(|_| NotEntered::Full)?))
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permits = || Arc::clone(&self.permits);
        if let Ok(permit) = permits().try_acquire_owned() {
            return permit;
        }
        tracing::warn!("all connections are in use (-c): the next one waits until one ends");
        permits().acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Handshakes at once: each holds some ten kB, and a descriptor.
const HANDSHAKES: usize = 512;
