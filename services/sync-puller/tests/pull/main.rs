//! The built puller against servers of the peers' kind, and against those
//! that misbehave. Against our own receiver it is tested with the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod options;
mod peer;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use peer::{Fault, Peer};
use tempfile::TempDir;

/// One round from `address`, with `more` arguments.
fn pull(address: &str, incoming: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tentacle-sync-puller"));
    command.args(["--once", "--sync-timeout", "1", "--sync-retries", "0", "--sync-address", address]);
    command.arg("--incoming-dir").arg(incoming).args(more).output().unwrap()
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a consumer of the folder would find: by path below it.
fn found(incoming: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(incoming).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(".tentacle~") {
            continue;
        }
        if entry.path().is_dir() {
            found.extend(
                self::found(&entry.path()).into_iter().map(|(file, c)| (format!("{name}/{file}"), c)),
            );
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, Vec<u8>> {
    files.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec())).into()
}

fn incoming() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn an_old_server_is_found_out_and_pulled_the_safe_way() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    peer.put("b.data", "world");
    peer.list_too("conf");
    let incoming = incoming();
    let output = pull(&peer.start(), incoming.path(), &["--connections", "1"]);
    assert!(output.status.success(), "{}", log(&output));
    assert_eq!(found(incoming.path()), files([("a.data", "hello"), ("b.data", "world")]));
    assert!(peer.names().is_empty());
    let commands = peer.commands();
    let of_a: Vec<_> = commands.iter().filter(|c| c.contains("<a.data>")).collect();
    assert_eq!(of_a, ["RECV <a.data>", "MV <a.data>"], "{commands:?}");
    // Found out once in a run: a second round came before the end.
    assert_eq!(commands.iter().filter(|c| *c == "FEATURES").count(), 1);
    assert!(!commands.iter().any(|c| c.contains("<conf>")), "a folder of the filters is no file");
}

#[test]
fn fast_takes_by_mv_alone() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    let incoming = incoming();
    assert!(pull(&peer.start(), incoming.path(), &["--sync-mode", "fast"]).status.success());
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
    assert!(!peer.commands().iter().any(|c| c == "FEATURES"));
}

#[test]
fn folders_are_fetched_when_named() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    peer.put("a.conf", "cfg");
    peer.put("a.md5", "sum");
    let incoming = incoming();
    let address = peer.start();
    assert!(pull(&address, incoming.path(), &[]).status.success());
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
    assert!(pull(&address, incoming.path(), &["--folders", "conf,md5"]).status.success());
    let all = files([("a.data", "hello"), ("conf/a.conf", "cfg"), ("md5/a.md5", "sum")]);
    assert_eq!(found(incoming.path()), all);
}

