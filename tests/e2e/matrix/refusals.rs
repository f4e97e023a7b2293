//! What must come to nothing: nothing is stored or fetched, both sides say
//! why, and the server goes on to serve.

use std::{fs, process::Command};

use libtest_mimic::Trial;
use tests::{
    Form, KINDS, Key, Kind, NAME, Openssl, Receiver, certificates, free_port_of, program_command, run,
};

use crate::{
    receiver::options,
    rows::{
        ANONYMOUS, ASKED, ASKED_CHECKED, PASSWORD, Row, UNASKED, UNASKED_CHECKED, VERSIONS, Version,
        bare_client, cell, client, server,
    },
};

pub(crate) fn cells() -> Vec<Trial> {
    let mut cells = vec![
        cell("refusal/tls-client-of-plain-server".into(), tls_client_of_plain_server),
        cell("refusal/tls-puller-of-plain-server".into(), tls_puller_of_plain_server),
        cell("refusal/plain-puller-of-tls-server".into(), plain_puller_of_tls_server),
        cell("refusal/servers-other-name-in-cn".into(), || misnamed_server("misnamed")),
        cell("refusal/servers-other-name-in-san".into(), || misnamed_server("misnamed-san")),
        cell("refusal/pullers-source-of-other-name".into(), puller_of_misnamed_server),
        cell("refusal/pullers-source-of-other-authority".into(), puller_of_other_authority),
    ];
    for kind in KINDS {
        cells.push(cell(format!("refusal/no-certificate/{kind}"), move || no_certificate(kind)));
        cells.push(cell(format!("refusal/clients-other-authority/{kind}"), move || stranger(kind)));
        cells.push(cell(format!("refusal/servers-other-authority/{kind}"), move || strange_server(kind)));
        cells.push(cell(format!("refusal/plain-client/{kind}"), move || plain_client(kind)));
        for version in VERSIONS {
            let name = format!("refusal/openssl-{{}}/{kind}/{}", version.name);
            for (word, shows) in [("no-certificate", None), ("other-authority", Some("stranger"))] {
                let name = name.replace("{}", word);
                cells.push(cell(name, move || openssl_client(kind, version, shows)));
            }
        }
    }
    for row in [ANONYMOUS, UNASKED, UNASKED_CHECKED, ASKED, ASKED_CHECKED] {
        for (word, servers, clients) in PASSWORDS {
            let name = format!("refusal/{word}/{}", row.name);
            cells.push(cell(name, move || password(row, servers, clients)));
        }
    }
    cells
}

fn no_certificate(kind: Kind) {
    let server = server(ASKED, kind, None);
    let clients = client(ANONYMOUS, kind, server.address().port(), None);
    refused(clients, "it needs a certificate of ours");
    stores_nothing(&server, "the client showed no certificate, and one is needed");
    serves(&server, ASKED, kind, None);
}

fn stranger(kind: Kind) {
    let server = server(ASKED, kind, None);
    let mut clients = bare_client(server.address().port());
    clients.args(certificates().identity("stranger"));
    refused(clients, "it does not know the authority of our certificate");
    stores_nothing(&server, "the client's certificate is refused: unknown authority");
    serves(&server, ASKED, kind, None);
}

fn strange_server(kind: Kind) {
    let server = server(UNASKED, kind, None);
    let mut clients = bare_client(server.address().port());
    clients.args(certificates().identity(&kind.client())).args(certificates().authority("other-ca"));
    refused(clients, "the server's certificate is refused: unknown authority");
    stores_nothing(&server, "the client refused the TLS connection");
    serves(&server, UNASKED_CHECKED, kind, None);
}

fn plain_client(kind: Kind) {
    let server = server(ANONYMOUS, kind, None);
    refused(bare_client(server.address().port()), "(speak TLS too: -c, or -e FILE with -k and -f)");
    stores_nothing(&server, "the client does not speak TLS");
    serves(&server, ANONYMOUS, kind, None);
}

fn openssl_client(kind: Kind, version: Version, shows: Option<&str>) {
    let server = server(ASKED, kind, None);
    let row = Row { shows: false, ..ASKED_CHECKED };
    let mut options = options(row, kind, version);
    if let Some(name) = shows {
        let pki = certificates();
        options.extend(["-cert".into(), pki.certificate(name), "-key".into(), pki.key(name)]);
    }
    let mut peer = Openssl::client(server.address(), &options);
    peer.send("SEND <a.data> SIZE 5\n");
    let says = peer.expect_closed();
    let alert = if shows.is_some() { "unknown ca" } else { "alert certificate required" };
    assert!(says.contains(alert), "{says}");
    stores_nothing(&server, if shows.is_some() { "unknown authority" } else { "showed no certificate" });
    serves(&server, ASKED, kind, None);
}

