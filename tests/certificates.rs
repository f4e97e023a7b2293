//! The certificates of the field, made by `openssl` as the guides tell.

use std::{
    fmt, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// A folder in which `NAME.pem` is a certificate and `NAME.key` its key.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    /// Removed when the tests that made it have ended.
    _owned: Option<TempDir>,
}

/// A certificate's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What it says.
    pub form: Form,
    /// Its algorithm, and that of what vouches for it.
    pub key: Key,
}

/// What a certificate says, and who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `openssl req -x509`: an authority, which the other side has as its CA.
    SelfSigned,
    /// `openssl x509 -req` without extensions: X.509 v1 with a CN alone.
    V1,
    /// X.509 v3 with a name as SAN.
    V3San,
    /// X.509 v3 with a CN alone.
    V3Cn,
    /// A leaf, and the authority between it and the CA, in one file.
    Chain,
}

/// A key's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA of 2048 bits.
    Rsa,
    /// ECDSA over P-256.
    P256,
    /// ECDSA over P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// Every kind, for [`NAME`] and for a client, and a `stranger` of an authority
/// of its own. They are made once for all tests of a build: making them takes
/// longer than most tests.
pub fn certificates() -> &'static Pki {
    static MADE: OnceLock<Pki> = OnceLock::new();
    MADE.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let build = test.parent().and_then(Path::parent).unwrap();
        let folder = build.join(format!("certificates-{VERSION}"));
        if !folder.exists() {
            make_once(build, &folder);
        }
        Pki { folder, _owned: None }
    })
}

/// Several processes may come here at once: one of them makes it, and it is
/// there whole or not at all.
fn make_once(build: &Path, folder: &Path) {
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if folder.exists() {
        return;
    }
    let aside = TempDir::new_in(build).unwrap();
    make(&Pki { folder: aside.path().to_owned(), _owned: None });
    fs::rename(aside.keep(), folder).unwrap();
}

fn make(pki: &Pki) {
    fs::write(pki.folder.join("config"), CONFIG).unwrap();
    for key in [Key::Rsa, Key::P256, Key::P384, Key::Ed25519] {
        pki.self_signed(&format!("ca-{}", key.name()), key, "ca");
    }
    for kind in KINDS {
        pki.of_kind(&kind.server(), kind, &NAME.to_string());
        pki.of_kind(&kind.client(), kind, "agent");
    }
    pki.self_signed("other-ca", Key::P256, "other");
    pki.v1("stranger", Key::P256, &NAME.to_string(), "other-ca");
    pki.v1("misnamed", Key::P256, "192.0.2.1", "ca-p256");
    pki.v3("misnamed-san", Key::P256, &NAME.to_string(), "ca-p256", "elsewhere");
}

// === impl Pki ===

