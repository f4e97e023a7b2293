//! The narrow check: for a leaf that `webpki` cannot take by its form.
//!
//! These are X.509 v1, and v3 that says of itself that it is an authority.
//! Both are what the common commands of `openssl` make. All else goes to
//! `webpki`, and never comes here after a refusal.
//!
//! What it does: follows issuers, by names that are equal to the byte, up to a
//! certificate of the CA file, at most [`MAX_DEPTH`] of them; of each
//! certificate on the way it checks the dates, what it is for, that it may
//! vouch for others, and the signature of its issuer, by the algorithms of
//! the TLS library alone (so no SHA-1, no MD5, no RSA below 2048 bits). A
//! self-signed certificate that is in the CA file, byte for byte, is trusted
//! as itself.
//!
//! What it is not: it knows no name constraints and no policies, and refuses
//! authorities that have the former, and whoever has any other critical
//! extension. It fetches nothing and knows no revocation. It does no TLS.

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;

use super::{
    certificate::Certificate,
    chain::{Trusted, reason},
    refusal::Refusal,
    usage::Usage,
};

/// # Errors
/// The first reason that says more than that the issuer is unknown.
pub(super) fn verify(
    trusted: &Trusted,
    leaf: &Certificate<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<(), CertificateError> {
    leaf.check_dates(now)?;
    leaf.check_extensions(usage)?;
    if leaf.is_self_issued() && trusted.named(leaf.subject()).any(|one| one.as_ref() == leaf.der) {
        return Ok(());
    }
    let shown = intermediates.iter().take(MAX_SHOWN);
    let shown = shown.filter_map(|der| Certificate::parse(der).ok()).collect();
    Search { trusted, shown, now, usage, attempts: MAX_ATTEMPTS }.climb(leaf, 0)
}

struct Search<'a> {
    trusted: &'a Trusted,
    /// What the other side has shown beside its own.
    shown: Vec<Certificate<'a>>,
    now: UnixTime,
    usage: Usage,
    /// Signatures that may still be looked at.
    attempts: usize,
}

// === impl Search ===

impl Search<'_> {
    /// From a certificate that is found good, with `below` authorities
    /// between it and the leaf, to one of the CA file.
    fn climb(&mut self, certificate: &Certificate<'_>, below: usize) -> Result<(), CertificateError> {
        let mut reason = CertificateError::UnknownIssuer;
        let trusted = self.trusted;
        for authority in trusted.named(certificate.issuer()) {
            let authority = Certificate::parse(authority)?;
            match self.check_trusted(certificate, &authority, below) {
                Ok(()) => return Ok(()),
                Err(error) => reason = more_telling(reason, error),
            }
        }
        if below + 1 == MAX_DEPTH {
            return Err(reason);
        }
        for place in 0..self.shown.len() {
            let issuer = &self.shown[place];
            if issuer.subject() != certificate.issuer() || issuer.der == certificate.der {
                continue;
            }
            let issuer = issuer.clone();
            let found =
                self.check_issuer(certificate, &issuer, below).and_then(|()| self.climb(&issuer, below + 1));
            match found {
                Ok(()) => return Ok(()),
                Err(error) => reason = more_telling(reason, error),
            }
        }
        Err(reason)
    }

    fn check_trusted(
        &mut self,
        certificate: &Certificate<'_>,
        authority: &Certificate<'_>,
        below: usize,
    ) -> Result<(), CertificateError> {
        // Roots of old have nothing that says that they are one.
        if !(authority.is_v1() && authority.is_self_issued()) {
            authority.check_may_issue(below)?;
        }
        self.check_signature(certificate, authority)
    }

    fn check_issuer(
        &mut self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
        below: usize,
    ) -> Result<(), CertificateError> {
        issuer.check_may_issue(below)?;
        self.check_signature(certificate, issuer)
    }

    /// The issuer's dates and weight come first: they cost less.
    fn check_signature(
        &mut self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
    ) -> Result<(), CertificateError> {
        issuer.check_dates(self.now)?;
        issuer.check_extensions(self.usage)?;
        if issuer.has_weak_key() {
            return Err(Refusal::WeakKey.into());
        }
        self.attempts = self.attempts.checked_sub(1).ok_or(Refusal::TooManyAttempts)?;
        let key = SubjectPublicKeyInfoDer::from(issuer.public_key());
        let key = RawPublicKeyEntity::try_from(&key).map_err(reason)?;
        let named = self.trusted.algorithms.all.iter();
        let mut result = Err(CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: certificate.algorithm.to_owned(),
            supported_algorithms: named.clone().map(|one| one.signature_alg_id()).collect(),
        });
        // Several share a name, for keys on different curves.
        for algorithm in named.filter(|one| one.signature_alg_id().as_ref() == certificate.algorithm) {
            match key.verify_signature(*algorithm, certificate.signed, certificate.signature()) {
                Err(error @ webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {
                    result = Err(reason(error));
                }
                other => return other.map_err(reason),
            }
        }
        result
    }
}

fn more_telling(known: CertificateError, new: CertificateError) -> CertificateError {
    if matches!(known, CertificateError::UnknownIssuer) { new } else { known }
}

/// Certificates above the leaf, the one of the CA file among them.
const MAX_DEPTH: usize = 4;

/// Certificates beside the leaf that are looked at.
const MAX_SHOWN: usize = 8;

/// Signatures that are looked at for one leaf.
const MAX_ATTEMPTS: usize = 16;
