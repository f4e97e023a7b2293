//! No other certificate is taken for one that the authority has made.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    client::Resumption,
    crypto::ring::sign::any_supported_type,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use transport::tls::{
    Authorities, Identity, NameCheck, Pem, ServerCheck, client_config, has_alternative_names, names_of,
    server_config,
};

/// The first byte says who shows the certificates, and how its name is
/// checked; each certificate has its length before it, in two bytes.
pub fn run(input: &[u8]) {
    is_taken(input);
}

/// Whether the side that is shown the certificates goes on.
pub fn is_taken(input: &[u8]) -> bool {
    let Some((&who, rest)) = input.split_first() else { return false };
    let chain = chain(rest);
    let Some(leaf) = chain.first() else { return false };
    assert!(names_of(leaf).is_empty() || !leaf.is_empty());
    assert!(has_alternative_names(leaf) || names_of(leaf).len() <= 1, "a CN has one name");

    let leaf = leaf.to_vec();
    let (is_taken, may_be_taken) = match who % 3 {
        0 => (server_is_taken(&BY_ANY_NAME, chain), &OF_SERVERS[..]),
        1 => (server_is_taken(&BY_SANS, chain), &OF_SERVERS[..]),
        _ => (client_is_taken(chain), &OF_CLIENTS[..]),
    };
    assert!(!is_taken || may_be_taken.contains(&&*leaf), "a certificate that nobody made is taken");
    is_taken
}

fn chain(mut rest: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk() {
        let (der, more) = more.split_at(more.len().min(usize::from(u16::from_be_bytes(*length))));
        chain.push(der.to_vec().into());
        rest = more;
    }
    chain
}

fn server_is_taken(judge: &Arc<ClientConfig>, chain: Vec<CertificateDer<'static>>) -> bool {
    let mut config = ServerConfig::clone(&SERVER);
    config.cert_resolver = Arc::new(shown(chain));
    let name = ServerName::try_from("tentacle.example.org").expect("it is a name");
    let client = ClientConnection::new(Arc::clone(judge), name).expect("the configuration is good");
    let server = ServerConnection::new(Arc::new(config)).expect("the configuration is good");
    let (mut client, mut server) = (client.into(), server.into());
    shake_hands(&mut client, &mut server);
    !client.is_handshaking()
}

fn client_is_taken(chain: Vec<CertificateDer<'static>>) -> bool {
    let mut config = ClientConfig::clone(&CLIENT);
    config.client_auth_cert_resolver = Arc::new(shown(chain));
    let name = ServerName::try_from("tentacle.example.org").expect("it is a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("the configuration is good");
    let server = ServerConnection::new(Arc::clone(&SERVER)).expect("the configuration is good");
    let (mut client, mut server) = (client.into(), server.into());
    shake_hands(&mut client, &mut server);
    !server.is_handshaking()
}

/// Whoever shows it has the leaf's key.
fn shown(chain: Vec<CertificateDer<'static>>) -> SingleCertAndKey {
    let key = PrivatePkcs8KeyDer::from(LEAF_KEY);
    let key = any_supported_type(&key.into()).expect("the key is good");
    CertifiedKey::new(chain, key).into()
}

/// As far as both sides go along.
fn shake_hands(client: &mut Connection, server: &mut Connection) {
    loop {
        let is_moving = [says(client, server), says(server, client)];
        if !is_moving.contains(&true) {
            return;
        }
    }
}

fn says(from: &mut Connection, to: &mut Connection) -> bool {
    let mut said = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut said).expect("nothing fails in memory");
    }
    let mut rest = &said[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("nothing fails in memory");
        if to.process_new_packets().is_err() {
            break;
        }
    }
    !said.is_empty()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

fn authorities() -> Authorities {
    let text = [AUTHORITY, OWN].map(|der| pem("CERTIFICATE", der)).concat();
    Authorities::load(&Pem::given("authorities".to_owned(), text.into())).expect("they can vouch")
}

fn judge(name: NameCheck) -> Arc<ClientConfig> {
    client(ServerCheck { authorities: Some(authorities()), name, pin: None })
}

fn client(check: ServerCheck) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client_config(check, None));
    config.resumption = Resumption::disabled();
    config.time_provider = Arc::new(Then);
    Arc::new(config)
}

static BY_ANY_NAME: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| judge(NameCheck::Strict));

static BY_SANS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| judge(NameCheck::SubjectAltNames));

/// Looks at no certificate.
static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| client(ServerCheck::default()));

/// Asks for a certificate, which a client that has none need not know.
static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let text = pem("CERTIFICATE", LEAF) + &pem("PRIVATE KEY", LEAF_KEY);
    let identity = Identity::load(&Pem::given("leaf".to_owned(), text.into()), None, None);
    let config = server_config(&identity.expect("the key is the certificate's"), Some(authorities()));
    let mut config = ServerConfig::clone(&config);
    config.send_tls13_tickets = 0;
    config.time_provider = Arc::new(Then);
    Arc::new(config)
});

/// It is always 2030, when all certificates but one are valid.
#[derive(Debug)]
struct Then;

impl TimeProvider for Then {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_893_456_000)))
    }
}

/// The certificate of the leaf's key, for a server of its name.
pub const LEAF: &[u8] = include_bytes!("../pki/named.der");
const LEAF_KEY: &[u8] = include_bytes!("../pki/leaf.key.der");

const AUTHORITY: &[u8] = include_bytes!("../pki/authority.der");
/// Of the leaf's key too, and an authority of its own.
const OWN: &[u8] = include_bytes!("../pki/own.der");

const COMMON: &[u8] = include_bytes!("../pki/common.der");
const V1: &[u8] = include_bytes!("../pki/v1.der");
const BELOW: &[u8] = include_bytes!("../pki/below.der");
const FOR_CLIENTS: &[u8] = include_bytes!("../pki/client.der");

const OF_SERVERS: [&[u8]; 5] = [LEAF, OWN, COMMON, V1, BELOW];
const OF_CLIENTS: [&[u8]; 6] = [LEAF, OWN, COMMON, V1, BELOW, FOR_CLIENTS];
