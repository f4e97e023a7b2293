//! TLS to a source or to the central server, as each layer says it.

use std::path::PathBuf;

use clap::Arg;
use runtime::options::{Layers, Secret, SecretSource, Source as Layer, switch, value, values};
use security::{ClientTls, IdentitySource};
use serde::{Deserialize, Deserializer, de::Error as _};
use transport::tls::{NameCheck, Pem, is_server_name};

/// What one place says of TLS. What it leaves out, the next one says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    /// On or off, whatever else stands here.
    #[serde(skip)]
    pub(crate) on: Option<bool>,
    #[serde(default, deserialize_with = "file")]
    pub(crate) ca: Option<Pem>,
    #[serde(default, deserialize_with = "file")]
    pub(crate) cert: Option<Pem>,
    #[serde(default, deserialize_with = "file")]
    pub(crate) key: Option<Pem>,
    #[serde(default, deserialize_with = "crate::config::secret")]
    pub(crate) key_password: Option<Secret>,
    pub(crate) key_password_file: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    pub(crate) verify_name: Option<String>,
    pub(crate) pin_sha256: Option<String>,
}

/// The options of one kind of server: what their names begin with, and what
/// it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsOptions {
    tls: &'static str,
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
    key_password_file: &'static str,
    server_name: &'static str,
    verify_name: &'static str,
    pin_sha256: &'static str,
}

/// Of the sources.
pub(crate) const SYNC: TlsOptions = TlsOptions {
    tls: "sync-tls",
    ca: "sync-ca",
    cert: "sync-cert",
    key: "sync-key",
    key_password_file: "sync-key-password-file",
    server_name: "server-name",
    verify_name: "verify-name",
    pin_sha256: "pin-sha256",
};

/// Of the central server.
pub(crate) const FORWARD: TlsOptions = TlsOptions {
    tls: "forward-tls",
    ca: "forward-ca",
    cert: "forward-cert",
    key: "forward-key",
    key_password_file: "forward-key-password-file",
    server_name: "forward-server-name",
    verify_name: "forward-verify-name",
    pin_sha256: "forward-pin-sha256",
};

// === impl TlsOptions ===

impl TlsOptions {
    /// The options, for a program that connects to `whom`.
    pub(crate) fn arguments(self, whom: &str) -> Vec<Arg> {
        let file =
            |id, help: String| value(id, None, "FILE", "").help(help).value_parser(values::existing_file());
        vec![
            switch(self.tls, None, "").help(format!("Speak TLS to {whom}, whether or not a file below is named")),
            file(self.ca, format!("Speak TLS to {whom}; the certificate there must be of an authority in this PEM file")),
            file(self.cert, format!("Speak TLS to {whom}, and show the certificate in this PEM file")),
            file(self.key, format!("That certificate's key is in this PEM file [default: in that of --{}]", self.cert)),
            file(self.key_password_file, "The password of that key is in this file".to_owned()),
            value(self.server_name, None, "NAME", "").help(format!("The certificate of {whom} must be for this name or address [default: the one that is connected to]; with a CA")),
            value(self.verify_name, None, "auto|strict", "").help("Take a certificate without SANs by its authority alone (auto), or only if its CN is the name (strict) [default: auto]"),
            value(self.pin_sha256, None, "HEX", "").help("The certificate must be the one with this SHA-256, as 'openssl x509 -noout -fingerprint -sha256' prints it; its name is not looked at then"),
        ]
    }

    /// What the layers above the YAML file say, or those below it.
    pub(crate) fn settings(self, layers: &Layers, above: bool) -> TlsSettings {
        let here = |id: &str| layers.source_of(id).is_some_and(|layer| (layer != Layer::File) == above);
        let path = |id| here(id).then(|| layers.get::<PathBuf>(id).cloned()).flatten();
        let text = |id| here(id).then(|| layers.get::<String>(id).cloned()).flatten();
        TlsSettings {
            on: here(self.tls).then(|| layers.switch(self.tls)),
            ca: path(self.ca).map(Pem::from),
            cert: path(self.cert).map(Pem::from),
            key: path(self.key).map(Pem::from),
            key_password: None,
            key_password_file: path(self.key_password_file),
            server_name: text(self.server_name),
            verify_name: text(self.verify_name),
            pin_sha256: text(self.pin_sha256),
        }
    }
}

// === impl TlsSettings ===

impl TlsSettings {
    /// What `places` say together, the highest first; none where connections
    /// are plain.
    ///
    /// # Errors
    /// What is wrong, beginning with the key.
    pub(crate) fn merge(places: &[&Self]) -> Result<Option<ClientTls>, String> {
        for place in places {
            place.check()?;
        }
        let first =
            |pick: fn(&Self) -> &Option<String>| places.iter().find_map(|place| pick(place).as_deref());
        let (server_name, verify_name) =
            (first(|place| &place.server_name), first(|place| &place.verify_name));
        let said = server_name.map(|_| "server_name").or(verify_name.map(|_| "verify_name"));
        match (places.iter().find_map(|place| place.stance()), said) {
            (Some(true), _) => {}
            (None, Some(key)) => return Err(unchecked(key)),
            (Some(false), _) | (None, None) => return Ok(None),
        }
        let tls = ClientTls {
            // A key belongs to the certificate that stands beside it.
            identity: places.iter().find_map(|place| place.identity()),
            authorities: places.iter().find_map(|place| place.ca.clone()),
            name: verify_name.map_or(Ok(NameCheck::SubjectAltNames), name_check)?,
            server_name: server_name.map(self::server_name).transpose()?,
            pin: first(|place| &place.pin_sha256).map(pin).transpose()?,
        };
        if let Some(key) = said
            && tls.authorities.is_none()
            && tls.pin.is_none()
        {
            return Err(unchecked(key));
        }
        tls.load()?;
        Ok(Some(tls))
    }

