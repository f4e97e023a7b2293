//! The files of a certificate with its key, as options name them.

use std::path::PathBuf;

use runtime::options::SecretSource;
use transport::tls::{FileError, Identity};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// PEM: the certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// PEM; where there is none, the key is in the certificate's file.
    pub key: Option<PathBuf>,
    /// What the key is encrypted with.
    pub key_password: Option<SecretSource>,
}

impl IdentityFiles {
    /// Reads them. Blocks.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn load(&self) -> Result<Identity, String> {
        let password = self.key_password.as_ref().map(SecretSource::read).transpose()?;
        let password = password.as_ref().map(runtime::options::Secret::expose);
        Identity::load(&self.certificate, self.key.as_deref(), password)
            .map_err(|error: FileError| error.to_string())
    }

    /// All of them, to be watched.
    pub fn paths(&self) -> Vec<PathBuf> {
        let secret = self.key_password.as_ref().and_then(SecretSource::path);
        let key = self.key.as_deref();
        [Some(self.certificate.as_path()), key, secret].into_iter().flatten().map(ToOwned::to_owned).collect()
    }
}
