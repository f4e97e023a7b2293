//! `--expire`.

use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use tests::{Receiver, eventually};

/// A file that came so long ago.
fn aged(path: &Path, days: u64) {
    fs::write(path, "old").unwrap();
    let came = SystemTime::now() - Duration::from_secs(days * 86400);
    File::options().write(true).open(path).unwrap().set_modified(came).unwrap();
}

#[test]
fn what_is_old_in_a_named_folder_goes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let below = |name: &str| folder.path().join(name);
    fs::create_dir(below("conf")).unwrap();
    fs::create_dir(below("md5")).unwrap();
    aged(&below("a.data"), 100);
    aged(&below("md5/a.md5"), 100);
    aged(&below("conf/young.conf"), 6);
    aged(&below("conf/old.conf"), 8);
    aged(&below("conf/older.conf"), 9);
    let options = ["-i", r".*\.conf:conf;.*\.md5:md5", "--expire", "conf=7d"];
    let receiver = Receiver::builder().args(options).spool(folder.path()).start();
    let said = receiver.wait_for_log("removed for their age");
    assert_eq!((&said["folder"], &said["files"], &said["bytes"]), (&"conf".into(), &2.into(), &6.into()));
    assert!(said["oldest_seconds"].as_u64().unwrap() >= 9 * 86400, "{said}");
    let left: Vec<_> = receiver.files().into_keys().collect();
    assert_eq!(left, ["a.data", "conf/young.conf", "md5/a.md5"]);
}

#[test]
fn a_file_expires_while_the_service_runs_unless_a_reader_has_it_or_it_was_replaced() {
    let options = ["-I", "-o", "-t", "60", "--expire", ".=2s"];
    let receiver = Receiver::builder().args(options).start();
    let mut peer = receiver.connect();
    peer.store("taken.data", b"1");
    let size = peer.announced("MV", "taken.data");
    let mut other = receiver.connect();
    other.store("gone.data", b"2");
    eventually("it is gone", || !receiver.spool().join("gone.data").exists());
    assert!(receiver.spool().join("taken.data").exists());
    peer.send("MV OK\n");
    assert_eq!(peer.body(size), b"1");
    peer.quit();
    // The reader left by QUIT, so that it has the file.
    eventually("it is gone", || !receiver.spool().join("taken.data").exists());
    other.store("kept.data", b"3");
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        other.store("kept.data", b"4");
        thread::sleep(Duration::from_millis(200));
        assert!(receiver.spool().join("kept.data").exists());
    }
    other.quit();
}

#[test]
fn what_expires_makes_room_in_a_quota() {
    let receiver = Receiver::start(["--spool-max-files", "1", "--expire", ".=1s"]);
    let mut peer = receiver.connect();
    peer.store("a.data", b"1");
    // It is gone from the disk a moment before it is from the count.
    eventually("there is room", || peer.ask("SEND <b.data> SIZE 1") == "SEND OK");
    peer.send("2");
    peer.expect("SEND OK\n");
    assert_eq!(receiver.files().into_keys().collect::<Vec<_>>(), ["b.data"]);
    peer.quit();
}
