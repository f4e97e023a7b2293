//! What each side says, and tells the other, when there is no connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::{default_provider, sign::any_supported_type},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::tls::{
    NameCheck, ServerCheck, accept, check_server_dates, client_config, connect, server_config,
};

use crate::{
    PATIENCE, authorities, by_authority, handshake, identity, of_the_field,
    pki::{Key, Pki},
    sockets,
};

#[tokio::test]
async fn a_server_without_the_key_of_its_certificate_is_refused_whatever_is_checked() {
    let (pki, _) = of_the_field(Key::P256);
    pki.key("stolen", Key::P256);
    for leaf in ["v1", "v3", "own"] {
        for version in [&TLS12, &TLS13] {
            let config = || {
                ServerConfig::builder_with_provider(Arc::new(default_provider()))
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(mismatched(&pki, leaf))
            };
            let ca = if leaf == "own" { "own" } else { "ca" };
            for check in [ServerCheck::default(), by_authority(&pki, ca)] {
                let client = client_config(check, None);
                let (_, connected) = handshake(Arc::new(config()), client, "tentacle").await;
                let error = connected.unwrap_err().to_string();
                assert_eq!(error, "the server's certificate is refused: its key is not the other side's");
            }
        }
    }
}

#[tokio::test]
async fn a_client_without_the_key_of_its_certificate_is_refused() {
    let (pki, _) = of_the_field(Key::P256);
    pki.key("stolen", Key::P256);
    for leaf in ["v1", "v3", "own"] {
        for version in [&TLS12, &TLS13] {
            let ca = if leaf == "own" { "own" } else { "ca" };
            let server = server_config(&identity(&pki, "v1", "v1"), Some(authorities(&pki, ca)));
            let (accepted, _) = handshake(server, stolen_client(&pki, leaf, version), "tentacle").await;
            let error = accepted.unwrap_err().to_string();
            assert_eq!(error, "the client's certificate is refused: its key is not the other side's");
        }
    }
}

#[tokio::test]
async fn a_client_that_shows_nothing_is_told_so() {
    let (pki, _) = of_the_field(Key::P256);
    let server = server_config(&identity(&pki, "v1", "v1"), Some(authorities(&pki, "ca")));
    let client = client_config(by_authority(&pki, "ca"), None);
    let (accepted, connected) = handshake(server, client, "tentacle").await;
    assert_eq!(accepted.unwrap_err().to_string(), "the client showed no certificate, and one is needed");
    let told = connected.unwrap().read_u8().await.unwrap_err();
    assert_eq!(
        told.to_string(),
        "the server refused the TLS connection: it needs a certificate of ours (certificate_required)"
    );
}

