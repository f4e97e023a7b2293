//! Whether a certificate is the right one, and its key the other side's.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

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
    authorities: Authorities,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
pub(super) struct Server {
    check: ServerCheck,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    pub(super) fn new(authorities: Authorities, provider: &Arc<CryptoProvider>) -> Self {
        Self { authorities, algorithms: provider.signature_verification_algorithms }
    }
}

impl Server {
    pub(super) fn new(check: ServerCheck, provider: &Arc<CryptoProvider>) -> Self {
        Self { check, algorithms: provider.signature_verification_algorithms }
    }
}

fn verify(
    authorities: &Authorities,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: webpki::KeyUsage,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let anchors: Result<Vec<_>, _> =
        authorities.certificates().iter().map(webpki::anchor_from_trusted_cert).collect();
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
    leaf.verify_for_usage(
        algorithms.all,
        &anchors.map_err(|_| CertificateError::BadEncoding)?,
        intermediates,
        now,
        usage,
        None,
        None,
    )
    .map_err(|error| Error::General(error.to_string()))?;
    Ok(())
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let usage = webpki::KeyUsage::client_auth();
        verify(&self.authorities, leaf, intermediates, now, usage, &self.algorithms)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.check.authorities {
            let usage = webpki::KeyUsage::server_auth();
            verify(authorities, leaf, intermediates, now, usage, &self.algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
