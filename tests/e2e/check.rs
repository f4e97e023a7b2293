//! `tentacle_client --check`: a receiver that works is said to work, and of one
//! that does not, the step that fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

use tests::{
    Ended, Form, Key, Kind, NAME, Receiver, certificates, eventually, free_address, free_port_of, left_aside,
    program_command, run,
};

/// Runs the check, and nothing else.
fn check(server: SocketAddr, options: &[&str]) -> Ended {
    run(command(server, options))
}

fn command(server: SocketAddr, options: &[&str]) -> Command {
    let mut command = program_command("tentacle_client");
    command.args(["-a", &server.to_string(), "--check"]).args(options);
    command
}

/// One line, which says that it works.
#[track_caller]
fn works(ended: &Ended, server: SocketAddr) {
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    let line = ended.stdout.trim_end();
    assert!(line.starts_with(&format!("{server} works: tentacle-check-")), "{line}");
    assert!(
        line.contains(".check was sent, fetched, taken, and is gone, in ") && line.ends_with(" ms"),
        "{line}"
    );
}

/// One line, which says what does not.
#[track_caller]
fn fails(ended: &Ended, parts: &[&str]) {
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("tentacle_client: error: check: "), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} is not in {}", ended.stderr);
    }
}

#[test]
fn a_receiver_that_works_is_said_to_and_nothing_stays_in_it() {
    let stock = r".*\.conf:conf;.*\.md5:md5;.*\.zip:collections;.*\.lock:trans;.*\.rcmd:commands;.*\.agent_setup\.exe:agent";
    for options in
        [vec!["-I"], vec!["-I", "-o", "-m", "2000"], vec!["-I", "-i", stock], vec!["-I", "-i", ".*:all"]]
    {
        let receiver = Receiver::start(&options);
        works(&check(receiver.address(), &[]), receiver.address());
        assert!(receiver.files().is_empty(), "{options:?}: {:?}", receiver.files());
        assert!(left_aside(receiver.spool()).is_empty());
    }
}

