//! The order in which things reach the disk, by what the programs ask of the
//! system: no receipt leaves before the file's data is flushed, then its name
//! given, then its folder flushed; and no command that lets a buffer forget a
//! file leaves the puller before the same at the centre.
//!
//! Flushes are `fsync` and `fdatasync`: nothing else waits for the disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::Path, thread};

use protocol::archive::pack;
use tests::{Call, Receiver, Trace, eventually, program_under, run, traced};

/// Where files come into being, and where their names and flushes are.
const CALLS: &str = "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink,unlinkat,recvfrom,sendto,sendmsg,recvmsg";

#[test]
fn a_receipt_leaves_after_the_data_the_name_and_the_folder_are_on_the_disk() {
    let (log, receiver) = traced_receiver(&["-o", "-m", "20MB", "-i", r".*\conf:conf;.*\zip:far/below"]);
    let mut peer = receiver.connect();
    for (name, size) in [("a.data", 100), ("a.data", 200), ("large.data", 3_000_000), ("a.conf", 10)] {
        peer.store(name, vec![b'x'; size]);
    }
    peer.store("b.zip", b"below");
    let mut archive = Vec::new();
    pack(b"z.data", &mut &b"one two ".repeat(1000)[..], &mut archive).unwrap();
    assert_eq!(peer.ask(format!("ZSEND <z.data> SIZE {}", archive.len())), "ZSEND OK");
    peer.send(&archive);
    peer.expect("ZSEND OK\n");
    peer.quit();
    assert!(receiver.stop().success());
    let receipts = check_receipts(&Trace::read(&log.path().join("log"))).unwrap();
    assert_eq!(receipts, 6);
}

#[test]
fn receipts_of_many_who_share_a_flush_leave_after_it() {
    for arguments in [&[][..], &["-o"]] {
        let (log, receiver) = traced_receiver(arguments);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let mut peer = receiver.connect();
                scope.spawn(move || {
                    for file in 0..FILES {
                        peer.store(&format!("{sender}-{file}.data"), vec![b'x'; 500 + file]);
                    }
                    peer.quit();
                });
            }
        });
        assert!(receiver.stop().success());
        let trace = Trace::read(&log.path().join("log"));
        let receipts = check_receipts(&trace).unwrap();
        assert_eq!(receipts, SENDERS * FILES);
        let folder = receiver_folder(&trace);
        let flushes = trace.calls.iter().filter(|call| call.name == "fsync" && call.file() == folder).count();
        println!("counted: {receipts} receipts, {flushes} flushes of their folder, 0 too early");
    }
}

#[test]
fn what_says_that_a_file_was_forgotten_leaves_after_its_removal_is_on_the_disk() {
    let (log, receiver) = traced_receiver(&["-I", "-i", ".*conf:conf"]);
    let mut peer = receiver.connect();
    for name in ["a.data", "b.data", "c.conf", "d.data", "e.data"] {
        peer.store(name, name);
    }
    // Each tells of the one before it in another way: a body, another folder's,
    // a refusal, a list.
    for name in ["a.data", "b.data", "c.conf"] {
        peer.fetch("MV", name);
    }
    assert_eq!(peer.ask("MV <none>"), "MV ERR");
    peer.fetch("MV", "d.data");
    peer.list("");
    peer.fetch("MV", "e.data");
    assert_eq!(peer.ask("RECV <e.data>"), "RECV ERR (file does not exist)");
    peer.quit();
    assert!(receiver.stop().success());
    let removals = check_removals(&Trace::read(&log.path().join("log"))).unwrap();
    assert_eq!(removals, 5);
    println!("counted: {removals} removals, 0 told of too early");
}

#[test]
fn a_buffer_is_told_to_forget_after_the_file_is_on_the_centres_disk() {
    for mode in ["fast", "safe"] {
        let site = Receiver::start(["-I", "-o", "-i", ".*conf:conf"]);
        let mut agent = site.connect();
        for name in ["a.data", "b.data", "c.data", "d.conf"] {
            agent.store(name, name.repeat(1000));
        }
        agent.quit();
        let folder = tempfile::tempdir().unwrap();
        let trace = traced_pull(&site, folder.path(), mode);
        assert!(site.files().is_empty());
        let forgotten = check_forgotten(&trace).unwrap();
        assert_eq!(forgotten, 4, "{mode}");
        println!("counted: {forgotten} files that a buffer forgot ({mode}), 0 too early");
    }
}

