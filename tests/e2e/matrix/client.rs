//! `tentacle_client` with `openssl`'s server, through which the test answers.

use std::thread;

use libtest_mimic::Trial;
use tests::{Kind, NAME, Openssl, certificates, free_port_of, run};

use crate::rows::{
    ANONYMOUS, ASKED, ASKED_CHECKED, DIGEST, Row, UNASKED_CHECKED, Version, client, each_version,
};

pub(crate) fn cells() -> Vec<Trial> {
    each_version("client", &[ANONYMOUS, UNASKED_CHECKED, ASKED, ASKED_CHECKED], sends)
}

fn sends(row: Row, kind: Kind, version: Version, password: Option<&str>) {
    let address = free_port_of(NAME);
    let mut server = Openssl::server(address, &options(row, kind, version));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.data"), "hello").unwrap();
    let mut command = client(row, kind, address.port(), password);
    command.args(["-t", "5"]).arg(folder.path().join("a.data"));
    let ended = thread::spawn(|| run(command));
    if password.is_some() {
        server.expect(format!("PASS {DIGEST}\n"));
        server.send("PASS OK\n");
    }
    server.expect("SEND <a.data> SIZE 5\n");
    server.send("SEND OK\n");
    server.expect("hello");
    server.send("SEND OK\n");
    server.expect("QUIT\n");
    let ended = ended.join().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
}

/// The server's.
pub(crate) fn options(row: Row, kind: Kind, version: Version) -> Vec<String> {
    let pki = certificates();
    let (certificate, key) = (pki.certificate(&kind.server()), pki.key(&kind.server()));
    // What stands behind the leaf goes with it.
    let mut options: Vec<_> =
        [version.option, "-cert", &certificate, "-cert_chain", &certificate, "-key", &key]
            .map(str::to_owned)
            .into();
    if row.asks {
        let authority = pki.certificate(&kind.clients_authority());
        options.extend(["-Verify", "4", "-verify_return_error", "-CAfile", &authority].map(str::to_owned));
    }
    options
}
