//! Disks that fail, by the programs' own calls to the system: each kind of
//! call fails with each error, while agents send and readers fetch. Every
//! client is answered as today's clients understand, no torso is seen, nothing
//! leaks, and when the disk works again, so does everything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use protocol::archive::pack;
use tests::{Injection, Peer, Receiver, eventually, files_below, injected, left_aside, program_under, run};

/// Calls of a receiver on its spool, and what they may fail with.
const FAULTS: [(&str, &[&str]); 10] = [
    ("openat", &["EMFILE", "EIO", "ENOSPC", "EDQUOT"]),
    ("write", &["ENOSPC", "EIO", "EDQUOT"]),
    ("fdatasync", &["EIO", "ENOSPC", "EDQUOT"]),
    ("fsync", &["EIO"]),
    ("rename", &["EIO", "ENOSPC", "EDQUOT"]),
    ("renameat2", &["EIO", "ENOSPC", "EDQUOT"]),
    ("unlink", &["EIO"]),
    ("mkdir", &["ENOSPC", "EIO", "EDQUOT"]),
    ("statx", &["EIO"]),
    ("getdents64", &["EIO"]),
];

#[test]
fn a_disk_that_fails_is_a_refusal_and_no_more() {
    let (mut faults, mut refusals) = (BTreeMap::new(), 0);
    for overwrite in [true, false] {
        let arguments = ["-I", "-m", "20MB", "-i", ".*conf:conf", if overwrite { "-o" } else { "-v" }];
        let receiver = Receiver::start(arguments);
        everything_works(&receiver, overwrite);
        let open = descriptors(&receiver);
        for (calls, errors) in FAULTS {
            for error in errors {
                let what = format!("{error} of {calls}");
                prepare(receiver.spool());
                let program = receiver.process().id();
                let injection = Injection::into(program, calls, error, &paths_of_writes(calls, &receiver));
                let refused = Acts { receiver: &receiver, overwrite, what: &what }.run();
                *faults.entry(calls).or_insert(0) += injection.end();
                refusals += refused;
                eventually(&format!("nothing is left aside after {what}"), || {
                    left_aside(receiver.spool()).is_empty() && left_aside(&conf(&receiver)).is_empty()
                });
                everything_works(&receiver, overwrite);
                eventually(&format!("every descriptor is closed after {what}"), || {
                    descriptors(&receiver) <= open
                });
            }
        }
    }
    for (calls, _) in FAULTS {
        assert!(faults[calls] > 0, "no {calls} has failed");
    }
    println!(
        "counted: {} faults of a receiver's disk, {refusals} refusals, 0 torsos",
        faults.values().sum::<usize>()
    );
}

#[test]
fn a_disk_that_fails_at_the_centre_loses_nothing_and_gives_nothing_twice() {
    let (mut faults, mut runs) = (0, 0);
    for (calls, error) in [
        ("fdatasync", "EIO"),
        ("fdatasync", "ENOSPC"),
        ("fsync", "EIO"),
        ("rename", "EIO"),
        ("renameat2", "ENOSPC"),
        ("renameat2", "EDQUOT"),
        ("mkdir", "ENOSPC"),
        ("unlink", "EIO"),
    ] {
        // In each thread, the first such call or one behind it.
        for when in ["1", "2", "3"] {
            let what = format!("{error} of {calls}, {when}");
            let site = Receiver::start(["-I"]);
            let sent: BTreeMap<_, _> =
                (0..6).map(|n| (format!("{n}.data"), vec![b'x'; 100 * n + 1])).collect();
            for (name, content) in &sent {
                fs::write(site.spool().join(name), content).unwrap();
            }
            let incoming = tempfile::tempdir().unwrap();
            let log = tempfile::NamedTempFile::new().unwrap();
            let inject = format!("inject={calls}:error={error}:when={when}");
            let mut strace: Vec<_> = ["strace", "-D", "-f", "-qq", "-o"].map(OsString::from).into();
            strace.extend([log.path().into(), "-e".into(), format!("trace={calls}").into()]);
            strace.extend(["-e".into(), OsString::from(inject)]);
            let mut consumed = BTreeMap::new();
            // With the fault, and when the disk works again.
            for under in [strace, Vec::new()] {
                let mut command = program_under(&under, "tentacle-sync-puller");
                command.args(["--once", "--sync-timeout", "2", "--sync-address"]);
                command.arg(site.address().to_string()).arg("--incoming-dir").arg(incoming.path());
                let ended = run(command);
                assert!(ended.status.success() || !under.is_empty(), "{what}: {}", ended.stderr);
                for (name, content) in files_below(incoming.path()) {
                    assert_eq!(sent.get(&name), Some(&content), "{what}: {name} is torn");
                    fs::remove_file(incoming.path().join(&name)).unwrap();
                    assert_eq!(consumed.insert(name, content), None, "{what}: it came twice");
                }
            }
            assert!(consumed == sent, "{what}: {:?}", consumed.keys());
            assert!(site.files().is_empty(), "{what}");
            faults += injected(log.path());
            runs += 1;
        }
    }
    assert!(faults > 0);
    println!("counted: {faults} faults of a centre's disk in {runs} runs, 0 lost, 0 twice");
}