/// The name of that folder is all that leads to what is staged.
#[test]
fn a_staging_folder_that_a_killed_puller_made_is_flushed_before_a_file_is_fetched() {
    let site = Receiver::start(["-I", "-o"]);
    let mut agent = site.connect();
    agent.store("a.data", b"body");
    agent.quit();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("incoming/.tentacle~sync")).unwrap();
    let trace = traced_pull(&site, folder.path(), "fast");
    let incoming = folder.path().join("incoming");
    let first = |is: &dyn Fn(&Call) -> bool| trace.calls.iter().position(is).unwrap();
    let flushed = first(&|call| is_flush(call) && Path::new(call.file()) == incoming);
    let fetched = first(&|call| is_sent(call) && asked(call, &["RECV", "MV"]).is_some());
    assert!(flushed < fetched);
}

#[test]
fn a_wrong_order_is_seen() {
    let right: Vec<&str> = RIGHT.lines().collect();
    let check = |lines: &[&str]| check_receipts(&Trace::parse(&lines.join("\n")));
    assert_eq!(check(&right), Ok(1));
    // The receipt before each of the three, or without it.
    for step in [FLUSH_OF_DATA, RENAME, FLUSH_OF_FOLDER] {
        let mut late = right.clone();
        let line = late.remove(step);
        assert!(check(&late).is_err(), "without {line}");
        late.push(line);
        assert!(check(&late).is_err(), "late: {line}");
    }
    for (one, other) in
        [(FLUSH_OF_DATA, RENAME), (RENAME, FLUSH_OF_FOLDER), (FLUSH_OF_DATA - 1, FLUSH_OF_DATA)]
    {
        let mut swapped = right.clone();
        swapped.swap(one, other);
        assert!(check(&swapped).is_err(), "swapped: {} and {}", right[one], right[other]);
    }
    let failed = RIGHT.replace("fsync(5</s>) = 0", "fsync(5</s>) = -1 EIO (Input/output error)");
    assert!(check_receipts(&Trace::parse(&failed)).is_err());
    // Begun before the rename, though it ended behind it.
    let early = RIGHT.replace("9 rename", "8 fsync(5</s> <unfinished ...>\n9 rename");
    let early = early.replace("9 fsync(5</s>) = 0", "8 <... fsync resumed>) = 0");
    assert!(check_receipts(&Trace::parse(&early)).is_err());
    // A folder that is made on the way is a name to be flushed too.
    let made = RIGHT.replace("/s/", "/s/conf/").replace("</s>", "</s/conf>");
    let made = made.replace("9 write", "9 mkdir(\"/s/conf\", 0777) = 0\n9 write");
    assert!(check_receipts(&Trace::parse(&made)).is_err());
    let kept = made.replace("9 rename", "9 fsync(6</s>) = 0\n9 rename");
    assert_eq!(check_receipts(&Trace::parse(&kept)), Ok(1));
}

#[test]
fn a_removal_that_is_told_of_too_early_is_seen() {
    let right: Vec<&str> = REMOVAL.lines().collect();
    let check = |lines: &[&str]| check_removals(&Trace::parse(&lines.join("\n")));
    assert_eq!(check(&right), Ok(1));
    for step in [REMOVED, REMOVED + 1] {
        let mut wrong = right.clone();
        let line = wrong.remove(step);
        assert!(check(&wrong).is_err(), "without {line}");
        wrong.push(line);
        assert!(check(&wrong).is_err(), "late: {line}");
        let mut swapped = right.clone();
        swapped.swap(step, step + 1);
        assert!(check(&swapped).is_err(), "swapped: {line}");
    }
}

