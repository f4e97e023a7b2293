//! `tentacle_server` with `tentacle_client`, there and back.

use std::fs;

use libtest_mimic::Trial;
use tests::{Kind, run};

use crate::rows::{ANONYMOUS, ASKED, ASKED_CHECKED, Row, UNASKED, UNASKED_CHECKED, client, each, server};

pub(crate) fn cells() -> Vec<Trial> {
    each("pair", &[ANONYMOUS, UNASKED, UNASKED_CHECKED, ASKED, ASKED_CHECKED], exchange)
}

fn exchange(row: Row, kind: Kind, password: Option<&str>) {
    let server = server(row, kind, password);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.data");
    let content = "as it is\n".repeat(10_000);
    fs::write(&file, &content).unwrap();
    let mut send = client(row, kind, server.address().port(), password);
    send.arg("-z").arg(&file);
    let ended = run(send);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(server.files()["a.data"], content.as_bytes());
    fs::remove_file(&file).unwrap();
    let mut get = client(row, kind, server.address().port(), password);
    get.args(["-g", "a.data"]).current_dir(folder.path());
    let ended = run(get);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), content);
    assert!(server.stop().success());
}