#[test]
fn a_folder_that_has_had_no_file_fails_no_round() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    let incoming = incoming();
    let done = pull(&peer.start(), incoming.path(), &["--folders", "conf,md5"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
}

#[test]
fn a_name_that_is_taken_by_another_content_is_kept_beside_it() {
    let peer = Peer::default();
    peer.put("a.1.data", "new");
    peer.put("same.data", "same");
    let incoming = incoming();
    fs::write(incoming.path().join("a.1.data"), "old").unwrap();
    fs::write(incoming.path().join("same.data"), "same").unwrap();
    assert!(pull(&peer.start(), incoming.path(), &[]).status.success());
    let kept = files([("a.1.data", "old"), ("a.1.2.data", "new"), ("same.data", "same")]);
    assert_eq!(found(incoming.path()), kept);
}

#[test]
fn a_name_that_is_taken_is_overwritten_when_told_to() {
    let peer = Peer::default();
    peer.put("a.data", "new");
    let incoming = incoming();
    fs::write(incoming.path().join("a.data"), "old").unwrap();
    assert!(pull(&peer.start(), incoming.path(), &["--overwrite"]).status.success());
    assert_eq!(found(incoming.path()), files([("a.data", "new")]));
}

#[test]
fn a_long_ending_makes_room_for_the_number_beside_a_name_that_is_taken() {
    let name = format!("a.{}", "x".repeat(253));
    let peer = Peer::default();
    peer.put(&name, "new");
    peer.put("b.data", "good");
    let incoming = incoming();
    fs::write(incoming.path().join(&name), "old").unwrap();
    let output = pull(&peer.start(), incoming.path(), &[]);
    assert!(output.status.success(), "{}", log(&output));
    let beside = format!("{}.2", &name[..253]);
    assert_eq!(found(incoming.path()), files([(&name, "old"), (&beside, "new"), ("b.data", "good")]));
}

#[test]
fn a_name_that_is_a_folder_here_is_kept_beside_it_even_when_overwriting() {
    let peer = Peer::default();
    peer.put("a.d", "file");
    peer.put("b.data", "good");
    let incoming = incoming();
    fs::create_dir(incoming.path().join("a.d")).unwrap();
    let output = pull(&peer.start(), incoming.path(), &["--overwrite"]);
    assert!(output.status.success(), "{}", log(&output));
    assert_eq!(found(incoming.path()), files([("a.2.d", "file"), ("b.data", "good")]));
}

#[test]
fn a_folder_that_cannot_be_written_does_not_hold_up_the_others() {
    let peer = Peer::default();
    peer.put("a.conf", "cfg");
    peer.put("a.md5", "sum");
    let (incoming, address) = (incoming(), peer.start());
    fs::write(incoming.path().join("conf"), "no folder").unwrap();
    let folders = ["--folders", "conf,md5"];
    assert_eq!(pull(&address, incoming.path(), &folders).status.code(), Some(1));
    // What is staged of conf cannot be published from now on.
    peer.put("b.data", "root");
    peer.put("b.md5", "sum");
    peer.put("b.conf", "stays");
    let output = pull(&address, incoming.path(), &folders);
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("Not a directory"), "{}", log(&output));
    let mut all =
        files([("conf", "no folder"), ("b.data", "root"), ("md5/a.md5", "sum"), ("md5/b.md5", "sum")]);
    assert_eq!(found(incoming.path()), all);
    assert_eq!(peer.names(), ["b.conf"], "nothing more is taken that would pile up");
    fs::remove_file(incoming.path().join("conf")).unwrap();
    assert!(pull(&address, incoming.path(), &folders).status.success());
    all.remove("conf");
    all.extend(files([("conf/a.conf", "cfg"), ("conf/b.conf", "stays")]));
    assert_eq!(found(incoming.path()), all);
}

#[test]
fn a_file_that_is_overwritten_between_recv_and_mv_is_kept_in_both_contents() {
    let peer = Peer::default();
    peer.put_faulty("a.data", "old", Fault::Overwritten(b"newer".to_vec()));
    let incoming = incoming();
    assert!(pull(&peer.start(), incoming.path(), &[]).status.success());
    assert_eq!(found(incoming.path()), files([("a.data", "old"), ("a.2.data", "newer")]));
}

#[test]
fn a_file_whose_source_left_with_its_last_byte_is_settled_by_the_next_listing() {
    let peer = Peer::default();
    peer.put_faulty("a.data", "hello", Fault::CloseAfterMove);
    let (incoming, address) = (incoming(), peer.start());
    let output = pull(&address, incoming.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(found(incoming.path()), files([]), "not published: nothing shows that the source forgot it");
    let output = pull(&address, incoming.path(), &[]);
    assert!(output.status.success(), "{}", log(&output));
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
}

#[test]
fn the_announcement_of_the_next_file_does_not_show_that_the_last_one_is_gone() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    peer.put_faulty("b.data", "world", Fault::CloseAfterSize);
    let (incoming, address) = (incoming(), peer.start());
    let one_by_one = ["--sync-mode", "fast", "--connections", "1"];
    assert_eq!(pull(&address, incoming.path(), &one_by_one).status.code(), Some(1));
    let moves = peer.commands().into_iter().filter(|command| command.starts_with("MV"));
    assert_eq!(moves.collect::<Vec<_>>(), ["MV <a.data>", "MV <b.data>"]);
    assert_eq!(found(incoming.path()), files([]), "not published: its source may have it yet");
    peer.mend("b.data");
    let output = pull(&address, incoming.path(), &one_by_one);
    assert!(output.status.success(), "{}", log(&output));
    assert_eq!(found(incoming.path()), files([("a.data", "hello"), ("b.data", "world")]));
}

