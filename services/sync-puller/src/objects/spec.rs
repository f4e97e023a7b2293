//! From the spec of an object to the options of a source.

use runtime::options::Secret;
use transport::{
    Address,
    tls::{Authorities, Identity, Pem},
};

use super::{
    resource::{PasswordSecret, SourceFolder, SourceTls, TentacleSourceSpec},
    secrets::{Found, Keys},
    status::Refusal,
};
use crate::{
    config::Settings,
    options::{self, Folder, Given, OptionsError, TlsSettings},
};

/// A spec, and where its secrets are.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) namespace: &'a str,
    /// All that [`TentacleSourceSpec::secrets`] names.
    pub(crate) secrets: &'a [(String, Found)],
    pub(crate) given: &'a Given,
}

impl TentacleSourceSpec {
    /// The names of the secrets that it needs.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &String> {
        let tls = self.tls.as_ref().filter(|tls| tls.enabled != Some(false));
        let password = self.password_secret.as_ref().map(|secret| &secret.name);
        let of_tls = tls.into_iter().flat_map(|tls| [&tls.secret_name, &tls.ca_secret_name]).flatten();
        password.into_iter().chain(of_tls)
    }

    /// Where the source listens.
    pub(crate) fn address(&self, given: &Given) -> Result<Address, Refusal> {
        given.address(&self.plain()).map_err(|why| refusal("InvalidAddress", format!("address: {why}")))
    }

    /// All but the secrets.
    fn plain(&self) -> Settings {
        let folder = |SourceFolder { name, argument }: &SourceFolder| match argument {
            Some(argument) => Folder { name: name.clone(), argument: argument.clone() },
            None => Folder::named(name),
        };
        Settings {
            address: Some(self.address.clone()),
            port: self.port,
            folders: self.folders.as_ref().map(|folders| folders.iter().map(folder).collect()),
            interval: self.interval,
            connections: self.connections,
            timeout: self.timeout,
            retries: self.retries,
            mode: self.mode.clone(),
            ..Settings::default()
        }
    }
}

impl Reader<'_> {
    /// What the spec says, with the defaults that hold for all sources.
    /// Blocks: files of the defaults are read.
    pub(crate) fn source(&self, spec: &TentacleSourceSpec) -> Result<options::Source, Refusal> {
        spec.address(self.given)?;
        let settings = Settings {
            password: spec.password_secret.as_ref().map(|secret| self.password(secret)).transpose()?,
            tls: spec.tls.as_ref().map(|tls| self.tls(tls)).transpose()?,
            ..spec.plain()
        };
        let source = self.given.source(&settings, &OptionsError::File);
        source.map_err(|error| refusal("InvalidSpec", error.to_string()))
    }

    fn password(&self, secret: &PasswordSecret) -> Result<Secret, Refusal> {
        let key = secret.key.as_deref().unwrap_or("password");
        let found = self.keys(&secret.name)?.get(key);
        let found = found.ok_or_else(|| self.invalid(&secret.name, &format!("has no key {key}")))?;
        found.clone().trimmed().map_err(|why| self.invalid(&secret.name, &format!("{key}: {why}")))
    }

    fn tls(&self, tls: &SourceTls) -> Result<TlsSettings, Refusal> {
        let on = tls.enabled.unwrap_or(true);
        let mut settings = TlsSettings { on: Some(on), ..TlsSettings::default() };
        // What is switched off needs no secrets.
        if !on {
            return Ok(settings);
        }
        if let Some(name) = &tls.secret_name {
            let (certificate, key) = (self.pem(name, "tls.crt")?, self.pem(name, "tls.key")?);
            let read = Identity::load(&certificate, Some(&key), None);
            read.map_err(|error| refusal(SECRET_INVALID, error.to_string()))?;
            (settings.cert, settings.key) = (Some(certificate), Some(key));
            // cert-manager leaves it empty where it does not know.
            if self.keys(name)?.get("ca.crt").is_some_and(|ca| !ca.expose().is_empty()) {
                settings.ca = Some(self.pem(name, "ca.crt")?);
            }
        }
        if let Some(name) = &tls.ca_secret_name {
            settings.ca = Some(self.pem(name, "ca.crt")?);
        }
        if let Some(ca) = &settings.ca {
            Authorities::load(ca).map_err(|error| refusal(SECRET_INVALID, error.to_string()))?;
        }
        settings.server_name = tls.server_name.clone();
        settings.verify_name = tls.verify_name.clone();
        settings.pin_sha256 = tls.pin_sha256.clone();
        Ok(settings)
    }

    fn pem(&self, name: &str, key: &str) -> Result<Pem, Refusal> {
        let found = self.keys(name)?.get(key);
        let found = found.ok_or_else(|| self.invalid(name, &format!("has no key {key}")))?;
        Ok(Pem::given(format!("{}: {key}", self.shown(name)), found.expose().to_vec()))
    }

    fn keys(&self, name: &str) -> Result<&Keys, Refusal> {
        let found = self.secrets.iter().find(|(of, _)| of == name).map(|(_, found)| found);
        match found {
            Some(Found::Here(keys)) => Ok(keys),
            Some(Found::Forbidden(why)) => {
                let advice = "let this process's role get it";
                Err(refusal("SecretForbidden", format!("{}: {why} ({advice})", self.shown(name))))
            }
            Some(Found::Absent) | None => {
                Err(refusal("SecretNotFound", format!("{} is not there", self.shown(name))))
            }
        }
    }

    fn invalid(&self, name: &str, why: &str) -> Refusal {
        refusal(SECRET_INVALID, format!("{}: {why}", self.shown(name)))
    }

    fn shown(&self, name: &str) -> String {
        format!("secret {}/{name}", self.namespace)
    }
}

fn refusal(reason: &'static str, why: String) -> Refusal {
    Refusal { reason, why }
}

const SECRET_INVALID: &str = "SecretInvalid";

#[cfg(test)]
mod tests;