impl Pki {
    /// An empty folder that goes with the test.
    pub fn empty() -> Self {
        let owned = TempDir::new().unwrap();
        fs::write(owned.path().join("config"), CONFIG).unwrap();
        fs::write(owned.path().join("index"), "").unwrap();
        fs::write(owned.path().join("serial"), "01").unwrap();
        Self { folder: owned.path().to_owned(), _owned: Some(owned) }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a file in it, for a command line.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).to_str().unwrap().to_owned()
    }

    /// The path of a certificate.
    pub fn certificate(&self, name: &str) -> String {
        self.path(&format!("{name}.pem"))
    }

    /// The path of its key.
    pub fn key(&self, name: &str) -> String {
        self.path(&format!("{name}.key"))
    }

    /// `-e` and `-k`.
    pub fn identity(&self, name: &str) -> [String; 4] {
        ["-e".to_owned(), self.certificate(name), "-k".to_owned(), self.key(name)]
    }

    /// `-f`.
    pub fn authority(&self, name: &str) -> [String; 2] {
        ["-f".to_owned(), self.certificate(name)]
    }

    /// A key and a certificate that it has signed itself, an authority's as
    /// `openssl req -x509` makes it.
    pub fn self_signed(&self, name: &str, key: Key, subject: &str) {
        self.make_key(name, key);
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={subject} -days 3650 -config config \
             -extensions authority -out {name}.pem"
        ));
    }

    /// X.509 v1, as `openssl x509 -req` makes it without extensions.
    pub fn v1(&self, name: &str, key: Key, subject: &str, issuer: &str) {
        self.signed(name, key, subject, issuer, "");
    }

    /// X.509 v3, with a section of the configuration.
    pub fn v3(&self, name: &str, key: Key, subject: &str, issuer: &str, section: &str) {
        self.signed(name, key, subject, issuer, &format!("-extfile config -extensions {section}"));
    }

    /// Of the year from `years.0` to `years.1`.
    pub fn dated(&self, name: &str, subject: &str, issuer: &str, years: (u32, u32)) {
        self.request(name, Key::P256, subject);
        self.openssl(&format!(
            "ca -batch -notext -config config -cert {issuer}.pem -keyfile {issuer}.key -in {name}.csr \
             -startdate {}0101000000Z -enddate {}0101000000Z -out {name}.pem",
            years.0, years.1
        ));
    }

    /// Runs `openssl` in the folder, with these words.
    pub fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(words.split_whitespace()).current_dir(&self.folder).output().unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn of_kind(&self, name: &str, kind: Kind, subject: &str) {
        let ca = format!("ca-{}", kind.key.name());
        match kind.form {
            Form::SelfSigned => self.self_signed(name, kind.key, subject),
            Form::V1 => self.v1(name, kind.key, subject, &ca),
            Form::V3San => self.v3(name, kind.key, subject, &ca, "named"),
            Form::V3Cn => self.v3(name, kind.key, subject, &ca, "leaf"),
            Form::Chain => {
                let between = format!("{name}-between");
                self.v3(&between, kind.key, "between", &ca, "authority");
                self.v3(name, kind.key, subject, &between, "named");
                let both = [name, &between].map(|part| fs::read(self.certificate(part)).unwrap());
                fs::write(self.certificate(name), both.concat()).unwrap();
            }
        }
    }

    fn signed(&self, name: &str, key: Key, subject: &str, issuer: &str, extensions: &str) {
        self.request(name, key, subject);
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -set_serial 4711 -days 3650 \
             {extensions} -out {name}.pem"
        ));
    }

    fn request(&self, name: &str, key: Key, subject: &str) {
        self.make_key(name, key);
        self.openssl(&format!("req -new -key {name}.key -subj /CN={subject} -config config -out {name}.csr"));
    }

    fn make_key(&self, name: &str, key: Key) {
        let how = match key {
            Key::Rsa => "RSA -pkeyopt rsa_keygen_bits:2048",
            Key::P256 => "EC -pkeyopt ec_paramgen_curve:P-256",
            Key::P384 => "EC -pkeyopt ec_paramgen_curve:P-384",
            Key::Ed25519 => "ED25519",
        };
        self.openssl(&format!("genpkey -algorithm {how} -out {name}.key"));
    }
}

// === impl Kind ===

impl Kind {
    /// The name of a server's certificate of this kind.
    pub fn server(self) -> String {
        format!("server-{self}")
    }

    /// The name of a client's certificate of this kind.
    pub fn client(self) -> String {
        format!("client-{self}")
    }

    /// What clients have as the server's CA.
    pub fn servers_authority(self) -> String {
        self.authority(self.server())
    }

    /// What the server has as the clients' CA.
    pub fn clients_authority(self) -> String {
        self.authority(self.client())
    }

    fn authority(self, own: String) -> String {
        if self.form == Form::SelfSigned { own } else { format!("ca-{}", self.key.name()) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::SelfSigned => "self-signed",
            Form::V1 => "v1",
            Form::V3San => "v3-san",
            Form::V3Cn => "v3-cn",
            Form::Chain => "chain",
        };
        write!(f, "{form}-{}", self.key.name())
    }
}

// === impl Key ===

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
        }
    }
}

const fn kind(form: Form, key: Key) -> Kind {
    Kind { form, key }
}

/// Every kind of certificate that must work.
pub const KINDS: [Kind; 14] = [
    kind(Form::SelfSigned, Key::Rsa),
    kind(Form::SelfSigned, Key::P256),
    kind(Form::SelfSigned, Key::P384),
    kind(Form::SelfSigned, Key::Ed25519),
    kind(Form::V1, Key::Rsa),
    kind(Form::V1, Key::P256),
    kind(Form::V1, Key::P384),
    kind(Form::V1, Key::Ed25519),
    kind(Form::V3San, Key::Rsa),
    kind(Form::V3San, Key::P256),
    kind(Form::V3San, Key::P384),
    kind(Form::V3San, Key::Ed25519),
    kind(Form::V3Cn, Key::P256),
    kind(Form::Chain, Key::P256),
];

/// What the servers' certificates are for: an address of this machine that
/// nothing else uses.
pub const NAME: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// Goes up when [`make`] makes something else: builds keep what it made.
const VERSION: u32 = 1;

const CONFIG: &str = "\
[req]
distinguished_name = dn
[dn]
[authority]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:TRUE
[leaf]
basicConstraints = CA:FALSE
[named]
basicConstraints = CA:FALSE
subjectAltName = IP:127.77.0.1
[elsewhere]
basicConstraints = CA:FALSE
subjectAltName = IP:192.0.2.1
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
commonName = supplied
";
