//! `--spool-max-bytes` and `--spool-max-files`.

use std::{
    collections::BTreeSet,
    env, fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use protocol::archive::pack;
use tests::{Peer, Receiver, eventually, left_aside};

use crate::Ended;

const FULL: &str = "SEND ERR (no space left on the server)";

/// How many lie in a spool, and their bytes.
fn held(receiver: &Receiver) -> (u64, u64) {
    // Some may go while this looks.
    let entries = fs::read_dir(receiver.spool()).unwrap().map(Result::unwrap);
    let own = |name: &str| name.starts_with(".tentacle~");
    let files = entries.filter(|entry| !own(&entry.file_name().to_string_lossy()));
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}

/// A hundred clients send more than there is room for, some of it packed,
/// while others look and fetch: `is_within` holds at every look, and what was
/// acknowledged and not fetched is what lies there.
fn a_hundred_senders(option: [&str; 2], is_within: impl Fn(u64, u64) -> bool + Sync) -> Receiver {
    let rounds: u64 = env::var("TORTURE_SENDS").map_or(6, |rounds| rounds.parse().unwrap());
    let receiver = Receiver::builder().args(option).args(["-I", "-t", "60", "-c", "200"]).start();
    let (kept, fetched) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    let (looks, refused, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let senders: Vec<_> = (0..100)
            .map(|sender| {
                let (receiver, kept, refused) = (&receiver, &kept, &refused);
                scope.spawn(move || {
                    let mut peer = receiver.connect();
                    for round in 0..rounds {
                        let name = format!("{sender}-{round}.data");
                        let content = vec![b'a'; 100 + (sender * 7 + round * 131) as usize % 900];
                        let stored = match sender % 4 {
                            0 => offer(&mut peer, "ZSEND", &name, &packed(&content)),
                            _ => offer(&mut peer, "SEND", &name, &content),
                        };
                        match stored {
                            true => assert!(kept.lock().unwrap().insert(name)),
                            false => _ = refused.fetch_add(1, SeqCst),
                        }
                    }
                    peer.quit();
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let (files, bytes) = held(&receiver);
                assert!(is_within(files, bytes), "{files} files, {bytes} bytes with {option:?}");
                looks.fetch_add(1, SeqCst);
            }
        });
        scope.spawn(|| {
            let mut peer = receiver.connect();
            while !done.load(SeqCst) {
                for name in peer.list("").into_iter().filter(|name| name.ends_with(".data")).take(20) {
                    peer.fetch("MV", &name);
                    fetched.lock().unwrap().insert(name);
                }
            }
            peer.quit();
        });
        let _ended = Ended(&done);
        for sender in senders {
            sender.join().unwrap();
        }
    });
    let (kept, fetched) = (kept.into_inner().unwrap(), fetched.into_inner().unwrap());
    let there: BTreeSet<_> = receiver.files().into_keys().collect();
    assert_eq!(there, kept.difference(&fetched).cloned().collect());
    let refused = refused.into_inner();
    assert!(refused > 0, "the quota was never reached");
    println!(
        "counted: {} files sent against {}, {} refused, {} fetched meanwhile, {} looks, 0 over the quota, 0 lost",
        kept.len(),
        option.join(" "),
        refused,
        fetched.len(),
        looks.into_inner()
    );
    receiver
}

/// Whether it was stored.
fn offer(peer: &mut Peer, verb: &str, name: &str, body: &[u8]) -> bool {
    let full = format!("{verb} ERR (no space left on the server)");
    let mut answer = peer.ask(format!("{verb} <{name}> SIZE {}", body.len()));
    if answer == format!("{verb} OK") {
        peer.send(body);
        answer = peer.line();
    }
    assert!(answer == full || answer == format!("{verb} OK"), "{answer}");
    answer != full
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(b"a.data", &mut &*content, &mut archive).unwrap();
    archive
}

#[test]
fn a_quota_of_bytes_holds_under_a_hundred_senders() {
    let receiver = a_hundred_senders(["--spool-max-bytes", "50000"], |_, bytes| bytes <= 50_000);
    // What is left can be used to the last byte.
    let left = 50_000 - held(&receiver).1;
    let mut peer = receiver.connect();
    assert_eq!(peer.ask(format!("SEND <more.data> SIZE {}", left + 1)), FULL);
    peer.store("last.data", vec![b'z'; left as usize]);
    assert_eq!(held(&receiver).1, 50_000);
    assert_eq!(peer.ask("SEND <more.data> SIZE 1"), FULL);
    peer.quit();
}

#[test]
fn a_quota_of_files_holds_under_a_hundred_senders() {
    let receiver = a_hundred_senders(["--spool-max-files", "50"], |files, _| files <= 50);
    let mut peer = receiver.connect();
    for number in held(&receiver).0..50 {
        peer.store(&format!("last-{number}.data"), b"1");
    }
    assert_eq!(peer.ask("SEND <more.data> SIZE 1"), FULL);
    peer.quit();
}

#[test]
fn a_refusal_says_why_in_the_log_and_comes_before_the_body() {
    let receiver = Receiver::start(["--spool-max-files", "1"]);
    let mut peer = receiver.connect();
    peer.store("a.data", b"1");
    for verb in ["SEND", "ZSEND"] {
        assert_eq!(
            peer.ask(format!("{verb} <b.data> SIZE 9")),
            format!("{verb} ERR (no space left on the server)")
        );
    }
    let line = receiver.wait_for_log("refused");
    assert_eq!(line["reason"], "1 files are in the spool or on their way, of at most 1 (--spool-max-files)");
    peer.quit();
}

#[test]
fn an_archive_that_unpacks_to_more_than_the_quota_is_refused_and_leaves_nothing() {
    let receiver = Receiver::start(["--spool-max-bytes", "1000000"]);
    let mut peer = receiver.connect();
    let bomb = packed(&vec![0; 20_000_000]);
    assert!(bomb.len() < 100_000);
    for _ in 0..3 {
        assert!(!offer(&mut peer, "ZSEND", "a.data", &bomb));
    }
    let line = receiver.wait_for_log("refused");
    assert!(line["reason"].as_str().unwrap().ends_with("(--spool-max-bytes)"), "{line}");
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
    assert!(receiver.files().is_empty());
    peer.store("whole.data", vec![1; 1_000_000]);
    peer.quit();
}

#[test]
fn at_the_quota_a_file_is_replaced_by_one_that_is_not_larger() {
    let receiver = Receiver::start(["-o", "--spool-max-bytes", "10000", "--spool-max-files", "2"]);
    let mut peer = receiver.connect();
    peer.store("a.data", [b'1'; 6000]);
    peer.store("b.data", [b'2'; 4000]);
    peer.store("a.data", [b'3'; 6000]);
    assert_eq!(peer.ask("SEND <a.data> SIZE 6001"), FULL);
    assert_eq!(peer.ask("SEND <c.data> SIZE 1"), FULL);
    assert!(offer(&mut peer, "ZSEND", "b.data", &packed(&[b'4'; 4000])));
    assert!(!offer(&mut peer, "ZSEND", "b.data", &packed(&[b'4'; 4001])));
    peer.store("a.data", [b'5'; 1000]);
    peer.store("b.data", [b'6'; 9000]);
    peer.quit();
    assert_eq!(receiver.files()["b.data"], [b'6'; 9000]);
    assert_eq!(held(&receiver), (2, 10_000));
}

#[test]
fn what_a_reader_or_a_consumer_takes_makes_room() {
    let receiver = Receiver::start(["-I", "--spool-max-files", "1"]);
    let mut peer = receiver.connect();
    peer.store("a.data", b"1");
    assert_eq!(peer.ask("SEND <b.data> SIZE 1"), FULL);
    // By the command behind it, it is gone.
    assert_eq!(peer.fetch("MV", "a.data"), b"1");
    peer.store("b.data", b"2");
    fs::remove_file(receiver.spool().join("b.data")).unwrap();
    eventually("it is seen that the file is gone", || offer(&mut peer, "SEND", "c.data", b"3"));
    // Nor does it stay unseen what others put there.
    fs::remove_file(receiver.spool().join("c.data")).unwrap();
    fs::write(receiver.spool().join("other.data"), b"4").unwrap();
    eventually("it is seen that a file came", || {
        let stored = offer(&mut peer, "SEND", "d.data", b"5");
        if stored {
            fs::remove_file(receiver.spool().join("d.data")).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        !stored && !receiver.spool().join("d.data").exists()
    });
    peer.quit();
}

#[test]
fn a_spool_above_its_quota_starts_says_so_and_hands_out_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("conf")).unwrap();
    for name in ["a.data", "b.data", "conf/a.conf"] {
        fs::write(folder.path().join(name), "old").unwrap();
    }
    let options = ["-I", "-i", r".*\.conf:conf", "--spool-max-files", "2"];
    let receiver = Receiver::builder().args(options).spool(folder.path()).start();
    let said = receiver.wait_for_log("more lies in the spool");
    assert_eq!((&said["files"], &said["max_files"]), (&3.into(), &2.into()));
    let mut peer = receiver.connect();
    assert_eq!(peer.ask("SEND <c.data> SIZE 1"), FULL);
    assert_eq!(peer.fetch("MV", "a.conf"), b"old");
    assert_eq!(peer.ask("SEND <c.data> SIZE 1"), FULL);
    assert_eq!(peer.fetch("MV", "a.data"), b"old");
    peer.store("c.data", b"1");
    peer.quit();
    let lines = receiver.log();
    assert_eq!(lines.iter().filter(|line| line["message"] == said["message"]).count(), 1);
}
