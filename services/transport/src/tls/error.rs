//! Why there is no encrypted connection, in one line.
//!
//! What the other side sends is escaped and cut: it ends up in logs and on
//! terminals.

use std::{
    fmt,
    io::{self, ErrorKind},
    time::Duration,
};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use rustls_pki_types::{ServerName, UnixTime};
use x509_parser::time::ASN1Time;

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side stopped in the middle.
    #[error("no TLS handshake within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No name that a certificate could be for.
    #[error("{0:?} is no host name or address that a certificate could be for")]
    Name(String),
    /// What came is no TLS.
    #[error("the {0} does not speak TLS")]
    NotTls(Side),
    /// The connection ended before the handshake did.
    #[error("the {0} closed the connection in the middle of the TLS handshake{hint}", hint = .0.closing_hint())]
    Closed(Side),
    /// Authorities for clients are set, and the client has shown nothing.
    #[error("the client showed no certificate, and one is needed")]
    NoCertificate,
    /// The other side's certificate is refused here.
    #[error("the {0}'s certificate is refused: {why}", why = why(.1))]
    Certificate(Side, CertificateError),
    /// The other side refuses, and says why in TLS's words.
    #[error("the {0} refused the TLS connection: {why}", why = alert(*.1))]
    Refused(Side, AlertDescription),
    /// TLS 1.1 or older.
    #[error("the {0} speaks no TLS version from 1.2 on")]
    TooOld(Side),
    /// The client asks for another service.
    #[error("the client asks for another protocol over TLS (ALPN) than Tentacle")]
    OtherProtocol,
    /// Nothing that both sides can, or a step that TLS does not have.
    #[error("TLS with the {0}: {error}", error = shown(&.1.to_string(), MAX_TEXT))]
    Protocol(Side, Error),
    /// The connection beneath.
    #[error("TLS handshake with the {0}: {1}")]
    Connection(Side, io::Error),
}

/// The other side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It has connected to us.
    Client,
    /// We have connected to it.
    Server,
}

/// An error of a connection whose handshake is over: the same words for what
/// the other side says of it, under the same kind.
pub(crate) fn in_words(error: io::Error, side: Side) -> io::Error {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match reason.map(|reason| HandshakeError::of_tls(reason, side)) {
        Some(reason) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

// === impl HandshakeError ===

impl HandshakeError {
    /// Of what rustls, or the connection beneath, reports with this side at
    /// the other end.
    pub(crate) fn of(error: io::Error, side: Side) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(reason) => Self::of_tls(reason, side),
            None if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
            {
                Self::Closed(side)
            }
            None => Self::Connection(side, error),
        }
    }

    fn of_tls(error: &Error, side: Side) -> Self {
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => Self::NotTls(side),
            Error::NoCertificatesPresented if side == Side::Client => Self::NoCertificate,
            Error::InvalidCertificate(reason) => Self::Certificate(side, reason.clone()),
            Error::AlertReceived(alert) => Self::Refused(side, *alert),
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::TooOld(side),
            // rustls looks for this before it looks at the version; TLS 1.2
            // came with it.
            Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => {
                Self::TooOld(side)
            }
            Error::NoApplicationProtocol => Self::OtherProtocol,
            other => Self::Protocol(side, other.clone()),
        }
    }
}

// === impl Side ===

impl Side {
    /// A server that knows no TLS takes a handshake for an unknown command.
    fn closing_hint(self) -> &'static str {
        match self {
            Self::Client => "",
            Self::Server => " (it may not speak TLS)",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

fn why(reason: &CertificateError) -> String {
    match reason {
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("it, or one that vouches for it, expired on {}", date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("it, or one that vouches for it, is valid only from {}", date(*not_before))
        }
        CertificateError::UnknownIssuer => {
            "unknown authority: it chains to no certificate of the CA file".to_owned()
        }
        CertificateError::BadSignature => "its key is not the other side's".to_owned(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "it, or one that vouches for it, is signed in a way that is not taken (SHA-1, MD5, ECDSA with SHA-512 as on P-521?)".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its signature and the key of the authority that it names are of different kinds, or that key is of a kind that is not taken (ECDSA on P-521?)".to_owned()
        }
        CertificateError::UnhandledCriticalExtension => {
            "it, or one that vouches for it, has a critical extension that is not known here".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it, or one that vouches for it, is for other purposes (extended key usage)".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => wrong_name(expected, presented),
        CertificateError::Other(other) => shown(&other.to_string(), MAX_TEXT),
        other => shown(&other.to_string(), MAX_TEXT),
    }
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = shown(&expected.to_str(), MAX_TEXT);
    if presented.is_empty() {
        return format!("it has no name, and {expected} is wanted");
    }
    let mut names: Vec<_> = presented.iter().take(MAX_NAMES).map(|name| shown(name, MAX_NAME)).collect();
    if presented.len() > MAX_NAMES {
        names.push(format!("{} more", presented.len() - MAX_NAMES));
    }
    format!("it is not for {expected}, but for {}", names.join(", "))
}

/// To the minute, so that it can be told from one of the same day.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    match seconds.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok()) {
        Some(time) => {
            let time = time.to_datetime();
            let (year, month, day) = time.to_calendar_date();
            format!("{year:04}-{:02}-{day:02} {:02}:{:02} UTC", u8::from(month), time.hour(), time.minute())
        }
        None => format!("second {} since 1970", time.as_secs()),
    }
}

/// RFC 8446, section 6.
fn alert(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::HandshakeFailure => "nothing that both sides can (handshake_failure)",
        AlertDescription::BadCertificate => "it finds our certificate wrong (bad_certificate)",
        AlertDescription::UnsupportedCertificate => {
            "it does not take certificates of this kind (unsupported_certificate)"
        }
        AlertDescription::CertificateRevoked => "our certificate is revoked (certificate_revoked)",
        AlertDescription::CertificateExpired => "our certificate is not valid today (certificate_expired)",
        AlertDescription::CertificateUnknown => "it does not take our certificate (certificate_unknown)",
        AlertDescription::UnknownCA => "it does not know the authority of our certificate (unknown_ca)",
        AlertDescription::AccessDenied => "access denied (access_denied)",
        AlertDescription::DecryptError => "a signature of ours does not hold for it (decrypt_error)",
        AlertDescription::ProtocolVersion => "it speaks no TLS version from 1.2 on (protocol_version)",
        AlertDescription::InsufficientSecurity => "it wants more security (insufficient_security)",
        AlertDescription::InternalError => "it has a trouble of its own (internal_error)",
        AlertDescription::UnrecognisedName => "it does not serve that name (unrecognized_name)",
        AlertDescription::CertificateRequired => "it needs a certificate of ours (certificate_required)",
        AlertDescription::NoApplicationProtocol => "it serves another protocol (no_application_protocol)",
        other => return format!("alert {other:?}"),
    };
    words.to_owned()
}

fn shown(text: &str, most: usize) -> String {
    let cut = if text.chars().nth(most).is_some() { "…" } else { "" };
    let escaped: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    escaped + cut
}

/// Names of a certificate that are told.
const MAX_NAMES: usize = 5;

/// Characters of one of them.
const MAX_NAME: usize = 64;

/// Characters of any other text that the other side may have a part in.
const MAX_TEXT: usize = 256;