#[test]
fn quiet_means_the_exit_status_alone() {
    let receiver = Receiver::start(["-I"]);
    let ended = check(receiver.address(), &["-q"]);
    assert_eq!((ended.status.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
    let ended = check((free_address(), 41121).into(), &["-q"]);
    assert_eq!((ended.status.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(1), "", ""));
}

#[test]
fn tls_and_a_password_are_as_the_other_options_say() {
    let (pki, kind) = (certificates(), Kind { form: Form::V3San, key: Key::P256 });
    let receiver = Receiver::builder()
        .at(free_port_of(NAME))
        .args(["-I", "-x", "geheim"])
        .args(pki.identity(&kind.server()))
        .args(pki.authority(&kind.clients_authority()))
        .start();
    let (identity, authority) = (pki.identity(&kind.client()), pki.authority(&kind.servers_authority()));
    let tls: Vec<_> = identity.iter().chain(&authority).map(String::as_str).collect();
    works(&check(receiver.address(), &[&tls[..], &["-x", "geheim"]].concat()), receiver.address());
    assert!(receiver.files().is_empty());

    let wrong = check(receiver.address(), &[&tls[..], &["-x", "falsch"]].concat());
    fails(&wrong, &["password: the other side closed the connection (is it the server's?"]);
    assert!(!wrong.stderr.contains("falsch"));
    fails(&check(receiver.address(), &tls), &["RECV, the first command: ", "does it want a password, -x,"]);
    fails(&check(receiver.address(), &["-x", "geheim"]), &["speak TLS too: -c, or -e FILE"]);
    assert!(receiver.files().is_empty());
}

#[test]
fn a_receiver_that_gives_nothing_away_is_told_from_one_that_is_broken() {
    let receiver = Receiver::start::<&str>([]);
    let ended = check(receiver.address(), &[]);
    fails(&ended, &["MV: the other side closed the connection (", "start it with -I)"]);
    assert!(receiver.files().is_empty(), "no file was sent in vain");
}

#[test]
fn a_spool_without_room_is_said() {
    let receiver = Receiver::builder().args(["-I"]).on_tmpfs("size=64k").start();
    let _ = fs::write(receiver.spool().join("filler"), vec![0; 1 << 20]);
    fails(
        &check(receiver.address(), &[]),
        &[
            "SEND: the server refuses: no space left on the server (look at the receiver's log, and at its disk)",
        ],
    );
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
}

#[test]
fn a_spool_that_became_read_only_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let receiver = Receiver::builder().args(["-I"]).spool(&spool).start();
    // As a disk does that has failed: nothing can be made in it any more.
    fs::remove_dir_all(&spool).unwrap();
    fails(&check(receiver.address(), &[]), &["SEND: the server refuses: the server cannot use its disk ("]);
}

#[test]
fn a_bound_that_is_too_small_is_said() {
    let receiver = Receiver::start(["-I", "-m", "100"]);
    fails(&check(receiver.address(), &[]), &["SEND: the server refuses: file is too big (raise -m"]);
}

#[test]
fn nobody_there_is_said() {
    let nobody = SocketAddr::from((free_address(), 41121));
    fails(&check(nobody, &[]), &[&format!("cannot connect to {nobody}: Connection refused")]);
}

#[test]
fn a_server_that_alters_files_is_found_out() {
    let server = Odd::start(|verb, _, file| {
        let mut file = file?;
        if verb == "MV" {
            *file.last_mut().unwrap() ^= 1;
        }
        Some(file)
    });
    fails(&check(server, &[]), &["MV of the file that was sent: tentacle-check-", "has other bytes"]);
    let server = Odd::start(|_, _, file| file.map(|file| file[1..].to_vec()));
    fails(&check(server, &[]), &["RECV of the file that was sent: tentacle-check-", "has other bytes"]);
}

#[test]
fn a_server_that_keeps_what_was_taken_is_found_out() {
    let server = Odd::start(|_, _, file| file);
    fails(
        &check(server, &[]),
        &["RECV of the file that was taken: tentacle-check-", "is there, where it must not"],
    );
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = check(silent.local_addr().unwrap(), &["-t", "1", "-r", "0"]);
    fails(&ended, &["RECV, the first command: no answer within 1 s"]);
}

#[test]
fn a_puller_at_work_may_be_faster_now_and_then() {
    // The first file is taken before it can be fetched, the second before it
    // can be taken; the third one is left alone.
    let mut is_taken = false;
    let server = Odd::start(move |verb, number, file| match (verb, number) {
        (_, 1) | ("MV", 2) => None,
        _ if is_taken => None,
        _ => {
            is_taken = verb == "MV" && file.is_some();
            file
        }
    });
    works(&check(server, &[]), server);

    let server = Odd::start(|_, _, _| None);
    fails(&check(server, &[]), &["3 files were stored, and gone before they could be taken", "check again"]);
}

/// A server that gives out what its answers say, and not what it was given.
struct Odd;

impl Odd {
    /// `answer` is asked for each file that was sent: by which verb, the how
    /// many-th file it is, and its bytes.
    fn start(
        mut answer: impl FnMut(&str, usize, Option<Vec<u8>>) -> Option<Vec<u8>> + Send + 'static,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut from = BufReader::new(stream.try_clone().unwrap());
            let mut files = HashMap::new();
            let mut line = String::new();
            while from.read_line(&mut line).unwrap_or(0) > 0 {
                let words: Vec<_> = line.split_whitespace().collect();
                let reply = match words[..] {
                    ["SEND", name, "SIZE", size] => {
                        stream.write_all(b"SEND OK\n").unwrap();
                        let mut content = vec![0; size.parse().unwrap()];
                        from.read_exact(&mut content).unwrap();
                        files.insert(name.to_owned(), (files.len() + 1, content));
                        b"SEND OK\n".to_vec()
                    }
                    [verb, name] => {
                        let (number, file) = files.get(name).cloned().unzip();
                        match answer(verb, number.unwrap_or_default(), file) {
                            None if verb == "MV" => b"MV ERR\n".to_vec(),
                            None => b"RECV ERR (file does not exist)\n".to_vec(),
                            Some(body) => {
                                stream.write_all(format!("{verb} SIZE {}\n", body.len()).as_bytes()).unwrap();
                                let mut agreed = String::new();
                                // A client that is told a wrong size leaves.
                                if from.read_line(&mut agreed).unwrap_or(0) == 0 {
                                    return;
                                }
                                body
                            }
                        }
                    }
                    _ => return,
                };
                stream.write_all(&reply).unwrap();
                line.clear();
            }
        });
        address
    }
}
