//! `tentacle-sync-puller` with `tentacle_server`, and with `openssl`'s server.

use std::{fs, process::Command};

use libtest_mimic::Trial;
use rustix::process::Signal;
use tests::{Kind, NAME, Openssl, Process, certificates, free_port_of, program_command, run};

use crate::{
    client::options,
    rows::{ASKED_CHECKED, DIGEST, Row, UNASKED_CHECKED, Version, each, each_version, server, with_password},
};

pub(crate) fn cells() -> Vec<Trial> {
    let mut cells = each("puller", ROWS, empties);
    cells.extend(each_version("puller-openssl", ROWS, begins));
    cells
}

fn empties(row: Row, kind: Kind, password: Option<&str>) {
    let source = server(row, kind, password);
    fs::write(source.spool().join("a.data"), "hello").unwrap();
    let incoming = tempfile::tempdir().unwrap();
    let mut pull = puller(row, kind, source.address().port(), password);
    pull.arg("--once").arg("--incoming-dir").arg(incoming.path());
    let ended = run(pull);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(incoming.path().join("a.data")).unwrap(), "hello");
    assert!(source.files().is_empty());
    assert!(source.stop().success());
}

/// Up to the first command.
fn begins(row: Row, kind: Kind, version: Version, password: Option<&str>) {
    let address = free_port_of(NAME);
    let mut source = Openssl::server(address, &options(row, kind, version));
    let incoming = tempfile::tempdir().unwrap();
    let mut pull = puller(row, kind, address.port(), password);
    pull.args(["--connections", "1"]).arg("--incoming-dir").arg(incoming.path());
    let mut puller = Process::spawn(pull);
    if password.is_some() {
        source.expect(format!("PASS {DIGEST}\n"));
        source.send("PASS OK\n");
    }
    source.expect("FEATURES\n");
    // Nobody will answer it.
    puller.signal(Signal::KILL);
    puller.wait();
}

/// As this row has it.
fn puller(row: Row, kind: Kind, port: u16, password: Option<&str>) -> Command {
    let pki = certificates();
    let mut command = program_command("tentacle-sync-puller");
    command.args(["--sync-address", &format!("{NAME}:{port}")]).args(with_password(password));
    command.args(["--sync-ca", &pki.certificate(&kind.servers_authority())]);
    if row.shows {
        let (certificate, key) = (pki.certificate(&kind.client()), pki.key(&kind.client()));
        command.args(["--sync-cert", &certificate, "--sync-key", &key]);
    }
    command
}

const ROWS: &[Row] =
    &[Row { name: "checked", asks: false, shows: false, checks: true }, UNASKED_CHECKED, ASKED_CHECKED];
