//! Reasons that neither TLS nor `webpki` have a word for.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::tls) enum Refusal {
    #[error("its signature is not of the authority that it names")]
    Signature,
    #[error("it, or one that vouches for it, has an RSA key below 2048 bits, which is not taken")]
    WeakKey,
    #[error("what vouches for it is not an authority's certificate")]
    NotAnAuthority,
    #[error("an authority above it allows fewer authorities in between")]
    PathLength,
    #[error("an authority above it restricts names, which is not judged for certificates of this kind")]
    NameConstraints,
    #[error("finding what vouches for it takes too many attempts")]
    TooManyAttempts,
    #[error("another one is pinned than this with SHA-256 {}", hexadecimal(.0))]
    Pin([u8; 32]),
}

impl From<Refusal> for CertificateError {
    fn from(refusal: Refusal) -> Self {
        Self::Other(OtherError(Arc::new(refusal)))
    }
}

fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
