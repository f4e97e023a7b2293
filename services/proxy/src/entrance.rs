//! What a connection passes before an upstream is dialled.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{Command, Connection, ConnectionError, Deadline, PasswordDigest, Reply};
use security::{Acceptor, Access, Handshakes, Password, Penalties, Refused, Slot, TooManyWait};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use transport::{Stream, proxy_header::HeaderError, tls::HandshakeError};

/// Lets clients in: by their addresses, and where the proxy has a certificate
/// or a password of its own, by those.
#[derive(Debug)]
pub(crate) struct Entrance {
    access: Access,
    acceptor: Acceptor,
    password: Option<Password>,
    penalties: Penalties,
    deadline: Deadline,
    /// A permit a session. Without one, the next plain connection waits in the
    /// system's queue of the listening socket.
    permits: Arc<Semaphore>,
    /// Encrypted connections wait here: they take a permit once their
    /// handshake is done.
    handshakes: Arc<Handshakes>,
}

/// What an accepted connection holds until it is in.
#[derive(Debug)]
pub(crate) enum Place {
    Plain(OwnedSemaphorePermit),
    Tls(Slot),
}

/// A client that is in.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) stream: Stream,
    /// What has come behind its password.
    pub(crate) head: Bytes,
    /// Given back when it is dropped.
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEntered {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("its handshake made room for a newer one")]
    MadeRoom,
    #[error("all connections are in use (-c)")]
    Full,
    #[error("no password, where one is needed")]
    NoPassword,
    #[error("a wrong password")]
    WrongPassword,
    #[error(transparent)]
    TooManyWait(#[from] TooManyWait),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("the service is ending")]
    Drained,
}

// === impl Entrance ===

impl Entrance {
    pub(crate) fn new(
        access: Access,
        acceptor: Acceptor,
        password: Option<Password>,
        deadline: Deadline,
        max_connections: usize,
    ) -> Self {
        Self {
            access,
            acceptor,
            password,
            penalties: Penalties::new(deadline.as_duration()),
            deadline,
            permits: Arc::new(Semaphore::new(max_connections)),
            handshakes: Handshakes::new(HANDSHAKES),
        }
    }

    /// What the next connection needs before it is accepted.
    pub(crate) async fn ready(&self) -> Option<OwnedSemaphorePermit> {
        if self.acceptor.is_tls() { None } else { Some(self.permit().await) }
    }

    /// A place for one that was accepted. Who is refused takes no handshake's
    /// room.
    ///
    /// # Errors
    /// Its address is not let in.
    pub(crate) async fn place(
        &self,
        peer: SocketAddr,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Place, Refused> {
        self.access.admit_address(peer.ip())?;
        Ok(match permit {
            Some(permit) => Place::Plain(permit),
            None => Place::Tls(self.handshakes.slot(peer.ip()).await),
        })
    }

    /// The header of a proxy, by which `peer` becomes the client, the names of
    /// `-T`, the handshake, and the password.
    ///
    /// # Errors
    /// [`NotEntered`].
    pub(crate) async fn enter(
        &self,
        stream: TcpStream,
        peer: &mut SocketAddr,
        place: Place,
    ) -> Result<Entered, NotEntered> {
        let (mut stream, _permit) = match place {
            Place::Plain(permit) => {
                *peer = self.access.client(&stream, *peer, self.deadline.as_duration()).await?;
                self.access.admit_host(peer.ip()).await?;
                (stream.into(), permit)
            }
            Place::Tls(slot) => self.encrypted(stream, peer, slot).await?,
        };
        let head = match &self.password {
            Some(password) => self.authenticate(&mut stream, peer.ip(), &password.digest()).await?,
            None => Bytes::new(),
        };
        Ok(Entered { stream, head, _permit })
    }

    async fn encrypted(
        &self,
        stream: TcpStream,
        peer: &mut SocketAddr,
        slot: Slot,
    ) -> Result<(Stream, OwnedSemaphorePermit), NotEntered> {
        // Within the slot, as whoever owns an address says how long its name
        // takes.
        let handshake = async {
            *peer = self.access.client(&stream, *peer, self.deadline.as_duration()).await?;
            slot.is_of(peer.ip());
            self.access.admit_host(peer.ip()).await?;
            Ok::<_, NotEntered>(self.acceptor.accept(stream).await?)
        };
        let stream = slot.hold(handshake).await.ok_or(NotEntered::MadeRoom)??;
        self.access.admit_certificate(stream.peer_certificate())?;
        let permit = timeout(self.deadline.as_duration(), self.permit()).await;
        Ok((stream, permit.map_err(|_| NotEntered::Full)?))
    }

    /// Checks the password, and returns what has come behind it.
    async fn authenticate(
        &self,
        stream: &mut Stream,
        peer: IpAddr,
        password: &PasswordDigest,
    ) -> Result<Bytes, NotEntered> {
        let mut connection = Connection::new(stream, self.deadline);
        match self.check(&mut connection, peer, password).await {
            Ok(()) => Ok(connection.into_unread()),
            Err(why) => {
                let _ = connection.shutdown().await;
                Err(why)
            }
        }
    }

    async fn check(
        &self,
        connection: &mut Connection<&mut Stream>,
        peer: IpAddr,
        password: &PasswordDigest,
    ) -> Result<(), NotEntered> {
        let Some(Command::Pass(digest)) = connection.read_command().await? else {
            return Err(NotEntered::NoPassword);
        };
        self.penalties.wait(peer).await?;
        match PasswordDigest::from_hex(&digest) {
            Some(digest) if digest.matches(password) => {
                self.penalties.right_password(peer);
                Ok(connection.write_reply(&Reply::PassOk).await?)
            }
            _ => {
                self.penalties.wrong_password(peer);
                Err(NotEntered::WrongPassword)
            }
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
}

/// Handshakes at once: each holds some ten kB, and a descriptor.
const HANDSHAKES: usize = 512;
