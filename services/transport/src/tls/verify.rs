//! Whether a certificate is the right one, and its key the other side's.
//!
//! A leaf that is X.509 v3 and not an authority's is checked by the `webpki`
//! crate, and that is the end of it. What the common commands of `openssl`
//! make beside those has a narrow check of its own, see `narrow`. The key's
//! possession is always proven, see `possession`.

mod certificate;
mod chain;
mod name;
mod narrow;
mod possession;
mod refusal;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

pub(super) use self::chain::check_authority;
pub use self::name::{has_alternative_names, names_of};
pub(super) use self::refusal::Refusal;
use self::{certificate::Certificate, chain::Trusted, usage::Usage};
use super::files::Authorities;

/// What a client checks of a server's certificate. By default nothing, as the
/// peers without a CA: then the connection is encrypted, and whoever is at
/// its other end can read it.
#[derive(Clone, Debug, Default)]
pub struct ServerCheck {
    /// It must chain to one of these.
    pub authorities: Option<Authorities>,
    /// Whether its name must be the server's. Without authorities a name says
    /// nothing, and is not looked at.
    pub name: NameCheck,
    /// SHA-256 of the certificate (of its DER form) that it must be.
    pub pin: Option<[u8; 32]>,
}

/// Which names a certificate may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCheck {
    /// The server's must be among the SANs, or if there are none be the CN.
    #[default]
    Strict,
    /// The server's must be among the SANs; a certificate without any passes.
    SubjectAltNames,
}

#[derive(Debug)]
pub(super) struct Clients {
    trusted: Trusted,
    hints: Vec<DistinguishedName>,
}

#[derive(Debug)]
pub(super) struct Server {
    trusted: Option<Trusted>,
    name: NameCheck,
    pin: Option<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Whether a certificate is valid at this time by its own dates.
pub(super) fn check_dates(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    Certificate::parse(leaf)?.check_dates(now)
}

// === impl Clients ===

impl Clients {
    pub(super) fn new(authorities: &Authorities, provider: &Arc<CryptoProvider>) -> Self {
        let trusted = Trusted::new(authorities, provider.signature_verification_algorithms);
        // A client with several certificates picks by these. Of too many none
        // is sent: each handshake would carry them, and a client without a
        // hint shows what it has.
        let hints = trusted.subjects.iter().map(|name| DistinguishedName::from(name.clone()));
        let few = trusted.subjects.iter().map(Vec::len).sum::<usize>() <= MAX_HINTS;
        let hints = if few { hints.collect() } else { Vec::new() };
        Self { trusted, hints }
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trusted.verify(leaf, intermediates, now, Usage::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls12(message, leaf, signed, &self.trusted.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls13(message, leaf, signed, &self.trusted.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.algorithms.supported_schemes()
    }
}

// === impl Server ===

impl Server {
    pub(super) fn new(check: ServerCheck, provider: &Arc<CryptoProvider>) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        let trusted = check.authorities.map(|authorities| Trusted::new(&authorities, algorithms));
        Self { trusted, name: check.name, pin: check.pin, algorithms }
    }

    fn check_pin(
        &self,
        pin: [u8; 32],
        leaf: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let digest: [u8; 32] = Sha256::digest(leaf).into();
        if digest != pin {
            return Err(Refusal::Pin(digest).into());
        }
        check_dates(leaf, now)
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(pin) = self.pin {
            self.check_pin(pin, leaf, now)?;
        }
        if let Some(trusted) = &self.trusted {
            trusted.verify(leaf, intermediates, now, Usage::Server)?;
            if self.pin.is_none() {
                name::check(leaf, server_name, self.name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls12(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls13(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Bytes of names that a server sends to say whose certificates it takes.
const MAX_HINTS: usize = 4096;
