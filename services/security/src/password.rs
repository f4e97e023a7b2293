//! The password of the wire, read again when its file changes.

use std::sync::Arc;

use protocol::PasswordDigest;
use runtime::{options::SecretSource, reload::Reloaded};

/// What one side must say, and the other compares.
#[derive(Debug)]
pub struct Password(Reloaded<PasswordDigest>);

impl Password {
    /// Reads it, again when its file changes. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn start(source: SecretSource) -> Result<Self, String> {
        let paths = source.path().map(ToOwned::to_owned).into_iter().collect();
        let read = move || source.read().map(|secret| PasswordDigest::of(secret.expose()));
        Ok(Self(Reloaded::start("password", paths, read)?))
    }

    /// As it goes on the wire now.
    pub fn digest(&self) -> Arc<PasswordDigest> {
        self.0.get()
    }
}