/// What agents and readers do while the disk fails.
struct Acts<'a> {
    receiver: &'a Receiver,
    overwrite: bool,
    what: &'a str,
}

impl Acts<'_> {
    /// Does everything once; how much was refused.
    fn run(&self) -> usize {
        let mut refused = 0;
        let large = vec![b'l'; 3_000_000];
        for (name, content) in [("new.data", &b"new"[..]), ("large.data", &large), ("new.conf", b"conf")] {
            let is_stored = send(&mut self.receiver.connect(), "SEND", name, content);
            self.check(name, is_stored, content);
            refused += usize::from(!is_stored);
        }
        let is_stored = send(&mut self.receiver.connect(), "ZSEND", "zip.data", &packed(b"zip"));
        self.check("zip.data", is_stored, b"zip");
        refused += usize::from(!is_stored);
        if self.overwrite {
            let is_stored = send(&mut self.receiver.connect(), "SEND", "old.data", b"young");
            self.check("old.data", is_stored, b"young");
            refused += usize::from(!is_stored);
        }
        for verb in ["RECV", "MV"] {
            if let Some(body) = fetch(&mut self.receiver.connect(), verb, "moved.data") {
                assert_eq!(body, b"moved", "{}: {verb}", self.what);
            } else {
                refused += 1;
            }
        }
        match fetch(&mut self.receiver.connect(), "LS", "") {
            Some(list) => assert!(!list.escape_ascii().to_string().contains("tentacle~"), "{}", self.what),
            None => refused += 1,
        }
        refused
    }

    /// What is stored is there. What is refused is not; one that may overwrite
    /// may be there all the same, or what it would have overwritten.
    fn check(&self, name: &str, is_stored: bool, content: &[u8]) {
        let folder = if name.ends_with("conf") { conf(self.receiver) } else { self.receiver.spool().into() };
        let found = fs::read(folder.join(name)).ok();
        let is_new = found.as_deref() == Some(content);
        let is_old = found.as_deref() == (name == "old.data").then_some(b"old");
        let is_right = if is_stored { is_new } else { is_old || is_new && self.overwrite };
        assert!(is_right, "{}: {name} is not as it was answered", self.what);
    }
}

/// What the acts find: two files, and no folder.
fn prepare(spool: &Path) {
    for name in files_below(spool).into_keys() {
        fs::remove_file(spool.join(name)).unwrap();
    }
    let _ = fs::remove_dir(spool.join("conf"));
    fs::write(spool.join("old.data"), "old").unwrap();
    fs::write(spool.join("moved.data"), "moved").unwrap();
}

#[track_caller]
fn everything_works(receiver: &Receiver, overwrite: bool) {
    prepare(receiver.spool());
    let refused = Acts { receiver, overwrite, what: "a disk that works" }.run();
    assert_eq!(refused, 0);
    eventually("what was moved has left", || !receiver.spool().join("moved.data").exists());
}

/// Whether the file is stored; what else is answered is a refusal.
fn send(peer: &mut Peer, verb: &str, name: &str, body: &[u8]) -> bool {
    let is_ok = |answer: &str| {
        let refusal = answer.strip_prefix(verb).is_some_and(|rest| rest.starts_with(" ERR"));
        assert!(refusal || answer == format!("{verb} OK"), "{answer}");
        !refusal
    };
    let offered = is_ok(&peer.ask(format!("{verb} <{name}> SIZE {}", body.len())));
    if offered {
        peer.send(body);
    }
    offered && is_ok(&peer.line())
}

/// The bytes, of which the reader shows that it has them; `None` if refused.
fn fetch(peer: &mut Peer, verb: &str, name: &str) -> Option<Vec<u8>> {
    let answer = peer.ask(format!("{verb} <{name}>"));
    let Some(size) = answer.strip_prefix(&format!("{verb} SIZE ")) else {
        assert!(answer.starts_with(&format!("{verb} ERR")), "{answer}");
        return None;
    };
    peer.send(format!("{verb} OK\n"));
    let body = peer.body(size.parse().unwrap());
    peer.send("QUIT\n");
    peer.expect_closed();
    Some(body)
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(b"zip.data", &mut &*content, &mut archive).unwrap();
    archive
}

/// The threads of a program wake each other by writes, which must not fail:
/// the files that are being written alone.
fn paths_of_writes(calls: &str, receiver: &Receiver) -> Vec<PathBuf> {
    if calls != "write" {
        return Vec::new();
    }
    let aside = |number| format!(".tentacle~part-{}-{number}", receiver.process().id());
    (0..1000).map(|number| receiver.spool().join(aside(number))).collect()
}

fn conf(receiver: &Receiver) -> PathBuf {
    receiver.spool().join("conf")
}

fn descriptors(receiver: &Receiver) -> usize {
    fs::read_dir(format!("/proc/{}/fd", receiver.process().id())).unwrap().count()
}