    fn check(&self) -> Result<(), String> {
        if self.cert.is_none() {
            let key = self.key.is_some().then_some("key");
            let password = self.key_password.is_some().then_some("key_password");
            let file = self.key_password_file.is_some().then_some("key_password_file");
            if let Some(alone) = key.or(password).or(file) {
                return Err(format!(
                    "{alone}: only goes with a certificate, which is missing beside it: cert"
                ));
            }
        }
        match (&self.key_password, &self.key_password_file) {
            (Some(_), Some(_)) => {
                Err("key_password: give either this or key_password_file, not both".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether this place switches TLS on or off, or says nothing of it.
    fn stance(&self) -> Option<bool> {
        let named = self.ca.is_some() || self.cert.is_some() || self.pin_sha256.is_some();
        self.on.or(named.then_some(true))
    }

    fn identity(&self) -> Option<IdentitySource> {
        let given = self.key_password.clone().map(SecretSource::Given);
        Some(IdentitySource {
            certificate: self.cert.clone()?,
            key: self.key.clone(),
            key_password: given.or(self.key_password_file.clone().map(SecretSource::File)),
        })
    }
}

/// `true`, `false`, or a map of what is to be said.
pub(crate) fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TlsSettings>, D::Error> {
    match serde_yaml::Value::deserialize(deserializer)? {
        serde_yaml::Value::Bool(on) => Ok(Some(TlsSettings { on: Some(on), ..TlsSettings::default() })),
        map @ serde_yaml::Value::Mapping(_) => {
            let settings: TlsSettings =
                serde_yaml::from_value(map).map_err(|error| D::Error::custom(format!("tls: {error}")))?;
            Ok(Some(TlsSettings { on: Some(true), ..settings }))
        }
        _ => Err(D::Error::custom("tls: true, false, or a map of ca, cert, key and others is needed")),
    }
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pem>, D::Error> {
    Ok(Option::<PathBuf>::deserialize(deserializer)?.map(Pem::from))
}

/// Without them, a certificate of any name is taken.
fn unchecked(key: &str) -> String {
    format!("{key}: only goes with ca or pin_sha256, by which the certificate is checked")
}

fn name_check(text: &str) -> Result<NameCheck, String> {
    match text {
        "auto" => Ok(NameCheck::SubjectAltNames),
        "strict" => Ok(NameCheck::Strict),
        _ => Err(format!("verify_name: {text:?}: allowed are auto and strict")),
    }
}

fn server_name(text: &str) -> Result<String, String> {
    match is_server_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("server_name: {text:?}: a host name or an address is needed")),
    }
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b':').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let hex = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes.filter(|_| hex).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("pin_sha256: {text:?}: 64 hexadecimal digits are needed, with colons between or without")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_openssl_prints_it() {
        let plain = "0f".repeat(32);
        let colons = ["0F"; 32].join(":");
        assert_eq!(pin(&plain), Ok([15; 32]));
        assert_eq!(pin(&colons), Ok([15; 32]));
        for wrong in ["", "0f", &plain[1..], &plain.replace('f', "g"), &plain.replace("0f", "+f"), "é"] {
            assert!(pin(wrong).unwrap_err().contains("64 hexadecimal digits"), "{wrong}");
        }
    }

    #[test]
    fn a_name_without_what_vouches_for_it_is_refused() {
        let named = |on, server_name: Option<&str>, verify_name: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let (server_name, verify_name) = (text(server_name), text(verify_name));
            TlsSettings { on, server_name, verify_name, ..TlsSettings::default() }
        };
        for on in [None, Some(true)] {
            for (server_name, verify_name) in
                [(Some("a"), None), (None, Some("strict")), (None, Some("auto"))]
            {
                let refused = TlsSettings::merge(&[&named(on, server_name, verify_name)]).unwrap_err();
                assert!(
                    refused.ends_with("only goes with ca or pin_sha256, by which the certificate is checked")
                );
            }
        }
        // Switched off in words: the rest is for others.
        let off = TlsSettings { on: Some(false), ..TlsSettings::default() };
        assert_eq!(TlsSettings::merge(&[&off, &named(None, Some("a"), None)]), Ok(None));
        let pinned = TlsSettings { pin_sha256: Some("0f".repeat(32)), ..TlsSettings::default() };
        assert!(TlsSettings::merge(&[&pinned, &named(None, Some("a"), None)]).unwrap().is_some());
    }

    #[test]
    fn a_higher_place_switches_off_what_a_lower_one_switches_on() {
        let on = TlsSettings { on: Some(true), ..TlsSettings::default() };
        let off = TlsSettings { on: Some(false), ..TlsSettings::default() };
        let silent = TlsSettings::default();
        let merged = |places: &[&TlsSettings]| TlsSettings::merge(places).unwrap().is_some();
        assert!(merged(&[&on, &off]) && merged(&[&silent, &on]));
        assert!(!merged(&[&off, &on]) && !merged(&[&silent, &silent]));
    }
}
