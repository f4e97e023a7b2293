//! What an accepted connection passes before it is served.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::timeout;
use transport::{Stream, TcpStream, proxy_header::HeaderError, tls::HandshakeError};

use crate::{
    Acceptor, Access, Refused,
    metrics::{METRICS, watch_turns},
    turns::{Bounds, Permit, Slot, TooMany, Turns},
};

/// Lets connections in: by their addresses, and where there is a certificate,
/// by a handshake; so many at once, in turns among addresses.
#[derive(Debug)]
pub struct Entrance {
    access: Access,
    acceptor: Acceptor,
    patience: Duration,
    turns: Arc<Turns>,
}

/// What an accepted connection holds until it is in.
#[derive(Debug)]
pub struct Place(Waiting);

#[derive(Debug)]
enum Waiting {
    /// For nothing: it is served.
    Not(Permit),
    /// For a header, a handshake or its turn.
    In(Slot),
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
    #[error("it made room for a newer one")]
    MadeRoom,
    /// None ended in time.
    #[error("all connections are in use (-c)")]
    Full,
    /// As many as one address may have.
    #[error(transparent)]
    TooMany(#[from] TooMany),
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
    /// Lets in `most` at once, of one address `of_one` where that is bounded,
    /// each step within `patience`, and the wait for a turn within twice that.
    pub fn new(
        access: Access,
        acceptor: Acceptor,
        patience: Duration,
        most: usize,
        of_one: Option<usize>,
    ) -> Self {
        let waiting = if acceptor.is_tls() { HANDSHAKES } else { WAITING };
        let turns = Turns::new(Bounds { served: most, of_one, waiting });
        watch_turns(&turns);
        Self { access, acceptor, patience, turns }
    }

    /// A place for a connection that was accepted, in which it waits until it
    /// is served; where there is none, another makes room.
    ///
    /// # Errors
    /// [`NotEntered`]: its address is not let in, or has too many already.
    pub async fn place(&self, peer: SocketAddr) -> Result<Place, NotEntered> {
        METRICS.accepted();
        let (peer, is_proxy) = (peer.ip(), self.access.is_behind_proxies());
        let place = async {
            self.access.admit_address(peer)?;
            let plain = !is_proxy && !self.acceptor.is_tls();
            let served = if plain { self.turns.free_turn(peer)? } else { None };
            Ok(Place(match served {
                Some(permit) => Waiting::Not(permit),
                None => Waiting::In(self.turns.slot(peer, is_proxy).await?),
            }))
        };
        place.await.inspect_err(|why: &NotEntered| METRICS.refused(why.reason()))
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
    ) -> Result<(Stream, Permit), NotEntered> {
        self.let_in(stream, peer, place).await.inspect_err(|why| METRICS.refused(why.reason()))
    }

    async fn let_in(
        &self,
        mut stream: TcpStream,
        peer: &mut SocketAddr,
        Place(waiting): Place,
    ) -> Result<(Stream, Permit), NotEntered> {
        let slot = match waiting {
            Waiting::Not(permit) => {
                self.access.admit_host(peer.ip()).await?;
                return Ok((stream.into(), permit));
            }
            Waiting::In(slot) => slot,
        };
        // All of it within the slot: whoever owns an address says how long
        // its name takes, and whose turn it is depends on others.
        let entering = async {
            *peer = self.access.client(&mut stream, *peer, self.patience).await?;
            slot.is_of(peer.ip())?;
            self.access.admit_host(peer.ip()).await?;
            let stream = self.acceptor.accept(stream).await?;
            self.access.admit_certificate(stream.peer_certificate())?;
            // Those that are served and silent end within one patience: by the
            // second at the latest, there was a turn.
            let permit = timeout(self.patience * 2, slot.turn()).await.map_err(|_| NotEntered::Full)?;
            Ok((stream, permit.ok_or(NotEntered::MadeRoom)?))
        };
        slot.hold(entering).await.ok_or(NotEntered::MadeRoom)?
    }
}

/// Handshakes at once: each holds some ten kB, and a descriptor.
const HANDSHAKES: usize = 512;

/// Plain connections that wait at once: each holds some kB, and a descriptor.
/// As many as the system would hold before they are accepted, so that all
/// agents behind one address may come at once.
const WAITING: usize = 4096;