fn tls_client_of_plain_server() {
    let server = Receiver::builder().at(free_port_of(NAME)).start();
    let clients = client(ANONYMOUS, KIND, server.address().port(), None);
    refused(clients, "it may not speak TLS");
    assert!(server.files().is_empty());
    server.wait_for_log("connection closed: an unknown command");
    server.serves("a.data");
}

fn tls_puller_of_plain_server() {
    let server = Receiver::builder().at(free_port_of(NAME)).args(["-I"]).start();
    fetches_nothing(&server, "ca-p256", "it may not speak TLS");
    server.serves("b.data");
}

fn plain_puller_of_tls_server() {
    let server = of_identity(&KIND.server());
    let incoming = tempfile::tempdir().unwrap();
    let mut pull = program_command("tentacle-sync-puller");
    pull.args(["--once", "--sync-timeout", "2", "--sync-address", &server.address().to_string()]);
    pull.arg("--incoming-dir").arg(incoming.path());
    let ended = run(pull);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("at least tls: true"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("the source is known now"), "{}", ended.stderr);
}

fn misnamed_server(name: &str) {
    let server = of_identity(name);
    let pki = certificates();
    let mut clients = bare_client(server.address().port());
    clients.args(pki.identity(&KIND.client())).args(pki.authority("ca-p256"));
    refused(clients, "the server's certificate is refused");
    assert!(server.files().is_empty());
    server.wait_for_log("connection closed");
    serves(&server, UNASKED, KIND, None);
}

fn puller_of_misnamed_server() {
    let server = of_identity("misnamed-san");
    fetches_nothing(&server, "ca-p256", "the server's certificate is refused");
    serves(&server, UNASKED, KIND, None);
}

fn puller_of_other_authority() {
    let server = of_identity(&KIND.server());
    fetches_nothing(&server, "other-ca", "the server's certificate is refused: unknown authority");
    serves(&server, UNASKED_CHECKED, KIND, None);
}

fn password(row: Row, servers: Option<&str>, clients: Option<&str>) {
    let server = server(row, KIND, servers);
    refused(client(row, KIND, server.address().port(), clients), "the other side closed the connection");
    assert!(server.files().is_empty());
    server.wait_for_log("connection closed: ");
    serves(&server, row, KIND, servers);
}

/// A buffer that shows this certificate.
fn of_identity(name: &str) -> Receiver {
    Receiver::builder().at(free_port_of(NAME)).args(["-I"]).args(certificates().identity(name)).start()
}

/// The client sends nothing, and says why in one line.
#[track_caller]
fn refused(mut command: Command, why: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("refused.data"), "hello").unwrap();
    let ended = run({
        command.arg(folder.path().join("refused.data"));
        command
    });
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}

#[track_caller]
fn stores_nothing(server: &Receiver, why: &str) {
    assert!(server.files().is_empty());
    let closed = server.wait_for_log("connection closed").to_string();
    assert!(closed.contains(why), "{closed}");
}

/// A puller with this CA says why, and leaves a file where it is.
#[track_caller]
fn fetches_nothing(server: &Receiver, authority: &str, why: &str) {
    fs::write(server.spool().join("a.data"), "hello").unwrap();
    let incoming = tempfile::tempdir().unwrap();
    let mut pull = program_command("tentacle-sync-puller");
    pull.args(["--once", "--sync-timeout", "2", "--sync-address", &server.address().to_string()]);
    pull.args(["--sync-ca", &certificates().certificate(authority)]);
    pull.arg("--incoming-dir").arg(incoming.path());
    let ended = run(pull);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    assert!(!incoming.path().join("a.data").exists());
    assert!(server.files().contains_key("a.data"));
}

/// It goes on for a client as this row has it.
#[track_caller]
fn serves(server: &Receiver, row: Row, kind: Kind, password: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.data"), "hello").unwrap();
    let mut command = client(row, kind, server.address().port(), password);
    command.arg(folder.path().join("good.data"));
    let ended = run(command);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(server.files()["good.data"], b"hello");
}

/// Where the kind makes no difference.
const KIND: Kind = Kind { form: Form::V1, key: Key::P256 };

/// The server's and the client's.
const PASSWORDS: [(&str, Option<&str>, Option<&str>); 3] = [
    ("wrong-password", Some(PASSWORD), Some("guess")),
    ("no-password", Some(PASSWORD), None),
    ("unasked-password", None, Some(PASSWORD)),
];
