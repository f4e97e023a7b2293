//! Connections that we open.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::net::{TcpSocket, TcpStream};

/// How connections are opened.
#[derive(Clone, Copy, Debug)]
pub struct Dialer {
    patience: Duration,
    local: Option<IpAddr>,
}

/// A host and a port to connect to. Written `host`, `host:port`, an address
/// of IPv4, or of IPv6 (`::1`, `[::1]:41121`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why a text is no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is nothing before the port.
    #[error("the host is missing (write HOST, HOST:PORT or [IPv6]:PORT)")]
    NoHost,
    /// Blanks or control characters.
    #[error("a host holds no blanks (write HOST, HOST:PORT or [IPv6]:PORT)")]
    Blank,
    /// Brackets that are not around all of the host.
    #[error("brackets go around an address of IPv6 (write HOST, HOST:PORT or [IPv6]:PORT)")]
    Bracket,
    /// The port is no number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No name, no route, or nobody listens.
    #[error("cannot connect to {address}: {error}")]
    Failed {
        /// Where to.
        address: Address,
        /// The system's.
        error: io::Error,
    },
    /// Nobody answered in time.
    #[error("cannot connect to {address}: no answer within {} s", .after.as_secs_f32())]
    TimedOut {
        /// Where to.
        address: Address,
        /// How long it was waited.
        after: Duration,
    },
    /// Connections cannot come from the local address.
    #[error("cannot connect from {local}: {error}{}", hint(.error))]
    Local {
        /// The local address.
        local: IpAddr,
        /// The system's.
        error: io::Error,
    },
    /// IPv4 on one side, IPv6 on the other.
    #[error(
        "cannot connect from {local} to {address}, which has no address of that kind (give a local address of IPv4 to reach IPv4, of IPv6 to reach IPv6)"
    )]
    Kind {
        /// The local address.
        local: IpAddr,
        /// Where to.
        address: Address,
    },
}

// === impl Dialer ===

impl Dialer {
    /// Connections from any local address, each open within `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { patience, local: None }
    }

    /// Has connections come from this address of the machine.
    #[must_use]
    pub fn from_local(self, local: IpAddr) -> Self {
        Self { local: Some(local), ..self }
    }

    /// How long each step of an opening may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Connects to the first of the host's addresses that answers. Small
    /// writes are not held back (`TCP_NODELAY`).
    ///
    /// # Errors
    /// [`DialError`]; of several addresses, that of the last.
    pub async fn dial(&self, address: &Address) -> Result<TcpStream, DialError> {
        let ends = Instant::now() + self.patience;
        let found = self.resolve(address, ends).await?;
        self.dial_first(address, found, ends).await
    }

    /// The same at addresses that are known; `address` is what messages name.
    ///
    /// # Errors
    /// [`DialError`]; of several addresses, that of the last.
    pub async fn dial_known(&self, address: &Address, known: &[SocketAddr]) -> Result<TcpStream, DialError> {
        self.dial_first(address, known.to_vec(), Instant::now() + self.patience).await
    }

    async fn dial_first(
        &self,
        address: &Address,
        mut found: Vec<SocketAddr>,
        ends: Instant,
    ) -> Result<TcpStream, DialError> {
        if let Some(local) = self.local {
            found.retain(|remote| remote.is_ipv4() == local.is_ipv4());
            if found.is_empty() {
                return Err(DialError::Kind { local, address: address.clone() });
            }
        }
        let mut last = self.failed(address, io::ErrorKind::NotFound.into());
        for (tried, &remote) in found.iter().enumerate() {
            // An address that swallows everything must not take the time of
            // the next one.
            let now = Instant::now();
            let untried = u32::try_from(found.len() - tried).unwrap_or(u32::MAX);
            let until = now + ends.saturating_duration_since(now) / untried;
            match timeout_at(until, self.connect(address, remote)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = self.timed_out(address),
            }
        }
        Err(last)
    }

    async fn resolve(&self, address: &Address, ends: Instant) -> Result<Vec<SocketAddr>, DialError> {
        let found = timeout_at(ends, address.look_up()).await;
        found.map_err(|_| self.timed_out(address))?.map_err(|error| self.failed(address, error))
    }

    async fn connect(&self, address: &Address, remote: SocketAddr) -> Result<TcpStream, DialError> {
        let failed = |error| self.failed(address, error);
        let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(failed)?;
        if let Some(local) = self.local {
            socket.bind(SocketAddr::new(local, 0)).map_err(|error| DialError::Local { local, error })?;
        }
        socket.set_nodelay(true).map_err(failed)?;
        socket.connect(remote).await.map_err(failed)
    }

    fn failed(&self, address: &Address, error: io::Error) -> DialError {
        DialError::Failed { address: address.clone(), error }
    }

    fn timed_out(&self, address: &Address) -> DialError {
        DialError::TimedOut { address: address.clone(), after: self.patience }
    }
}

