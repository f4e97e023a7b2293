//! Whether one of the authorities vouches for a certificate.

use std::{iter, ptr};

use rustls::{CertificateError, OtherError, crypto::WebPkiSupportedAlgorithms};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, VerifiedPath};

use super::{certificate::Certificate, narrow, refusal::Refusal, usage::Usage};
use crate::tls::files::Authorities;

/// The authorities of a CA file, made ready to be looked up.
#[derive(Debug)]
pub(super) struct Trusted {
    /// As `webpki` takes them, in the order of `certificates`.
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<CertificateDer<'static>>,
    /// The whole `Name` of each, in the same order.
    pub(super) subjects: Vec<Vec<u8>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

// === impl Trusted ===

impl Trusted {
    /// One that cannot be read vouches for nobody.
    pub(super) fn new(authorities: &Authorities, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let mut trusted = Self { anchors: vec![], certificates: vec![], subjects: vec![], algorithms };
        for der in authorities.certificates() {
            if let (Ok(anchor), Ok(certificate)) =
                (webpki::anchor_from_trusted_cert(der), Certificate::parse(der))
            {
                trusted.anchors.push(anchor.to_owned());
                trusted.subjects.push(certificate.subject().to_owned());
                trusted.certificates.push(der.clone());
            }
        }
        trusted
    }

    /// # Errors
    /// The one among the reasons that says most.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), CertificateError> {
        match Certificate::parse(leaf) {
            Ok(certificate) if certificate.is_v1() || certificate.is_authority() => {
                narrow::verify(self, &certificate, intermediates, now, usage)
            }
            _ => self.verify_strictly(leaf, intermediates, now, usage),
        }
    }

    /// Those of this subject, a whole `Name`.
    pub(super) fn named<'a>(
        &'a self,
        subject: &'a [u8],
    ) -> impl Iterator<Item = &'a CertificateDer<'static>> {
        let both = self.subjects.iter().zip(&self.certificates);
        both.filter(move |(name, _)| *name == subject).map(|(_, certificate)| certificate)
    }

    fn verify_strictly(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), CertificateError> {
        // webpki takes an anchor's name and key alone.
        let whole_anchor = |path: &VerifiedPath<'_>| {
            let place = self.anchors.iter().position(|anchor| ptr::eq(anchor, path.anchor()));
            let authority =
                place.map(|place| &self.certificates[place]).ok_or(webpki::Error::UnknownIssuer)?;
            check_anchor(authority, leaf, now)
        };
        let certificate = EndEntityCert::try_from(leaf).map_err(reason)?;
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                usage.strict(),
                None,
                Some(&whole_anchor),
            )
            .map(|_| ())
            .map_err(|error| match error {
                webpki::Error::InvalidSignatureForPublicKey if self.is_by_weak_key(leaf, intermediates) => {
                    Refusal::WeakKey.into()
                }
                error => reason(error),
            })
    }

    /// Whether a key that is not taken may have signed one of these.
    fn is_by_weak_key(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        let is_weak = |der: &CertificateDer<'_>| Certificate::parse(der).is_ok_and(|one| one.has_weak_key());
        let mut shown = iter::once(leaf).chain(intermediates).filter_map(|der| Certificate::parse(der).ok());
        intermediates.iter().any(is_weak) || shown.any(|one| self.named(one.issuer()).any(is_weak))
    }
}

/// Whether a certificate of a CA file can vouch for any: for others, or at
/// least for itself.
///
/// # Errors
/// Why not.
pub(in crate::tls) fn check_authority(der: &CertificateDer<'_>) -> Result<(), &'static str> {
    let unread = "its form is not one that is taken";
    webpki::anchor_from_trusted_cert(der).map_err(|_| unread)?;
    let certificate = Certificate::parse(der).map_err(|_| unread)?;
    if certificate.has_weak_key() {
        return Err("it has an RSA key below 2048 bits, which is not taken");
    }
    if !certificate.is_authority() && !certificate.is_self_issued() {
        return Err("it is neither an authority's nor signed by itself");
    }
    Ok(())
}

/// It is valid today, and it is an authority's, or it vouches for itself
/// alone.
fn check_anchor(
    der: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let authority = Certificate::parse(der).map_err(|_| webpki::Error::BadDer)?;
    let old_root = authority.is_v1() && authority.is_self_issued();
    if !old_root && !authority.is_authority() && der.as_ref() != leaf.as_ref() {
        return Err(webpki::Error::EndEntityUsedAsCa);
    }
    authority.check_dates(now).map_err(|error| match error {
        CertificateError::ExpiredContext { time, not_after } => {
            webpki::Error::CertExpired { time, not_after }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            webpki::Error::CertNotValidYet { time, not_before }
        }
        _ => webpki::Error::InvalidCertValidity,
    })
}

/// `webpki`'s reason as rustls knows it, which picks the alert by it.
pub(super) fn reason(error: webpki::Error) -> CertificateError {
    use webpki::Error;
    match error {
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::InvalidCertValidity => {
            CertificateError::BadEncoding
        }
        Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Error::UnknownIssuer => CertificateError::UnknownIssuer,
        Error::InvalidSignatureForPublicKey => Refusal::Signature.into(),
        Error::EndEntityUsedAsCa => Refusal::NotAnAuthority.into(),
        Error::PathLenConstraintViolated => Refusal::PathLength.into(),
        Error::MaximumSignatureChecksExceeded | Error::MaximumPathBuildCallsExceeded => {
            Refusal::TooManyAttempts.into()
        }
        Error::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        Error::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        Error::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        error => CertificateError::Other(OtherError(std::sync::Arc::new(error))),
    }
}
