//! `openssl`'s own client and server at the other side.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};
use transport::tls::{ServerCheck, accept, client_config, connect, server_config};

use crate::{KEYS, PATIENCE, authorities, by_authority, identity, of_the_field, pki::Pki};

#[tokio::test]
async fn its_client_shows_every_kind_of_the_field_and_takes_ours() {
    for key in KEYS {
        let (pki, kinds) = of_the_field(key);
        for (leaf, ca) in kinds {
            let config = server_config(&identity(&pki, leaf, leaf), Some(authorities(&pki, ca)));
            for version in VERSIONS {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let mut client = openssl(
                    &pki,
                    &format!(
                        "s_client -connect {address} {version} -quiet -cert {leaf}.pem -key {leaf}.key \
                         -CAfile {ca}.pem -verify_return_error"
                    ),
                );
                client.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
                let (socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
                let mut stream = accept(socket, config.clone(), PATIENCE)
                    .await
                    .unwrap_or_else(|error| panic!("{key:?} {leaf} {version}: {error}"));
                let mut text = [0; 6];
                timeout(PATIENCE, stream.read_exact(&mut text)).await.unwrap().unwrap();
                assert_eq!(&text, b"hello\n", "{key:?} {leaf} {version}");
                client.kill().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn its_server_shows_every_kind_of_the_field_and_takes_ours() {
    for key in KEYS {
        let (pki, kinds) = of_the_field(key);
        for (leaf, ca) in kinds {
            let config = client_config(by_authority(&pki, ca), Some(&identity(&pki, leaf, leaf)));
            for version in VERSIONS {
                let mut server = openssl(
                    &pki,
                    &format!(
                        "s_server -accept 127.0.0.1:0 {version} -cert {leaf}.pem -key {leaf}.key \
                         -CAfile {ca}.pem -Verify 4 -verify_return_error"
                    ),
                );
                let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
                let address = line_that_starts_with(&mut lines, "ACCEPT ").await;
                let socket = TcpStream::connect(address).await.unwrap();
                let mut stream = connect(socket, config.clone(), "tentacle", PATIENCE)
                    .await
                    .unwrap_or_else(|error| panic!("{key:?} {leaf} {version}: {error}"));
                stream.write_all(b"hello\n").await.unwrap();
                line_that_starts_with(&mut lines, "hello").await;
                server.kill().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn its_client_of_an_old_version_is_refused() {
    let (pki, _) = of_the_field(crate::Key::P256);
    let config = server_config(&identity(&pki, "v1", "v1"), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = openssl(&pki, &format!("s_client -connect {address} -tls1 -cipher DEFAULT@SECLEVEL=0"));
    let (socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let error = accept(socket, config, PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the client speaks no TLS version from 1.2 on");
    client.kill().await.unwrap();
}

#[tokio::test]
async fn its_client_that_asks_for_another_protocol_is_refused() {
    let (pki, _) = of_the_field(crate::Key::P256);
    let config = server_config(&identity(&pki, "v1", "v1"), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = openssl(&pki, &format!("s_client -connect {address} -alpn h2"));
    let (socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let error = accept(socket, config, PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the client asks for another protocol over TLS (ALPN) than Tentacle");
    client.kill().await.unwrap();
}

#[tokio::test]
async fn its_server_with_a_short_rsa_key_is_told_so() {
    let (pki, _) = of_the_field(crate::Key::P256);
    pki.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out short.key");
    pki.openssl("req -new -key short.key -subj /CN=tentacle -config config -out short.csr");
    pki.openssl("x509 -req -in short.csr -CA ca.pem -CAkey ca.key -set_serial 3 -days 30 -out short.pem");
    for version in VERSIONS {
        let mut server = openssl(
            &pki,
            &format!(
                "s_server -accept 127.0.0.1:0 {version} -cert short.pem -key short.key -cipher DEFAULT@SECLEVEL=0"
            ),
        );
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let address = line_that_starts_with(&mut lines, "ACCEPT ").await;
        for check in [by_authority(&pki, "ca"), ServerCheck::default()] {
            let socket = TcpStream::connect(&address).await.unwrap();
            let connected = connect(socket, client_config(check, None), "tentacle", PATIENCE).await;
            let error = connected.unwrap_err().to_string();
            assert!(error.contains("an RSA key below 2048 bits"), "{version}: {error}");
        }
        server.kill().await.unwrap();
    }
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

/// Its rest.
async fn line_that_starts_with(lines: &mut Lines, start: &str) -> String {
    let search = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("openssl goes on");
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    };
    timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("openssl never wrote {start:?}"))
}

fn openssl(pki: &Pki, words: &str) -> Child {
    Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(pki.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];