#[tokio::test]
async fn the_reason_names_what_is_wrong_and_the_other_side_learns_it() {
    let (pki, _) = of_the_field(Key::P256);
    pki.authority("other", Key::P256);
    pki.dated("expired", "ca", (2020, 2021), None);
    pki.dated("early", "ca", (2045, 2046), None);
    pki.v3("named", Key::P256, "/CN=tentacle", "ca", "named");
    let named = "it is not for tentacle, but for tentacle.example.org, *.wild.example.org, 127.0.0.1, \
                 me@example.org, urn:me";
    for (leaf, ca, reason, alert) in [
        ("v1", "other", "unknown authority: it chains to no certificate of the CA file", "(unknown_ca)"),
        (
            "expired",
            "ca",
            "it, or one that vouches for it, expired on 2021-01-01 00:00 UTC",
            "(certificate_expired)",
        ),
        (
            "early",
            "ca",
            "it, or one that vouches for it, is valid only from 2045-01-01 00:00 UTC",
            "(certificate_expired)",
        ),
        ("named", "ca", named, "(bad_certificate)"),
    ] {
        let server = server_config(&identity(&pki, leaf, leaf), None);
        let client = client_config(by_authority(&pki, ca), None);
        let (accepted, connected) = handshake(server, client, "tentacle").await;
        let error = connected.unwrap_err().to_string();
        assert_eq!(error, format!("the server's certificate is refused: {reason}"));
        let told = match accepted {
            Ok(mut stream) => stream.read_u8().await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(told.starts_with("the client refused the TLS connection") && told.ends_with(alert), "{told}");
    }
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_named_by_its_digest() {
    let (pki, _) = of_the_field(Key::P256);
    let server = server_config(&identity(&pki, "v1", "v1"), None);
    let check = ServerCheck { authorities: None, name: NameCheck::Strict, pin: Some([7; 32]) };
    let (_, connected) = handshake(server, client_config(check, None), "tentacle").await;
    let error = connected.unwrap_err().to_string();
    assert!(error.contains("another one is pinned than this with SHA-256 "), "{error}");
}

#[tokio::test]
async fn names_of_a_certificate_are_escaped_and_cut() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    let long = "n".repeat(64);
    pki.v1("v1", Key::P256, &format!("/CN=\u{1b}[2J{}", &long[4..]), "ca");
    let server = server_config(&identity(&pki, "v1", "v1"), None);
    let client = client_config(by_authority(&pki, "ca"), None);
    let (_, connected) = handshake(server, client, "tentacle").await;
    let error = connected.unwrap_err().to_string();
    assert!(error.contains("\\u{1b}[2J") && !error.contains('\u{1b}'), "{error}");
}

#[tokio::test]
async fn a_resumed_session_is_over_with_the_servers_certificate() {
    let (pki, _) = of_the_field(Key::P256);
    pki.request("short", Key::P256, "/CN=tentacle");
    let date = std::process::Command::new("date").args(["-u", "-d", "3 seconds", "+%Y%m%d%H%M%SZ"]).output();
    pki.openssl(&format!(
        "ca -batch -notext -config config -cert ca.pem -keyfile ca.key -in short.csr -out short.pem \
         -startdate 20200101000000Z -enddate {}",
        String::from_utf8(date.unwrap().stdout).unwrap()
    ));
    let server = server_config(&identity(&pki, "short", "short"), None);
    let client = client_config(by_authority(&pki, "ca"), None);
    let began = Instant::now();
    loop {
        let (accepted, connected) = handshake(Arc::clone(&server), Arc::clone(&client), "tentacle").await;
        let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
        // With it come the tickets.
        accepted.write_all(b"x").await.unwrap();
        connected.read_u8().await.unwrap();
        if let Err(error) = check_server_dates(&connected) {
            assert!(
                error.to_string().starts_with(
                    "the server's certificate is refused: it, or one that vouches for it, expired on "
                ),
                "{error}"
            );
            break;
        }
        assert!(began.elapsed() < PATIENCE, "a certificate that has expired is still taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn the_zone_of_an_address_is_not_looked_for_in_a_certificate() {
    let (pki, _) = of_the_field(Key::P256);
    pki.v3("named", Key::P256, "/CN=tentacle", "ca", "named");
    let connected = async |check, name: &str| {
        let server = server_config(&identity(&pki, "named", "named"), None);
        handshake(server, client_config(check, None), name).await.1
    };
    connected(ServerCheck::default(), "fe80::1%eth0").await.unwrap();
    let error = connected(by_authority(&pki, "ca"), "fe80::1%eth0").await.unwrap_err().to_string();
    assert!(error.contains("it is not for fe80::1, but for"), "{error}");
    let error = connected(by_authority(&pki, "ca"), "a%eth0").await.unwrap_err().to_string();
    assert!(error.starts_with("\"a%eth0\" is no host name"), "{error}");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_apart() {
    let (pki, _) = of_the_field(Key::P256);
    let config = server_config(&identity(&pki, "v1", "v1"), None);
    let (one, mut other) = sockets().await;
    other.write_all(b"SEND <file> SIZE 1\n").await.unwrap();
    let error = accept(one, config.clone(), PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the client does not speak TLS");

    let client = client_config(ServerCheck::default(), None);
    let (mut one, other) = sockets().await;
    one.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
    let error = connect(other, client.clone(), "tentacle", PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not speak TLS");

    let (one, other) = sockets().await;
    drop(one);
    let error = connect(other, client, "tentacle", PATIENCE).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server closed the connection in the middle of the TLS handshake (it may not speak TLS)"
    );

    let (one, other) = sockets().await;
    drop(other);
    let error = accept(one, config.clone(), PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the client closed the connection in the middle of the TLS handshake");

    let (one, _other) = sockets().await;
    let error = accept(one, config, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.to_string(), "no TLS handshake within 0.05 s");
}

fn stolen_client(pki: &Pki, leaf: &str, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_client_cert_resolver(mismatched(pki, leaf));
    Arc::new(config)
}

/// A certificate beside a key that is not its own.
fn mismatched(pki: &Pki, leaf: &str) -> Arc<SingleCertAndKey> {
    let chain = vec![CertificateDer::from_pem_file(pki.certificate(leaf)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pki.private_key("stolen")).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, any_supported_type(&key).unwrap())))
}

/// Takes any server: it is the client that is looked at.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