// === impl Address ===

impl Address {
    /// Reads `text`, with `port` where it names none.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str, port: u16) -> Result<Self, AddressError> {
        let text = text.trim();
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, port),
            Some((host, rest)) => (host, port_number(rest.strip_prefix(':').ok_or(AddressError::Port)?)?),
            // More than one colon: an IPv6 address by itself.
            None if text.matches(':').count() > 1 => (text, port),
            None => match text.split_once(':') {
                Some((host, digits)) => (host, port_number(digits)?),
                None => (text, port),
            },
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::Blank);
        }
        // Written, it would read as another one.
        if host.contains(['[', ']']) {
            return Err(AddressError::Bracket);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// With the port that IANA assigned to Tentacle, 41121, where none is
    /// named.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text, 41121)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn port_number(digits: &str) -> Result<u16, AddressError> {
    digits.parse().ok().filter(|&port| port != 0).ok_or(AddressError::Port)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => " (it is not an address of this machine)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_the_same_way() {
        for (text, written) in [
            ("site", "site:41121"),
            (" 10.0.0.1:4000 ", "10.0.0.1:4000"),
            ("::1", "[::1]:41121"),
            ("[fe80::1]:5", "[fe80::1]:5"),
            ("[::1]", "[::1]:41121"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
        for wrong in ["", ":1", "a:0", "a:65536", "a:x", "[::1]x", "[::1]:", "a b", "[]"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_host_with_a_bracket_that_is_not_closed_is_refused() {
        for wrong in ["10::1]:5", "[::1", "a]", "[[::1]:1"] {
            assert_eq!(
                wrong.parse::<Address>().unwrap_err().to_string().split(' ').next(),
                Some("brackets"),
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn who_does_not_answer_is_given_up() {
        // Nobody listens on a port that was just let go.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = Address { host: "127.0.0.1".into(), port };
        let error = Dialer::new(Duration::from_secs(5)).dial(&address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{error}");
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_local_address_that_was_chosen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address { host: "localhost".into(), port: listener.local_addr().unwrap().port() };
        let dialer = Dialer::new(Duration::from_secs(5)).from_local([127, 0, 0, 9].into());
        let _stream = dialer.dial(&address).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.9");
    }

    #[tokio::test]
    async fn a_local_address_that_is_of_no_use_is_named() {
        let address = Address { host: "127.0.0.1".into(), port: 1 };
        let foreign = Dialer::new(Duration::from_secs(5)).from_local([192, 0, 2, 1].into());
        let error = foreign.dial(&address).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot connect from 192.0.2.1: "), "{error}");
        assert!(error.ends_with("(it is not an address of this machine)"), "{error}");
        let other_kind = Dialer::new(Duration::from_secs(5)).from_local(IpAddr::from([0u16; 8]));
        let error = other_kind.dial(&address).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot connect from :: to 127.0.0.1:1, which has no address"), "{error}");
    }
}
