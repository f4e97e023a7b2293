//! Where a certificate and its key are, as options name them.

use std::path::{Path, PathBuf};

use clap::Arg;
use runtime::{
    options::{Layers, OptionError, Secret, SecretSource, switch, value, values},
    terminal,
};
use transport::tls::{Identity, Pem};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySource {
    /// The certificate, then those between it and its authority.
    pub certificate: Pem,
    /// Where there is none, the key is beside the certificate.
    pub key: Option<Pem>,
    /// What the key is encrypted with.
    pub key_password: Option<SecretSource>,
}

/// How often a password is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Once,
    Twice,
}

/// The options of the key, which the peers' server and client have alike.
pub(crate) fn key_arguments() -> Vec<Arg> {
    vec![
        value("ssl-key", 'k', "FILE", "The certificate's key is in this PEM file [default: in that of -e]")
            .value_parser(values::existing_file()),
        switch("ssl-password", 'w', "Ask on the terminal for the password of the key"),
        value("key-password-file", None, "FILE", "The password of the key is in this file; nobody is asked")
            .value_parser(values::existing_file()),
    ]
}

impl IdentitySource {
    /// What `-e`, `-k`, `-w` and `--key-password-file` say; none without
    /// `-e`. Asks for the password where `-w` says so.
    ///
    /// # Errors
    /// One line that names the option and what to do.
    pub(crate) fn from_layers(layers: &Layers, ask: Ask) -> Result<Option<Self>, OptionError> {
        let Some(certificate) = layers.get::<PathBuf>("ssl-cert").cloned() else { return Ok(None) };
        let key = layers.get::<PathBuf>("ssl-key").cloned();
        let key_password = match layers.get::<PathBuf>("key-password-file") {
            Some(path) => {
                let source = SecretSource::File(path.clone());
                source.read().map_err(|why| layers.refuse("key-password-file", why))?;
                Some(source)
            }
            None if layers.switch("ssl-password") => {
                let asked = asked(key.as_deref().unwrap_or(&certificate), ask);
                let hint = "run in a terminal, or name a file that holds it: --key-password-file FILE";
                let wrong = |why| layers.refuse("ssl-password", format!("{why} ({hint})"));
                Some(SecretSource::Given(asked.map_err(wrong)?))
            }
            None => None,
        };
        Ok(Some(Self { certificate: certificate.into(), key: key.map(Pem::from), key_password }))
    }

    /// What was asked for on the terminal.
    pub fn asked(&self) -> Option<&Secret> {
        match &self.key_password {
            Some(SecretSource::Given(secret)) => Some(secret),
            _ => None,
        }
    }

    /// Reads them. Blocks.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn load(&self) -> Result<Identity, String> {
        let password = self.key_password.as_ref().map(SecretSource::read).transpose()?;
        Identity::load(&self.certificate, self.key.as_ref(), password.as_ref().map(Secret::expose))
            .map_err(|error| error.to_string())
    }

    /// Those that are files, to be watched.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let secret = self.key_password.as_ref().and_then(SecretSource::path);
        let paths = [self.certificate.path(), self.key.as_ref().and_then(Pem::path), secret];
        paths.into_iter().flatten().map(ToOwned::to_owned).collect()
    }
}

/// Refuses those of `ids` that are given without `-e`.
pub(crate) fn only_with_certificate(layers: &Layers, ids: &[&str]) -> Result<(), OptionError> {
    let given = |id: &&&str| match **id {
        "ssl-password" => layers.switch("ssl-password"),
        id => layers.source_of(id).is_some(),
    };
    match ids.iter().find(given) {
        Some(id) if layers.source_of("ssl-cert").is_none() => {
            Err(layers.refuse(id, "only goes with a certificate (name one: -e FILE)"))
        }
        _ => Ok(()),
    }
}

fn asked(key: &Path, ask: Ask) -> Result<Secret, terminal::AskError> {
    let prompt = format!("Password of the key in {}: ", key.display());
    terminal::ask(&prompt, (ask == Ask::Twice).then_some("The same again: "))
}