const REMOVAL: &str = "\
7 recvfrom(9<socket:[1]>, \"MV <a.data>\\n\", 8192, 0, NULL, NULL) = 12
7 sendto(9<socket:[1]>, \"MV SIZE 5\\n\", 10, MSG_NOSIGNAL, NULL, 0) = 10
7 recvfrom(9<socket:[1]>, \"MV OK\\n\", 8192, 0, NULL, NULL) = 6
7 sendto(9<socket:[1]>, \"hello\", 5, MSG_NOSIGNAL, NULL, 0) = 5
7 recvfrom(9<socket:[1]>, \"MV <none>\\n\", 8192, 0, NULL, NULL) = 10
8 unlink(\"/s/a.data\") = 0
8 fsync(5</s>) = 0
7 sendto(9<socket:[1]>, \"MV ERR\\n\", 7, MSG_NOSIGNAL, NULL, 0) = 7";

/// A line of [`REMOVAL`].
const REMOVED: usize = 5;

const RIGHT: &str = "\
7 recvfrom(9<socket:[1]>, \"SEND <a.data> SIZE 5\\n\", 8192, 0, NULL, NULL) = 21
7 sendto(9<socket:[1]>, \"SEND OK\\n\", 8, MSG_NOSIGNAL, NULL, 0) = 8
7 recvfrom(9<socket:[1]>, \"hello\", 8192, 0, NULL, NULL) = 5
9 write(4</s/.tentacle~part-1-0>, \"hello\", 5) = 5
9 fdatasync(4</s/.tentacle~part-1-0>) = 0
9 rename(\"/s/.tentacle~part-1-0\", \"/s/a.data\") = 0
9 fsync(5</s>) = 0
7 sendto(9<socket:[1]>, \"SEND OK\\n\", 8, MSG_NOSIGNAL, NULL, 0) = 8";

/// Lines of [`RIGHT`].
const FLUSH_OF_DATA: usize = 4;
const RENAME: usize = 5;
const FLUSH_OF_FOLDER: usize = 6;

/// Holds every receipt of a receiver against what came before; how many there
/// were.
fn check_receipts(trace: &Trace) -> Result<usize, String> {
    let mut receipts = 0;
    for (at, command) in trace.calls.iter().enumerate() {
        let Some((verb, name)) = asked(command, &["SEND", "ZSEND"]).filter(|_| is_read(command)) else {
            continue;
        };
        let ok = format!("{verb} OK\\n");
        let replies = trace.calls[at..]
            .iter()
            .filter(|call| is_sent(call) && call.file() == command.file() && call.begin > command.end);
        // The first lets the body come.
        let Some(receipt) = replies.take(2).filter(|reply| reply.strings() == [&ok]).nth(1) else { continue };
        is_kept(trace, name, "", (command.begin, receipt))?;
        receipts += 1;
    }
    Ok(receipts)
}

/// Holds every command of a puller by which a source forgets a file: `MV`
/// itself, where the file was fetched by `RECV` before; else the next command
/// after its body. How many there were.
fn check_forgotten(trace: &Trace) -> Result<usize, String> {
    let mut forgotten = 0;
    for (at, command) in trace.calls.iter().enumerate() {
        let Some((_, name)) = asked(command, &["MV"]).filter(|_| is_sent(command)) else { continue };
        let mut later =
            trace.calls[at + 1..].iter().filter(|call| is_sent(call) && call.file() == command.file());
        // It was refused, as folders are.
        if later.next().is_none_or(|call| call.strings() != [r"MV OK\n"]) {
            continue;
        }
        let was_fetched = trace.calls[..at]
            .iter()
            .any(|call| is_sent(call) && asked(call, &["RECV"]).is_some_and(|(_, asked)| asked == name));
        let tells =
            if was_fetched { command } else { later.next().ok_or("nothing settles the last file")? };
        is_kept(trace, name, ".tentacle~sync/", (0, tells))?;
        forgotten += 1;
    }
    Ok(forgotten)
}

/// Holds what a receiver says next to a reader who has moved a file: anything
/// but the announcement of another says that it is gone. How many there were.
fn check_removals(trace: &Trace) -> Result<usize, String> {
    let mut removals = 0;
    for (at, command) in trace.calls.iter().enumerate() {
        let Some((_, name)) = asked(command, &["MV"]).filter(|_| is_read(command)) else { continue };
        let same = |call: &&Call| call.file() == command.file();
        let later = || trace.calls[at + 1..].iter().filter(same);
        let read = |call: &&Call| is_read(call) && !call.strings().is_empty();
        if later().find(read).is_none_or(|call| call.strings() != [r"MV OK\n"]) {
            continue;
        }
        let next = later().filter(read).nth(1).ok_or("no command behind it")?;
        let says = |call: &&Call| is_sent(call) && !call.strings()[0].starts_with("MV SIZE ");
        let Some(told) = later().filter(says).find(|call| call.begin > next.end) else { continue };
        let before = || trace.calls.iter().filter(|call| call.succeeded() && call.end < told.begin);
        let removed = before()
            .find(|call| call.name.starts_with("unlink") && call.strings()[0].ends_with(&format!("/{name}")))
            .ok_or_else(|| format!("{name} is not removed before line {}", told.begin + 1))?;
        let folder = Path::new(removed.strings()[0]).parent().unwrap();
        let flushed =
            |call: &Call| is_flush(call) && Path::new(call.file()) == folder && call.begin > removed.end;
        if !before().any(flushed) {
            return Err(format!("the removal of {name} is not flushed before line {}", told.begin + 1));
        }
        removals += 1;
    }
    Ok(removals)
}

/// Whether a file of this name, in a folder of this kind, was written,
/// flushed, named and its folder flushed between two points, in this order.
fn is_kept(trace: &Trace, name: &str, kind: &str, (from, until): (usize, &Call)) -> Result<(), String> {
    let what = format!("{name}, promised by {:?} in line {}", until.strings(), until.begin + 1);
    let before: Vec<_> =
        trace.calls.iter().filter(|call| call.succeeded() && call.end < until.begin).collect();
    let named = before.iter().rev().find(|call| call.begin > from && is_named(call, name, kind));
    let named = named.ok_or_else(|| format!("{what}: it has no name before"))?;
    let (aside, path) = (named.strings()[0], Path::new(named.strings()[1]));
    let writes = before.iter().filter(|call| call.name.contains("write") && call.file() == aside);
    let written = writes.map(|call| call.end).max().ok_or_else(|| format!("{what}: nothing is written"))?;
    let late = trace
        .calls
        .iter()
        .any(|call| call.file() == aside && call.name.contains("write") && call.end > written);
    let flushed = before
        .iter()
        .any(|call| is_flush(call) && call.file() == aside && call.begin > written && call.end < named.begin);
    if late || !flushed {
        return Err(format!("{what}: its data is not flushed between the last write and the name"));
    }
    let is_flushed = |folder: &Path, since: usize| {
        before.iter().any(|call| is_flush(call) && Path::new(call.file()) == folder && call.begin > since)
    };
    let folder = path.parent().unwrap();
    if !is_flushed(folder, named.end) {
        return Err(format!("{what}: its folder is not flushed behind the name"));
    }
    let made = trace.calls.iter().filter(|call| call.succeeded() && call.name.starts_with("mkdir"));
    for made in made.filter(|call| path.starts_with(call.strings()[0])) {
        let new = Path::new(made.strings()[0]);
        if !is_flushed(new.parent().unwrap(), made.end) {
            return Err(format!("{what}: the folder {} is new and not flushed", new.display()));
        }
    }
    Ok(())
}

/// The verb and the name, where the bytes are such a command.
fn asked<'a>(call: &'a Call, verbs: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let text = *call.strings().first()?;
    let verb = verbs.iter().find(|verb| text.starts_with(&format!("{verb} <")))?;
    Some((verb, text.strip_prefix(verb)?.strip_prefix(" <")?.split_once('>')?.0))
}

fn is_named(call: &Call, name: &str, kind: &str) -> bool {
    (call.name.starts_with("rename") || call.name.starts_with("link"))
        && call.strings()[0].contains("/.tentacle~part-")
        && call.strings()[1].contains(kind)
        && call.strings()[1].ends_with(&format!("/{name}"))
}

fn is_flush(call: &Call) -> bool {
    matches!(&*call.name, "fsync" | "fdatasync") && call.succeeded()
}

fn is_read(call: &Call) -> bool {
    call.name.starts_with("recv")
}

fn is_sent(call: &Call) -> bool {
    call.file().starts_with("socket:") && matches!(&*call.name, "sendto" | "sendmsg" | "write" | "writev")
}

fn receiver_folder(trace: &Trace) -> String {
    let named = trace.calls.iter().find(|call| call.name.starts_with("rename")).unwrap();
    Path::new(named.strings()[1]).parent().unwrap().to_str().unwrap().to_owned()
}

fn traced_receiver(arguments: &[&str]) -> (tempfile::TempDir, Receiver) {
    let log = tempfile::tempdir().unwrap();
    let under = traced(&log.path().join("log"), CALLS);
    let receiver = Receiver::builder().args(arguments).under(under).start();
    eventually("it is traced", || log.path().join("log").exists());
    (log, receiver)
}

/// What a puller asks of the system for a round of `site`, into `incoming` of
/// the folder.
fn traced_pull(site: &Receiver, folder: &Path, mode: &str) -> Trace {
    let (log, incoming) = (folder.join("log"), folder.join("incoming"));
    std::fs::create_dir_all(&incoming).unwrap();
    let mut command = program_under(&traced(&log, CALLS), "tentacle-sync-puller");
    command.args(["--once", "--folders", "conf", "--sync-mode", mode, "--sync-address"]);
    command.arg(site.address().to_string()).arg("--incoming-dir").arg(&incoming);
    let ended = run(command);
    assert!(ended.status.success(), "{}", ended.stderr);
    Trace::read(&log)
}

/// Who send at once, and how many files each.
const SENDERS: usize = 16;
const FILES: usize = 12;
