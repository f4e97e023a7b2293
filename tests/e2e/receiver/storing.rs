//! `SEND`, `RECV` and `LS`: whole or not at all, and beside each other.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tests::{Peer, Receiver, eventually, left_aside};

#[test]
fn a_cluster_of_short_options_works() {
    let receiver = Receiver::start(["-vIo"]);
    let mut peer = receiver.connect();
    peer.store("a.data", b"1");
    peer.store("a.data", b"2");
    assert_eq!(peer.list(""), [".", "..", "a.data"]);
    peer.quit();
    assert_eq!(receiver.files()["a.data"], b"2");
}

#[test]
fn a_file_that_is_coming_in_is_seen_by_nobody() {
    let receiver = Receiver::start(["-I", "-m", "10MB"]);
    let (mut sender, mut watcher) = (receiver.connect(), receiver.connect());
    assert_eq!(sender.ask("SEND <a.data> SIZE 2000000"), "SEND OK");
    sender.send(vec![b'x'; 1_500_000]);
    eventually("the file is on its way", || !left_aside(receiver.spool()).is_empty());
    assert_eq!(watcher.list(""), [".", ".."]);
    assert_eq!(watcher.ask("RECV <a.data>"), "RECV ERR (file does not exist)");
    let aside = &left_aside(receiver.spool())[0];
    assert_eq!(watcher.ask(format!("RECV <{aside}>")), "RECV ERR (file has an invalid file name)");
    assert_eq!(watcher.ask(format!("MV <{aside}>")), "MV ERR");
    sender.send(vec![b'x'; 500_000]);
    sender.expect("SEND OK\n");
    assert_eq!(watcher.list(""), [".", "..", "a.data"]);
    assert!(left_aside(receiver.spool()).is_empty());
}

#[test]
fn of_two_senders_of_a_name_the_second_is_refused() {
    let receiver = Receiver::start::<&str>([]);
    let (mut first, mut second) = (receiver.connect(), receiver.connect());
    assert_eq!(first.ask("SEND <a.data> SIZE 1"), "SEND OK");
    assert_eq!(second.ask("SEND <a.data> SIZE 1"), "SEND OK");
    second.send("2");
    second.expect("SEND OK\n");
    first.send("1");
    assert_eq!(first.line(), "SEND ERR (file already exists)");
    first.quit();
    assert_eq!(receiver.files()["a.data"], b"2");
}

#[test]
fn overwriting_gives_a_slow_reader_the_old_bytes_whole() {
    let receiver = Receiver::start(["-I", "-o", "-m", "100MB"]);
    let old = pattern(20_000_000, 1);
    fs::write(receiver.spool().join("a.data"), &old).unwrap();
    for verb in ["RECV", "MV"] {
        let mut reader = Peer::connect_with_little_room(receiver.address());
        let size = reader.announced(verb, "a.data");
        assert_eq!(size, old.len());
        reader.send(format!("{verb} OK\n"));
        let mut read = reader.body(100_000);
        let mut sender = receiver.connect();
        sender.store("a.data", b"new");
        read.extend(reader.body(size - read.len()));
        assert!(read == old, "{verb}: not the old bytes");
        reader.quit();
        assert_eq!(receiver.files()["a.data"], b"new");
        fs::write(receiver.spool().join("a.data"), &old).unwrap();
    }
}

#[test]
fn the_documented_filters_pick_the_folders() {
    let filters = r".*\conf:conf;.*\md5:md5;.*\zip:collections";
    let receiver = Receiver::start(["-I", "-i", filters]);
    let mut peer = receiver.connect();
    for name in ["agent.conf", "agent.md5", "pack.zip", "agent.data"] {
        peer.store(name, name);
    }
    let stored: Vec<_> = receiver.files().into_keys().collect();
    assert_eq!(
        stored,
        ["agent.data", "collections/pack.zip", "conf/agent.conf", "md5/agent.md5"].map(String::from)
    );
    for name in ["agent.conf", "agent.md5", "pack.zip", "agent.data"] {
        assert_eq!(peer.fetch("MV", name), name.as_bytes());
    }
    assert_eq!(peer.list("x.conf"), [".", ".."]);
    peer.quit();
}

#[test]
fn a_connection_beyond_the_bound_waits_until_another_ends() {
    let receiver = Receiver::start(["-c", "1", "-t", "20"]);
    let mut first = receiver.connect();
    first.store("a.data", b"1");
    let mut second = receiver.connect();
    second.send("SEND <b.data> SIZE 1\n");
    receiver.wait_for_log("all connections are in use");
    second.expect_quiet(Duration::from_millis(100));
    first.quit();
    second.expect("SEND OK\n");
    second.send("2");
    second.expect("SEND OK\n");
    second.quit();
}

#[test]
fn a_list_of_100_000_names_does_not_stop_others() {
    let receiver = Receiver::start(["-I", "-t", "20"]);
    let names = 100_000;
    for number in 0..names {
        fs::write(receiver.spool().join(number.to_string()), b"").unwrap();
    }
    let until = Instant::now() + Duration::from_secs(2);
    let mut took = Vec::new();
    thread::scope(|scope| {
        let lister = scope.spawn(|| {
            let (mut peer, mut lists) = (receiver.connect(), 0);
            while Instant::now() < until {
                let list = peer.fetch("LS", "");
                assert!(list.iter().filter(|&&byte| byte == b'\n').count() >= names + 2);
                lists += 1;
            }
            lists
        });
        let mut peer = receiver.connect();
        while Instant::now() < until {
            let started = Instant::now();
            peer.store(&format!("s{}", took.len()), b"x");
            took.push(started.elapsed());
        }
        assert!(lister.join().unwrap() >= 2);
    });
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(250), "{median:?} of {}", took.len());
}

#[test]
fn log_lines_say_who_what_and_how_much() {
    let receiver = Receiver::start(["-I"]);
    let mut peer = receiver.connect();
    peer.store("a.data", b"12345");
    assert_eq!(peer.ask("RECV <a.md5>"), "RECV ERR (file does not exist)");
    assert_eq!(peer.ask("SEND <a/b> SIZE 1"), "SEND ERR (invalid file name)");
    assert_eq!(peer.fetch("MV", "a.data"), b"12345");
    peer.quit();
    for (message, level, name) in [
        ("file stored", "INFO", "a.data"),
        ("no such file", "INFO", "a.md5"),
        ("refused", "WARN", "a/b"),
        ("file handed out", "INFO", "a.data"),
    ] {
        let line = receiver.wait_for_log(message);
        assert_eq!((&line["level"], &line["name"]), (&level.into(), &name.into()), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("127."), "{line}");
    }
    assert_eq!(receiver.wait_for_log("file stored")["bytes"], 5);
    assert!(receiver.wait_for_log("refused")["reason"].as_str().unwrap().contains('/'));
}

#[test]
fn what_a_peer_sends_cannot_forge_a_log_line() {
    let receiver = Receiver::start::<&str>([]);
    let mut peer = receiver.connect();
    peer.ask(b"RECV <a\r{\"level\":\"x\"}\x1b[31m\xff>");
    peer.quit();
    receiver.wait_for_log("connection closed");
    // Each is a JSON object.
    assert!(receiver.log().iter().all(|line| line["level"] != "x"));
}

fn pattern(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|index| (index / 1000) as u8 ^ seed).collect()
}
