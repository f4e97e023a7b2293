//! The handshake, with a deadline of its own.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::stream::{ReadAhead, Stream};

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side stopped in the middle.
    #[error("no TLS handshake within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No name that a certificate could be for.
    #[error("{0:?} is no host name or address that a certificate could be for")]
    Name(String),
    /// The connection, or what was agreed on it.
    #[error("TLS: {0}")]
    Failed(#[from] io::Error),
}

/// Whether a certificate could be for this name or address.
pub fn is_server_name(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

/// The server's side, within `patience`.
///
/// # Errors
/// [`HandshakeError`]; the client has been told why, where TLS has a word for
/// it.
pub async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    patience: Duration,
) -> Result<Stream, HandshakeError> {
    let handshake = timeout(patience, TlsAcceptor::from(config).accept(ReadAhead::new(stream))).await;
    let mut stream = handshake.map_err(|_| HandshakeError::TimedOut(patience))??;
    stream.get_mut().1.set_buffer_limit(Some(WRITTEN_AT_ONCE));
    Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
}

/// The client's side, within `patience`, to the server of this name or
/// address.
///
/// # Errors
/// [`HandshakeError`].
pub async fn connect(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    server: &str,
    patience: Duration,
) -> Result<Stream, HandshakeError> {
    let name =
        ServerName::try_from(server.to_owned()).map_err(|_| HandshakeError::Name(server.to_owned()))?;
    let handshake = timeout(patience, TlsConnector::from(config).connect(name, ReadAhead::new(stream))).await;
    let mut stream = handshake.map_err(|_| HandshakeError::TimedOut(patience))??;
    stream.get_mut().1.set_buffer_limit(Some(WRITTEN_AT_ONCE));
    Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
}

/// Bytes that are encrypted before they are handed to the system: held by a
/// connection while its reader is slow.
const WRITTEN_AT_ONCE: usize = 256 * 1024;
