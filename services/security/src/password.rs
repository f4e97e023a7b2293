//! The password of the wire, read again when its file changes.

use std::sync::Arc;

use clap::Arg;
use protocol::PasswordDigest;
use runtime::{
    options::{SecretSource, value, values},
    reload::Reloaded,
};

/// The options of a server: `password`, and `password-file`.
pub fn password_arguments() -> Vec<Arg> {
    vec![
        value("password", 'x', "PASSWORD", "Clients must know this password (others can read a command line: --password-file keeps it from them)")
            .value_parser(values::secret()),
        value("password-file", None, "FILE", "Clients must know the password in this file")
            .value_parser(values::existing_file()),
    ]
}

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
