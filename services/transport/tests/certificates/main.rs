//! Handshakes over sockets: between the two sides of the crate, and with
//! `openssl`'s client and server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod openssl;
#[allow(dead_code, reason = "shared with the tests beside the code")]
mod pki;
mod refusals;

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use transport::{
    Stream,
    tls::{
        Authorities, HandshakeError, Identity, NameCheck, ServerCheck, accept, client_config, connect,
        server_config,
    },
};

use crate::pki::{Key, Pki};

#[tokio::test]
async fn every_kind_of_the_field_connects_both_sides_of_ours() {
    for key in KEYS {
        let (pki, kinds) = of_the_field(key);
        for (leaf, ca) in kinds {
            let server = server_config(&identity(&pki, leaf, leaf), Some(authorities(&pki, ca)));
            let client = client_config(by_authority(&pki, ca), Some(&identity(&pki, leaf, leaf)));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (accepted, connected) =
                    handshake(Arc::clone(&server), Arc::clone(&client), "tentacle").await;
                let (mut accepted, mut connected) =
                    (accepted.unwrap_or_else(|error| panic!("{key:?} {leaf}: {error}")), connected.unwrap());
                accepted.write_all(b"hello").await.unwrap();
                let mut answer = [0; 5];
                connected.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"hello");
                let Stream::Tls(session) = &accepted else { panic!("{accepted:?}") };
                assert_eq!(session.get_ref().1.handshake_kind(), Some(kind));
                let shown = accepted.peer_certificate().unwrap();
                assert_eq!(transport::tls::names_of(shown), ["tentacle"]);
            }
        }
    }
}

/// The kinds of certificates of which each is used with each key, and what
/// the other side has as its CA file.
fn of_the_field(key: Key) -> (Pki, [(&'static str, &'static str); 4]) {
    let pki = Pki::new();
    pki.authority("ca", key);
    pki.self_signed("own", key, "/CN=tentacle", "authority");
    pki.self_signed("own-leaf", key, "/CN=tentacle", "leaf");
    pki.v1("v1", key, "/CN=tentacle", "ca");
    pki.v3("v3", key, "/CN=tentacle", "ca", "leaf");
    (pki, [("own", "own"), ("own-leaf", "own-leaf"), ("v1", "ca"), ("v3", "ca")])
}

fn identity(pki: &Pki, certificate: &str, key: &str) -> Identity {
    let key = pki.private_key(key).into();
    Identity::load(&pki.certificate(certificate).into(), Some(&key), None).unwrap()
}

fn authorities(pki: &Pki, ca: &str) -> Authorities {
    Authorities::load(&pki.certificate(ca).into()).unwrap()
}

fn by_authority(pki: &Pki, ca: &str) -> ServerCheck {
    ServerCheck { authorities: Some(authorities(pki, ca)), name: NameCheck::Strict, pin: None }
}

async fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>) {
    let (one, other) = sockets().await;
    tokio::join!(accept(one, server, PATIENCE), connect(other, client, name, PATIENCE))
}

/// The two ends of a connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (accepted.unwrap().0, connected.unwrap())
}

const KEYS: [Key; 4] = [Key::Rsa, Key::P256, Key::P384, Key::Ed25519];

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
