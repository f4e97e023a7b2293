//! A tunnel through an HTTP proxy: `CONNECT` of RFC 9110, section 9.3.6.
//!
//! Spoken as HTTP/1.0, as the peers' client does: any proxy takes it, and
//! none keeps the connection for another request.

use std::{fmt, io, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    dialer::{Address, AddressError, DialError, Dialer},
    net::TcpStream,
};

/// An HTTP proxy, written `[user:password@]host:port`.
#[derive(Clone)]
pub struct HttpProxy {
    address: Address,
    credentials: Option<String>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The proxy is not there.
    // The error itself follows as its source.
    #[error("HTTP proxy")]
    Dial(#[from] DialError),
    /// The proxy said no.
    #[error("HTTP proxy {proxy} refuses to connect to {target}: {status}{}", hint(.status))]
    Refused {
        /// The proxy.
        proxy: Address,
        /// Where to.
        target: Address,
        /// Its status line.
        status: String,
    },
    /// The proxy did not speak HTTP, or not in time.
    #[error("HTTP proxy {proxy}: {why}")]
    Broken {
        /// The proxy.
        proxy: Address,
        /// What was wrong.
        why: String,
    },
}

impl HttpProxy {
    /// Connects to `target` through the proxy, which `dialer` reaches; the
    /// proxy has the dialer's patience once more for its answer.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn connect(&self, target: &Address, dialer: &Dialer) -> Result<TcpStream, TunnelError> {
        let mut stream = dialer.dial(&self.address).await?;
        let patience = dialer.patience();
        let broken = |why: String| TunnelError::Broken { proxy: self.address.clone(), why };
        let head = timeout(patience, self.ask(&mut stream, target))
            .await
            .map_err(|_| broken(format!("no answer within {} s", patience.as_secs_f32())))?
            .map_err(|error| broken(error.to_string()))?;
        let status = head.lines().next().unwrap_or_default();
        let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split_whitespace().nth(1));
        match code {
            Some(code) if code.len() == 3 && code.starts_with('2') => Ok(stream),
            Some(_) => Err(TunnelError::Refused {
                proxy: self.address.clone(),
                target: target.clone(),
                status: status.escape_debug().to_string(),
            }),
            None => Err(broken("it does not answer as an HTTP proxy does".to_owned())),
        }
    }

    /// Asks for the tunnel; returns the answer's head.
    async fn ask(&self, stream: &mut TcpStream, target: &Address) -> io::Result<String> {
        let mut request = format!("CONNECT {target} HTTP/1.0\r\n");
        if let Some(credentials) = &self.credentials {
            let encoded = BASE64_STANDARD.encode(credentials);
            request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        read_head(stream).await
    }
}

/// Reads an answer's head and not a byte more: what follows belongs to the
/// tunnel.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = vec![0; MAX_HEAD];
    let mut filled = 0;
    while filled < MAX_HEAD {
        let seen = stream.peek(&mut head[filled..]).await?;
        if seen == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it closed before its answer was whole",
            ));
        }
        let end = end_of_head(&head[..filled + seen], filled);
        let wanted = end.unwrap_or(filled + seen);
        stream.read_exact(&mut head[filled..wanted]).await?;
        filled = wanted;
        if end.is_some() {
            return Ok(String::from_utf8_lossy(&head[..filled]).into_owned());
        }
    }
    Err(io::Error::other(format!("its answer has a head of more than {MAX_HEAD} bytes")))
}

/// Where the empty line ends that ends a head. It was sought up to `searched`.
fn end_of_head(head: &[u8], searched: usize) -> Option<usize> {
    (searched + 1..=head.len())
        .find(|&end| head[..end].ends_with(b"\n\r\n") || head[..end].ends_with(b"\n\n"))
}

// === traits of HttpProxy ===

impl FromStr for HttpProxy {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // A password may hold an `@`, a host may not.
        let (credentials, address) = match text.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials.to_owned()), address),
            None => (None, text),
        };
        // There is no usual port of an HTTP proxy: it must be named.
        let address = Address::parse(address, 0)?;
        if address.port == 0 { Err(AddressError::Port) } else { Ok(Self { address, credentials }) }
    }
}

/// Without the password.
impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpProxy({})", self.address)
    }
}

fn hint(status: &str) -> &'static str {
    if status.contains(" 407") { " (give it as user:password@host:port)" } else { "" }
}

/// Bytes of an answer's head, more than any proxy sends.
const MAX_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_at_sign_ends_the_password_and_nothing_prints_it() {
        let proxy: HttpProxy = "user:p@ss word@proxy:3128".parse().unwrap();
        assert_eq!(proxy.credentials.as_deref(), Some("user:p@ss word"));
        assert_eq!(format!("{proxy:?}"), "HttpProxy(proxy:3128)");
        assert_eq!("proxy".parse::<HttpProxy>().unwrap_err(), AddressError::Port);
    }

    #[test]
    fn a_head_ends_with_its_empty_line_wherever_the_pieces_are_cut() {
        for head in [&b"HTTP/1.0 200 OK\r\n\r\n"[..], b"HTTP/1.1 200 OK\na: b\n\n"] {
            let stream = [head, b"SEND OK\n\n"].concat();
            for searched in 0..head.len() {
                assert_eq!(end_of_head(&stream, searched), Some(head.len()));
                assert_eq!(end_of_head(&stream[..searched], 0), None);
            }
        }
    }

    #[tokio::test]
    async fn what_follows_the_head_is_left_to_the_tunnel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy: HttpProxy = listener.local_addr().unwrap().to_string().parse().unwrap();
        let proxied = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nhello").await.unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let target = Address { host: "::1".into(), port: 5 };
        let dialer = Dialer::new(std::time::Duration::from_secs(5));
        let mut tunnel = proxy.connect(&target, &dialer).await.unwrap();
        let mut first = String::new();
        tunnel.read_to_string(&mut first).await.unwrap();
        assert_eq!(first, "hello");
        assert_eq!(proxied.await.unwrap(), "CONNECT [::1]:5 HTTP/1.0\r\n\r\n");
    }
}
