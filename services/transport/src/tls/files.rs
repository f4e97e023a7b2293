//! Certificates and keys in PEM.

mod key;
mod pem;

use std::{io, path::PathBuf, sync::Arc};

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time};

pub use self::pem::Pem;
use self::pem::Text;
use super::verify::check_authority;

/// A certificate, those between it and its authority, and its key.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

/// Certificates that others must chain to.
#[derive(Clone, Debug)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    unusable: Vec<String>,
}

/// How long a certificate is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Whose it is, as `CN=web01`.
    pub subject: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// What is wrong with a file, or with what was given in its place.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("{}: cannot be read: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's.
        error: io::Error,
    },
    /// It does not hold what it should.
    #[error("{from}: {why}")]
    Content {
        /// The file, or the name of what was given.
        from: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

// === impl Identity ===

impl Identity {
    /// Reads the certificate with its chain from one place, and the key from
    /// another or from the same. `password` is for a key that is
    /// encrypted, and not looked at for another. Blocks.
    ///
    /// # Errors
    /// [`PemError`]; of a key that is not the certificate's too.
    pub fn load(certificate: &Pem, key: Option<&Pem>, password: Option<&[u8]>) -> Result<Self, PemError> {
        let pem = Text::read(certificate)?;
        let chain = certificates(&pem)?;
        let other = key.map(Text::read).transpose()?;
        let signing = key::read(other.as_ref().unwrap_or(&pem), password)?;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|_| pem.wrong(UNREADABLE))?;
        // Not by `CertifiedKey::keys_match`, which reads X.509 v3 alone.
        if let Some(public) = signing.public_key()
            && public.as_ref() != leaf.public_key().raw
        {
            let key = key.map_or("in the same file".to_owned(), |key| format!("in {key}"));
            return Err(pem.wrong(&format!(
                "the key {key} is not this certificate's (the first certificate of the file must be the key's)"
            )));
        }
        Ok(Self(Arc::new(CertifiedKey::new(chain, signing))))
    }

    pub(super) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

// === impl Authorities ===

impl Authorities {
    /// Reads one certificate or more. Blocks.
    ///
    /// # Errors
    /// [`PemError`]; where none of them can vouch for any too.
    pub fn load(from: &Pem) -> Result<Self, PemError> {
        let pem = Text::read(from)?;
        let certificates = certificates(&pem)?;
        let unusable = certificates.iter().enumerate().filter_map(|(at, certificate)| {
            let why = check_authority(certificate).err()?;
            Some(format!("certificate {} can vouch for nobody: {why}", at + 1))
        });
        let unusable: Vec<_> = unusable.collect();
        match unusable.first() {
            Some(why) if unusable.len() == certificates.len() => Err(pem.wrong(why)),
            _ => Ok(Self { certificates, unusable }),
        }
    }

    /// What is wrong with those that can vouch for nobody, one line each.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

fn certificates(pem: &Text<'_>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = pem.certificates()?;
    if found.is_empty() {
        return Err(pem.wrong(&format!("holds no certificate, but {}", pem.content())));
    }
    for (at, certificate) in found.iter().enumerate() {
        if X509Certificate::from_der(certificate).is_err() {
            return Err(pem.wrong(&format!("certificate {}: {UNREADABLE}", at + 1)));
        }
    }
    Ok(found)
}

/// How long the certificates there are good for. Blocks.
///
/// # Errors
/// [`PemError`].
pub fn validities(from: &Pem) -> Result<Vec<Validity>, PemError> {
    Ok(certificates(&Text::read(from)?)?.iter().filter_map(validity).collect())
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let seconds = ASN1Time::timestamp;
    Some(Validity {
        subject: read.subject().to_string().escape_debug().to_string(),
        not_before: seconds(&read.validity().not_before),
        not_after: seconds(&read.validity().not_after),
    })
}

const UNREADABLE: &str = "it is damaged, or no X.509";

#[cfg(test)]
mod tests;
