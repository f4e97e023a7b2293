//! Spools that cannot be used, and disks that are full.

use std::fs;

use tests::{Receiver, eventually, left_aside};

#[test]
fn a_full_disk_is_a_refusal_that_the_peer_understands() {
    let receiver = Receiver::builder().args(["-I", "--reserve-space", "0"]).on_tmpfs("size=256k").start();
    let filler = receiver.spool().join("filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    let mut peer = receiver.connect();
    for verb in ["SEND", "SEND"] {
        assert_eq!(peer.ask(format!("{verb} <a.data> SIZE 10000")), "SEND OK");
        peer.send([b'x'; 10_000]);
        assert_eq!(peer.line(), "SEND ERR (no space left on the server)");
    }
    assert_eq!(peer.list(""), [".", "..", "filler"]);
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());

    fs::remove_file(filler).unwrap();
    peer.store("a.data", [b'x'; 10_000]);
    peer.quit();
    assert_eq!(receiver.files()["a.data"], [b'x'; 10_000]);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_body_leaves_the_connection_usable() {
    let receiver =
        Receiver::builder().args(["-I", "-m", "100MB", "--reserve-space", "0"]).on_tmpfs("size=2m").start();
    let mut peer = receiver.connect();
    peer.store("first", [b'1'; 100_000]);
    assert_eq!(peer.ask("SEND <big> SIZE 20000000"), "SEND OK");
    peer.send(vec![b'x'; 20_000_000]);
    assert_eq!(peer.line(), "SEND ERR (no space left on the server)");
    assert_eq!(peer.list(""), [".", "..", "first"]);
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
    peer.store("second", [b'2'; 100_000]);
    peer.quit();
    assert_eq!(receiver.files().into_keys().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(receiver.wait_for_log("refused")["level"], "WARN");
}

#[test]
fn a_full_disk_keeps_what_was_to_be_overwritten() {
    let receiver = Receiver::builder()
        .args(["-I", "-o", "-m", "100MB", "--reserve-space", "0"])
        .on_tmpfs("size=1m")
        .start();
    let mut peer = receiver.connect();
    peer.store("a.data", b"old");
    assert_eq!(peer.ask("SEND <a.data> SIZE 3000000"), "SEND OK");
    peer.send(vec![b'x'; 3_000_000]);
    assert_eq!(peer.line(), "SEND ERR (no space left on the server)");
    assert_eq!(peer.fetch("RECV", "a.data"), b"old");
    peer.quit();
}

#[test]
fn a_spool_that_is_missing_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let line = Receiver::builder().spool(&missing).refused();
    assert!(line.contains("missing: does not exist (create it, or name another)"), "{line}");
}

#[test]
fn a_spool_that_is_no_folder_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let line = Receiver::builder().spool(&file).refused();
    assert!(line.contains("file: is not a directory"), "{line}");
}

#[test]
fn a_spool_that_is_read_only_ends_the_start() {
    let line = Receiver::builder().on_tmpfs("ro").refused();
    assert!(line.contains("cannot be used: Read-only file system"), "{line}");
}

#[test]
fn a_filter_folder_that_cannot_be_made_ends_the_start() {
    let builder = Receiver::builder().args(["-i", ".*:conf"]);
    fs::write(builder.spool_path().join("conf"), "a file").unwrap();
    let line = builder.refused();
    assert!(line.contains("/conf: ") && line.contains("cannot be used"), "{line}");
}

#[test]
fn two_receivers_on_one_spool_are_one_too_many() {
    let first = Receiver::start::<&str>([]);
    let line = Receiver::builder().spool(first.spool()).refused();
    let holder = format!("in use by another process, id {}", first.process().id());
    assert!(line.contains(&holder) && line.contains("one spool, one process"), "{line}");
    first.serves("a.data");
}

#[test]
fn a_port_that_is_taken_ends_the_start() {
    let first = Receiver::start::<&str>([]);
    let line = Receiver::builder().address(first.address().ip()).refused();
    assert!(line.contains(&first.address().to_string()), "{line}");
    assert!(line.contains("another process listens there"), "{line}");
}

#[test]
fn a_spool_is_free_again_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let first = Receiver::builder().spool(folder.path()).start();
    let address = first.address().ip();
    first.kill();
    Receiver::builder().spool(folder.path()).address(address).start().serves("a.data");
}
