//! Certificates and keys in PEM files.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// A certificate, those between it and its authority, and its key.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

/// Certificates that others must chain to.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's.
        error: io::Error,
    },
    /// It does not hold what it should.
    #[error("{}: {why}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl Identity {
    /// Reads the certificate with its chain from one PEM file, and the key
    /// from another or from the same. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn load(certificate: &Path, key: Option<&Path>, _password: Option<&[u8]>) -> Result<Self, FileError> {
        let chain = certificates(certificate)?;
        let key_path = key.unwrap_or(certificate);
        let wrong = |why: String| FileError::Content { path: key_path.to_owned(), why };
        let key =
            PrivateKeyDer::from_pem_slice(&read(key_path)?).map_err(|error| wrong(error.to_string()))?;
        let key = any_supported_type(&key).map_err(|error| wrong(error.to_string()))?;
        Ok(Self(Arc::new(CertifiedKey::new(chain, key))))
    }

    pub(super) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

impl Authorities {
    /// Reads one certificate or more from a PEM file. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn load(path: &Path) -> Result<Self, FileError> {
        certificates(path).map(Self)
    }

    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |why: String| FileError::Content { path: path.to_owned(), why };
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("holds no certificate".to_owned())),
        found => found.map_err(|error| wrong(error.to_string())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| FileError::Read { path: path.to_owned(), error })?;
    Ok(bytes)
}

/// Bytes of a file: some thousand certificates.
const MAX_FILE: u64 = 4 << 20;
