//! `tentacle_server` with `openssl`'s client, which checks the server's
//! certificate in every cell.

use libtest_mimic::Trial;
use tests::{Kind, Openssl, certificates, eventually};

use crate::rows::{ASKED_CHECKED, DIGEST, Row, UNASKED_CHECKED, Version, each_version, server};

pub(crate) fn cells() -> Vec<Trial> {
    each_version("receiver", ROWS, serves)
}

fn serves(row: Row, kind: Kind, version: Version, password: Option<&str>) {
    let server = server(row, kind, password);
    let mut client = Openssl::client(server.address(), &options(row, kind, version));
    if password.is_some() {
        assert_eq!(client.ask(format!("PASS {DIGEST}")), "PASS OK");
    }
    assert_eq!(client.ask("SEND <a.data> SIZE 5"), "SEND OK");
    client.send("hello");
    client.expect("SEND OK\n");
    assert_eq!(client.ask("RECV <a.data>"), "RECV SIZE 5");
    client.send("RECV OK\n");
    client.expect("hello");
    client.send("QUIT\n");
    client.expect_closed();
    assert_eq!(server.files(), [("a.data".to_owned(), b"hello".to_vec())].into());
    eventually("the session's end", || !server.log().is_empty());
    assert!(server.stop().success());
}

/// The client's.
pub(crate) fn options(row: Row, kind: Kind, version: Version) -> Vec<String> {
    let pki = certificates();
    let authority = pki.certificate(&kind.servers_authority());
    let mut options: Vec<_> =
        [version.option, "-verify_return_error", "-CAfile", &authority].map(str::to_owned).into();
    if row.shows {
        let (certificate, key) = (pki.certificate(&kind.client()), pki.key(&kind.client()));
        // What stands behind the leaf goes with it.
        options.extend(["-cert", &certificate, "-cert_chain", &certificate, "-key", &key].map(str::to_owned));
    }
    options
}

/// With a check by the client in each, as `-CAfile` goes.
const ROWS: &[Row] =
    &[Row { name: "anonymous", asks: false, shows: false, checks: true }, UNASKED_CHECKED, ASKED_CHECKED];
