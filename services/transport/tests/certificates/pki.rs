//! Certificates that `openssl` makes, in a folder that goes with the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A key's kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A folder in which `NAME.pem` is a certificate and `NAME.key` its key.
pub(crate) struct Pki(TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config"), CONFIG).unwrap();
        fs::write(folder.path().join("index"), "").unwrap();
        fs::write(folder.path().join("serial"), "01").unwrap();
        Self(folder)
    }

    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.pem"))
    }

    pub(crate) fn private_key(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.key"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Runs `openssl` in the folder with these words.
    pub(crate) fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn key(&self, name: &str, key: Key) {
        let how = match key {
            Key::Rsa => "RSA -pkeyopt rsa_keygen_bits:2048",
            Key::P256 => "EC -pkeyopt ec_paramgen_curve:P-256",
            Key::P384 => "EC -pkeyopt ec_paramgen_curve:P-384",
            Key::Ed25519 => "ED25519",
        };
        self.openssl(&format!("genpkey -algorithm {how} -out {name}.key"));
    }

    /// As `openssl req -x509` does it; `section` of [`CONFIG`].
    pub(crate) fn self_signed(&self, name: &str, key: Key, subject: &str, section: &str) {
        self.key(name, key);
        self.again_self_signed(name, subject, section);
    }

    /// With the key that is there.
    pub(crate) fn again_self_signed(&self, name: &str, subject: &str, section: &str) {
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj {subject} -days 30 -config config -extensions {section} -out {name}.pem"
        ));
    }

    pub(crate) fn authority(&self, name: &str, key: Key) {
        self.self_signed(name, key, &format!("/O=Test/CN={name}"), "authority");
    }

    /// X.509 v1, as `openssl x509 -req` does it without extensions.
    pub(crate) fn v1(&self, name: &str, key: Key, subject: &str, issuer: &str) {
        self.request(name, key, subject);
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -set_serial 4711 -days 30 -out {name}.pem"
        ));
    }

    /// X.509 v3, with a section of [`CONFIG`].
    pub(crate) fn v3(&self, name: &str, key: Key, subject: &str, issuer: &str, section: &str) {
        self.request(name, key, subject);
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -set_serial 4712 -days 30 \
             -extfile config -extensions {section} -out {name}.pem"
        ));
    }

    /// From a year to another; v1 without a section. Its own issuer signs
    /// itself.
    pub(crate) fn dated(&self, name: &str, issuer: &str, years: (u32, u32), section: Option<&str>) {
        if !self.private_key(name).exists() {
            self.key(name, Key::P256);
        }
        self.openssl(&format!(
            "req -new -key {name}.key -subj /O=Test/CN={name} -config config -out {name}.csr"
        ));
        let signer = if issuer == name {
            format!("-selfsign -keyfile {name}.key")
        } else {
            format!("-cert {issuer}.pem -keyfile {issuer}.key")
        };
        let extensions = section.map(|section| format!("-extensions {section}")).unwrap_or_default();
        self.openssl(&format!(
            "ca -batch -notext -config config {signer} -in {name}.csr -out {name}.pem \
             -startdate {}0101000000Z -enddate {}0101000000Z {extensions}",
            years.0, years.1
        ));
    }

    pub(crate) fn request(&self, name: &str, key: Key, subject: &str) {
        self.key(name, key);
        self.openssl(&format!("req -new -key {name}.key -subj {subject} -config config -out {name}.csr"));
    }

    /// One PEM file of several, as `name`.
    pub(crate) fn bundle(&self, name: &str, parts: &[&str]) {
        let parts = parts.iter().map(|part| fs::read_to_string(self.certificate(part)).unwrap());
        fs::write(self.certificate(name), parts.collect::<String>()).unwrap();
    }
}

const CONFIG: &str = "\
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical,CA:TRUE
[shortest]
basicConstraints = critical,CA:TRUE,pathlen:0
[unsigning]
basicConstraints = critical,CA:TRUE
keyUsage = critical,cRLSign
[restricted]
basicConstraints = critical,CA:TRUE
nameConstraints = permitted;DNS:example.org
[named_authority]
basicConstraints = critical,CA:TRUE
subjectAltName = DNS:tentacle.example.org,IP:127.0.0.1
[clients_authority]
basicConstraints = critical,CA:TRUE
extendedKeyUsage = clientAuth
[odd_authority]
basicConstraints = critical,CA:TRUE
1.2.3.4 = critical,ASN1:NULL
[leaf]
basicConstraints = CA:FALSE
[named]
basicConstraints = CA:FALSE
subjectAltName = DNS:tentacle.example.org,DNS:*.wild.example.org,IP:127.0.0.1,email:me@example.org,URI:urn:me
[mail]
subjectAltName = email:me@example.org
[for_clients]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
[for_servers]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
[odd]
basicConstraints = CA:FALSE
1.2.3.4 = critical,ASN1:NULL
[ca]
default_ca = it
[it]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
unique_subject = no
policy = any
[any]
organizationName = optional
commonName = supplied
";