#[test]
fn what_is_staged_and_still_listed_is_fetched_again_and_stays_one() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    peer.put("b.data", "new");
    let (incoming, address) = (incoming(), peer.start());
    let source = incoming.path().join(".tentacle~sync").join(address.replace(':', "%3A"));
    let staged = source.join("buffer/files");
    fs::create_dir_all(&staged).unwrap();
    fs::write(staged.join("a.data"), "hello").unwrap();
    fs::write(staged.join("b.data"), "old").unwrap();
    fs::write(staged.join("gone.data"), "gone").unwrap();
    fs::write(staged.join(".tentacle~part-1-1"), "torso").unwrap();
    assert!(pull(&address, incoming.path(), &[]).status.success());
    let all = files([("a.data", "hello"), ("b.data", "old"), ("b.2.data", "new"), ("gone.data", "gone")]);
    assert_eq!(found(incoming.path()), all);
    let held = fs::read_dir(source).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(held.join("files")).unwrap().count(), 0);
}

#[test]
fn what_is_staged_for_a_source_or_a_folder_that_is_named_no_more_is_said() {
    let peer = Peer::default();
    let (incoming, address) = (incoming(), peer.start());
    let staging = incoming.path().join(".tentacle~sync");
    let own = address.replace(':', "%3A");
    for folder in [
        format!("{own}/buffer/files"),
        format!("{own}/buffer/folder-conf"),
        "other%3A1/buffer/files".to_owned(),
    ] {
        fs::create_dir_all(staging.join(&folder)).unwrap();
        fs::write(staging.join(&folder).join("a.conf"), "cfg").unwrap();
    }
    let said = log(&pull(&address, incoming.path(), &[]));
    assert_eq!(said.matches("named no more").count(), 2, "{said}");
    assert!(said.contains("folder-conf\"") && said.contains("other%3A1/buffer/files\""), "{said}");
    assert!(!log(&pull(&address, incoming.path(), &["--folders", "conf"])).contains("folder-conf\""));
}

