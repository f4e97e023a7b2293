//! What a connection passes before an upstream is dialled: where the proxy
//! has a password of its own, that too.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use protocol::{Command, Connection, ConnectionError, Deadline, PasswordDigest, Reply};
use security::{Password, Penalties, Permit, Place, TooManyWait};
use transport::{Stream, TcpStream};

/// Lets clients in.
#[derive(Debug)]
pub(crate) struct Entrance {
    outer: security::Entrance,
    password: Option<Password>,
    penalties: Penalties,
    deadline: Deadline,
}

/// A client that is in.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) stream: Stream,
    /// What has come behind its password.
    pub(crate) head: Bytes,
    /// Given back when it is dropped.
    pub(crate) _permit: Permit,
}

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEntered {
    #[error(transparent)]
    Outside(#[from] security::NotEntered),
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

// === impl NotEntered ===

impl NotEntered {
    /// Whether it is no reason for a warning.
    pub(crate) fn is_ordinary(&self) -> bool {
        match self {
            Self::Drained | Self::Connection(ConnectionError::Closed) => true,
            Self::Outside(why) => why.is_ordinary(),
            _ => false,
        }
    }
}

// === impl Entrance ===

impl Entrance {
    pub(crate) fn new(outer: security::Entrance, password: Option<Password>, deadline: Deadline) -> Self {
        Self { outer, password, penalties: Penalties::new(deadline.as_duration()), deadline }
    }

    /// A place for one that was accepted.
    ///
    /// # Errors
    /// Its address is not let in, or has too many already.
    pub(crate) async fn place(&self, peer: SocketAddr) -> Result<Place, security::NotEntered> {
        self.outer.place(peer).await
    }

    /// What every service asks for, by which `peer` becomes the client behind
    /// another proxy, and the password.
    ///
    /// # Errors
    /// [`NotEntered`].
    pub(crate) async fn enter(
        &self,
        stream: TcpStream,
        peer: &mut SocketAddr,
        place: Place,
    ) -> Result<Entered, NotEntered> {
        let (mut stream, _permit) = self.outer.enter(stream, peer, place).await?;
        let head = match &self.password {
            Some(password) => self.authenticate(&mut stream, peer.ip(), &password.digest()).await?,
            None => Bytes::new(),
        };
        Ok(Entered { stream, head, _permit })
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
}
