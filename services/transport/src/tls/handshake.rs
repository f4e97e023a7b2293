//! The handshake, with a deadline of its own.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use rustls::{CertificateError, ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    error::{HandshakeError, Side},
    verify,
};
use crate::{
    net::TcpStream,
    stream::{ReadAhead, Stream},
};

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
    let mut stream = handshake
        .map_err(|_| HandshakeError::TimedOut(patience))?
        .map_err(|error| HandshakeError::of(error, Side::Client))?;
    let session = stream.get_ref().1;
    // A resumed session brings the certificate of the full handshake, which
    // has been found good then.
    if session.handshake_kind() == Some(HandshakeKind::Resumed)
        && let Some(leaf) = session.peer_certificates().and_then(|chain| chain.first())
    {
        check_dates(leaf, Side::Client)?;
    }
    stream.get_mut().1.set_buffer_limit(Some(WRITTEN_AT_ONCE));
    Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
}

/// The client's side, within `patience`, to the server of this name or
/// address. Who checks the certificate goes on with [`check_server_dates`].
///
/// # Errors
/// [`HandshakeError`]; the server has been told why, where TLS has a word for
/// it. With TLS 1.3 what the server finds wrong with the client shows when
/// the connection is first read.
pub async fn connect(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    server: &str,
    patience: Duration,
) -> Result<Stream, HandshakeError> {
    // The zone of a link-local address (`fe80::1%eth0`) is this machine's own.
    let zoned = server.split_once('%').filter(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    let name = zoned.map_or(server, |(address, _)| address).to_owned();
    let name = ServerName::try_from(name).map_err(|_| HandshakeError::Name(server.to_owned()))?;
    let handshake = timeout(patience, TlsConnector::from(config).connect(name, ReadAhead::new(stream))).await;
    let mut stream = handshake
        .map_err(|_| HandshakeError::TimedOut(patience))?
        .map_err(|error| HandshakeError::of(error, Side::Server))?;
    stream.get_mut().1.set_buffer_limit(Some(WRITTEN_AT_ONCE));
    Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
}

/// Whether the certificate of the server that was connected to is valid today.
/// A resumed session brings that of the full handshake, which was found good
/// then.
///
/// # Errors
/// [`HandshakeError::Certificate`].
pub fn check_server_dates(stream: &Stream) -> Result<(), HandshakeError> {
    stream.peer_certificate().map_or(Ok(()), |leaf| check_dates(leaf, Side::Server))
}

fn check_dates(leaf: &CertificateDer<'_>, side: Side) -> Result<(), HandshakeError> {
    match verify::check_dates(leaf, UnixTime::now()) {
        // What cannot be read here was left to webpki.
        Ok(()) | Err(CertificateError::BadEncoding) => Ok(()),
        Err(reason) => Err(HandshakeError::Certificate(side, reason)),
    }
}

/// Bytes that are encrypted before they are handed to the system: held by a
/// connection while its reader is slow.
const WRITTEN_AT_ONCE: usize = 256 * 1024;