#[test]
fn one_bad_file_does_not_hold_up_the_others() {
    for fault in [Fault::Short, Fault::Long, Fault::Silent] {
        let peer = Peer::default();
        peer.put_faulty("a.data", "bad file", fault);
        peer.put("b.data", "good");
        let (incoming, address) = (incoming(), peer.start());
        let output = pull(&address, incoming.path(), &["--connections", "2"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(log(&output).contains("a.data"), "{}", log(&output));
        assert_eq!(found(incoming.path()), files([("b.data", "good")]));
        assert_eq!(peer.names(), ["a.data"], "what did not come whole stays at its source");
    }
}

#[test]
fn what_is_listed_and_refused_is_said_and_left() {
    let peer = Peer::default();
    peer.put_faulty("a.data", "x", Fault::Refused);
    peer.put("b.data", "good");
    let incoming = incoming();
    let output = pull(&peer.start(), incoming.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("does not hand out"), "{}", log(&output));
    assert_eq!(found(incoming.path()), files([("b.data", "good")]));
}

#[test]
fn a_name_that_leads_elsewhere_is_never_asked_for() {
    let peer = Peer::default();
    peer.put("a.data", "good");
    for line in ["../x", "/etc/passwd", "a/b", "x*", ".tentacle~lock", "nul\0", &"x".repeat(256)] {
        peer.list_too(line);
    }
    let incoming = incoming();
    let output = pull(&peer.start(), incoming.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "a source that holds more is not emptied");
    assert!(log(&output).contains("names that are refused here"), "{}", log(&output));
    assert!(log(&output).contains("\"names\":7"), "{}", log(&output));
    assert_eq!(found(incoming.path()), files([("a.data", "good")]));
    let asked = peer.commands();
    assert!(asked.iter().all(|c| !c.contains('/') && !c.contains('*') && !c.contains('~')), "{asked:?}");
}

#[test]
fn a_source_that_refuses_or_is_silent_delays_no_other() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::default();
    peer.put("a.data", "hello");
    let incoming = incoming();
    let sources = format!("{closed}, {} ,{}", silent.local_addr().unwrap(), peer.start());
    let mut puller = Command::new(env!("CARGO_BIN_EXE_tentacle-sync-puller"))
        .args(["--sync-address", &sources, "--sync-timeout", "5", "--interval", "1", "--incoming-dir"])
        .arg(incoming.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while found(incoming.path()).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(4), "held up by another source");
    }
    // And it goes on: what comes later is fetched too.
    peer.put("b.data", "later");
    while !found(incoming.path()).contains_key("b.data") {
        assert!(started.elapsed() < Duration::from_secs(15));
    }
    puller.kill().unwrap();
    puller.wait().unwrap();
}

#[test]
fn a_source_that_fails_is_asked_less_and_less_often() {
    // Accepts and closes at once: every round fails.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = incoming();
    let mut puller = Command::new(env!("CARGO_BIN_EXE_tentacle-sync-puller"))
        .args(["--sync-address", &address, "--interval", "1", "--sync-mode", "fast", "--incoming-dir"])
        .arg(incoming.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut times = Vec::new();
    while times.len() < 4 {
        drop(listener.accept().unwrap());
        times.push(Instant::now());
    }
    puller.kill().unwrap();
    puller.wait().unwrap();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 1, 2 and 4 s, each with up to as much again by chance.
    assert!(
        pauses[0] >= Duration::from_millis(900) && pauses[2] >= Duration::from_millis(3900),
        "{pauses:?}"
    );
}

#[test]
fn the_password_is_told_and_a_wrong_one_is_said() {
    let peer = Peer::default().with_password("9e769017c85f064977fe6a658f207fa6");
    peer.put("a.data", "hello");
    let (incoming, address) = (incoming(), peer.start());
    let output = pull(&address, incoming.path(), &["-x", "wrong-one"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("refuses the password"), "{}", log(&output));
    assert!(!log(&output).contains("wrong-one"));
    assert!(pull(&address, incoming.path(), &["-x", "secret"]).status.success());
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
}

#[test]
fn two_pullers_into_one_folder_are_refused() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let incoming = incoming();
    let mut first = Command::new(env!("CARGO_BIN_EXE_tentacle-sync-puller"))
        .args(["--sync-address", &address, "--incoming-dir"])
        .arg(incoming.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    silent.accept().unwrap();
    let output = pull(&address, incoming.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("in use by another process"), "{}", log(&output));
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_full_centre_leaves_the_files_at_their_source() {
    let peer = Peer::default();
    peer.put("a.data", vec![b'a'; 400_000]);
    let incoming = incoming();
    // Mounted in a namespace of its own, and gone with it.
    let script =
        "mount -t tmpfs -o size=256k tentacle \"$0\" && { \"$@\"; status=$?; ls \"$0\"; exit $status; }";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(incoming.path())
        .arg(env!("CARGO_BIN_EXE_tentacle-sync-puller"))
        .args(["--once", "--sync-address", &peer.start(), "--incoming-dir"])
        .arg(incoming.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("incoming folder: No space left"), "{}", log(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing torn is left to be seen");
    assert_eq!(peer.names(), ["a.data"]);
}
