//! Whether the other side holds the key of the certificate that it shows.
//!
//! Proven in each full handshake, also where nothing else about the
//! certificate is checked. rustls's own functions want a certificate that
//! `webpki` can read; these take its public key, whatever its form.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use webpki::{EndEntityCert, RawPublicKeyEntity};

use super::{certificate::Certificate, refusal::Refusal};

pub(super) fn verify_tls12(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = public_key(leaf)?;
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
    let candidates = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, candidates) = candidates.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    // TLS 1.2's schemes name no curve: one of the algorithms is for this key.
    for algorithm in *candidates {
        match key.verify_signature(*algorithm, message, signed.signature()) {
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(CertificateError::BadSignature.into()),
            Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
        }
    }
    Err(CertificateError::BadSignature.into())
}

pub(super) fn verify_tls13(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature_with_raw_key(message, &public_key(leaf)?, signed, algorithms)
}

fn public_key(leaf: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let read = Certificate::parse(leaf);
    if read.as_ref().is_ok_and(Certificate::has_weak_key) {
        return Err(CertificateError::from(Refusal::WeakKey).into());
    }
    match EndEntityCert::try_from(leaf) {
        Ok(strict) => Ok(strict.subject_public_key_info()),
        Err(_) => Ok(read?.public_key().to_vec().into()),
    }
}
