//! `MV`: who gets a file, and when it leaves.

use std::{fs, thread};

use tests::{Peer, Receiver};

#[test]
fn of_two_readers_of_a_file_one_gets_it() {
    let receiver = with_file(b"once");
    let (mut first, mut second) = (receiver.connect(), receiver.connect());
    assert_eq!(first.fetch("MV", "a.data"), b"once");
    assert_eq!(second.ask("MV <a.data>"), "MV ERR");
    // Whoever only reads does not wait.
    assert_eq!(second.fetch("RECV", "a.data"), b"once");
    first.quit();
    assert_eq!(second.ask("MV <a.data>"), "MV ERR");
    second.quit();
    assert!(receiver.files().is_empty());
}

#[test]
fn of_many_readers_each_file_goes_to_one() {
    let receiver = Receiver::start(["-I"]);
    let names: Vec<String> = (0..200).map(|number| format!("{number}.data")).collect();
    for name in &names {
        fs::write(receiver.spool().join(name), name).unwrap();
    }
    let read = || {
        let (mut peer, mut taken) = (receiver.connect(), Vec::new());
        for name in &names {
            match peer.ask(format!("MV <{name}>")).as_str() {
                "MV ERR" => {}
                _ => {
                    peer.send("MV OK\n");
                    assert_eq!(peer.body(name.len()), name.as_bytes());
                    taken.push(name);
                }
            }
        }
        peer.quit();
        taken
    };
    let mut taken: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    taken.sort();
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    assert_eq!(taken, names);
    assert!(receiver.files().is_empty());
}

#[test]
fn a_reader_that_ends_without_a_command_keeps_the_file_there() {
    let receiver = with_file(b"precious");
    let ends: [fn(Peer); 3] = [drop, Peer::reset, |mut peer| {
        peer.finish_writing();
        peer.expect_closed();
    }];
    for (index, end) in ends.into_iter().enumerate() {
        let mut peer = receiver.connect();
        assert_eq!(peer.fetch("MV", "a.data"), b"precious");
        end(peer);
        let kept = || {
            receiver
                .log()
                .iter()
                .filter(|line| line["message"].as_str().unwrap().starts_with("file kept"))
                .count()
        };
        tests::eventually("the file is kept", || kept() == index + 1);
        assert_eq!(receiver.files()["a.data"], b"precious");
    }
    // It is offered again.
    let mut peer = receiver.connect();
    assert_eq!(peer.fetch("MV", "a.data"), b"precious");
    peer.quit();
    assert!(receiver.files().is_empty());
}

#[test]
fn a_reader_that_dies_in_the_middle_keeps_the_file_there() {
    let receiver = Receiver::start(["-I"]);
    fs::write(receiver.spool().join("big"), vec![7; 30_000_000]).unwrap();
    let mut peer = Peer::connect_with_little_room(receiver.address());
    peer.announced("MV", "big");
    peer.send("MV OK\n");
    peer.body(100_000);
    peer.reset();
    receiver.wait_for_log("connection closed");
    let mut peer = receiver.connect();
    assert_eq!(peer.announced("MV", "big"), 30_000_000);
}

#[test]
fn the_next_command_or_quit_removes_the_file() {
    let receiver = with_file(b"1");
    for acknowledgement in ["MV <none>", "LS <>", "FEATURES", "SEND <a/b> SIZE 1"] {
        fs::write(receiver.spool().join("a.data"), b"1").unwrap();
        let mut peer = receiver.connect();
        assert_eq!(peer.fetch("MV", "a.data"), b"1");
        assert_eq!(receiver.files().len(), 1);
        peer.ask(acknowledgement);
        assert!(receiver.files().is_empty(), "{acknowledgement}");
    }
    fs::write(receiver.spool().join("a.data"), b"1").unwrap();
    let mut peer = receiver.connect();
    assert_eq!(peer.fetch("MV", "a.data"), b"1");
    peer.quit();
    assert!(receiver.files().is_empty());
}

#[test]
fn a_newer_file_stays_when_the_older_one_is_acknowledged() {
    let receiver = Receiver::start(["-I", "-o"]);
    let (mut reader, mut sender) = (receiver.connect(), receiver.connect());
    sender.store("a.data", b"older");
    assert_eq!(reader.fetch("MV", "a.data"), b"older");
    sender.store("a.data", b"newer");
    reader.quit();
    assert_eq!(receiver.files()["a.data"], b"newer");
    assert_eq!(sender.fetch("MV", "a.data"), b"newer");
    sender.quit();
    assert!(receiver.files().is_empty());
}

#[test]
fn features_say_what_mv_can_do() {
    for (arguments, answer) in [(&["-I"][..], "FEATURES OK two-phase-mv"), (&[], "FEATURES OK")] {
        let receiver = Receiver::start(arguments);
        let mut peer = receiver.connect();
        assert_eq!(peer.ask("FEATURES"), answer);
        peer.quit();
    }
}

fn with_file(content: &[u8]) -> Receiver {
    let receiver = Receiver::start(["-I"]);
    fs::write(receiver.spool().join("a.data"), content).unwrap();
    receiver
}
