//! Opening a connection to a server, up to where a client's bytes can go.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use protocol::{Client, ClientError, ConnectionError, Deadline};
use rustix::io::Errno;
use security::{Connector, Password};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};
use transport::{Address, Stream, TcpStream, proxy_header, tls::HandshakeError};

use super::server::{Fault, Server};

/// How servers are reached.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Where the proxy itself listens: a connection to there would come back.
    pub(crate) own: Vec<SocketAddr>,
    /// Whether servers are told the clients' addresses.
    pub(crate) send_proxy: bool,
    pub(crate) connector: Connector,
    pub(crate) password: Option<Password>,
    pub(crate) deadline: Deadline,
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReached {
    #[error(transparent)]
    Tcp(io::Error),
    /// Not the server's: descriptors, ports, memory.
    #[error("{0}")]
    Short(io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("this proxy itself listens there (name another server: -b)")]
    Own,
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    #[error("it refuses the password (--upstream-password), or asks for none")]
    Password,
    #[error("password: {0}{hint}", hint = hint(.0))]
    Client(#[from] ClientError),
    #[error("it says more than its answer to the password: it is no Tentacle server")]
    Talks,
    #[error("it closes connections at once")]
    Closes,
}

// === impl Reach ===

impl Reach {
    /// How long a connection may take to be ready.
    pub(crate) fn patience(&self) -> Duration {
        self.deadline.as_duration()
    }

    /// Refuses a host that is the proxy itself, as far as its address says.
    ///
    /// # Errors
    /// [`NotReached::Own`], with the host's name.
    pub(super) fn check(&self, host: &Address) -> anyhow::Result<()> {
        match host.host.parse().map(|address| SocketAddr::new(address, host.port)) {
            Ok(address) if leads_back(&self.own, address) => anyhow::bail!("{address}: {}", NotReached::Own),
            _ => Ok(()),
        }
    }

    /// A connection to this server, open by one time and ready for a client's
    /// bytes by the other; for a client's from one address to the other, or
    /// for nobody.
    pub(super) async fn open(
        &self,
        server: &Server,
        from_to: Option<(SocketAddr, SocketAddr)>,
        open_by: Instant,
        ready_by: Instant,
    ) -> Result<Stream, NotReached> {
        // Not seen by what is accepted: that would dial again before it is.
        if leads_back(&self.own, server.address) {
            return Err(NotReached::Own);
        }
        let opened = timeout_at(open_by, TcpStream::connect(server.address)).await;
        let stream = opened.map_err(|_| NotReached::TimedOut)?.map_err(NotReached::of)?;
        stream.set_nodelay(true).map_err(NotReached::of)?;
        if !self.asks_more() {
            return Ok(stream.into());
        }
        let ready = timeout_at(ready_by, self.make_ready(stream, server, from_to)).await;
        ready.map_err(|_| NotReached::TimedOut)?
    }

    /// Whether the server is one that sessions can go to.
    pub(super) async fn probe(&self, server: &Server) -> Result<(), NotReached> {
        let ends = Instant::now() + self.patience();
        let mut stream = self.open(server, None, ends, ends).await?;
        // A server says nothing before it is asked.
        match timeout(CLOSES_WITHIN, stream.read_u8()).await {
            Err(_) => {
                let _ = timeout(CLOSES_WITHIN, stream.shutdown()).await;
                Ok(())
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(NotReached::Closes),
        }
    }

    fn asks_more(&self) -> bool {
        self.send_proxy || self.connector.is_tls() || self.password.is_some()
    }

    async fn make_ready(
        &self,
        mut stream: TcpStream,
        server: &Server,
        from_to: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Stream, NotReached> {
        if self.send_proxy {
            let sent = match from_to {
                Some((from, to)) => proxy_header::write(&mut stream, from, to).await,
                None => proxy_header::write_own(&mut stream).await,
            };
            sent.map_err(NotReached::of)?;
        }
        let mut stream = self.connector.connect(stream, &server.host, self.patience()).await?;
        if let Some(password) = &self.password {
            let mut client = Client::new(&mut stream, self.deadline);
            client.authenticate(&password.digest()).await.map_err(|error| match error {
                ClientError::Connection(ConnectionError::Closed) => NotReached::Password,
                error => error.into(),
            })?;
            if !client.into_unread().is_empty() {
                return Err(NotReached::Talks);
            }
        }
        Ok(stream)
    }
}

// === impl NotReached ===

impl NotReached {
    fn of(error: io::Error) -> Self {
        let short = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
        match Errno::from_io_error(&error) {
            Some(code) if short.contains(&code) => Self::Short(error),
            _ => Self::Tcp(error),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::TimedOut | Self::Tls(HandshakeError::TimedOut(_)) => Fault::Silent,
            Self::Tcp(error) if error.kind() == io::ErrorKind::TimedOut => Fault::Silent,
            Self::Client(ClientError::Connection(ConnectionError::TimedOut { .. })) => Fault::Silent,
            _ => Fault::Refused,
        }
    }
}

/// Whether a connection to `address` comes to one of `own`, where this
/// process listens.
fn leads_back(own: &[SocketAddr], address: SocketAddr) -> bool {
    // `::ffff:127.0.0.1` is 127.0.0.1.
    let (to, port) = (address.ip().to_canonical(), address.port());
    own.iter().any(|own| {
        let at = own.ip().to_canonical();
        let is_same = at == to || to.is_unspecified();
        // All addresses of IPv6 are not those of IPv4 too.
        let is_every = at.is_unspecified() && at.is_ipv4() == to.is_ipv4();
        own.port() == port && (is_same || (is_every && is_local(to)))
    })
}

/// Whether it is an address of this machine.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connection(ConnectionError::Tls) => " (--upstream-tls)",
        _ => "",
    }
}

/// How soon a server closes that takes no connections: what stands before it
/// accepts them all.
const CLOSES_WITHIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_to_where_the_proxy_listens_is_known_in_every_notation() {
        let leads_back = |own: &str, to: &str| leads_back(&[own.parse().unwrap()], to.parse().unwrap());
        for (own, to) in [
            ("127.0.0.1:5", "127.0.0.1:5"),
            ("127.0.0.1:5", "[::ffff:127.0.0.1]:5"),
            ("127.0.0.1:5", "0.0.0.0:5"),
            ("0.0.0.0:5", "127.0.0.9:5"),
            ("[::]:5", "[::1]:5"),
        ] {
            assert!(leads_back(own, to), "{own} {to}");
        }
        for (own, to) in [
            ("127.0.0.1:5", "127.0.0.1:6"),
            ("127.0.0.1:5", "127.0.0.2:5"),
            ("0.0.0.0:5", "[::1]:5"),
            ("[::]:5", "127.0.0.1:5"),
            ("0.0.0.0:5", "192.0.2.1:5"),
        ] {
            assert!(!leads_back(own, to), "{own} {to}");
        }
    }
}
