//! Names, sizes, bodies, garbage and silence.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tests::{Receiver, eventually, left_aside};

#[test]
fn a_name_that_could_leave_the_spool_is_refused_by_every_verb() {
    let receiver = Receiver::start(["-I"]);
    let mut peer = receiver.connect();
    let long = [b'n'; 256];
    let names = REFUSED_BYTES.iter().map(|&byte| vec![b'a', byte, b'b']).chain(
        [&b""[..], b".", b"..", b"a\0b", b"\0", &long, b".tentacle~lock", b".tentacle~1-1", b"a\rb\0"]
            .map(<[u8]>::to_vec),
    );
    for name in names {
        let shown = name.escape_ascii().to_string();
        let mut ask =
            |before: &str, after: &str| peer.ask([before.as_bytes(), &name, after.as_bytes()].concat());
        assert_eq!(ask("SEND <", "> SIZE 1"), "SEND ERR (invalid file name)", "{shown}");
        assert_eq!(ask("ZSEND <", "> SIZE 1"), "ZSEND ERR (invalid file name)", "{shown}");
        assert_eq!(ask("RECV <", ">"), "RECV ERR (file has an invalid file name)", "{shown}");
        assert_eq!(ask("ZRECV <", ">"), "ZRECV ERR (file has an invalid file name)", "{shown}");
        assert_eq!(ask("MV <", ">"), "MV ERR", "{shown}");
    }
    peer.store("a.data", b"x");
    peer.quit();
    assert_eq!(receiver.files().into_keys().collect::<Vec<_>>(), ["a.data"]);
}

#[test]
fn a_name_with_a_newline_is_no_command() {
    let receiver = Receiver::start(["-I"]);
    for command in ["SEND <a\nb> SIZE 1\n", "MV <a\nb>\n"] {
        let mut peer = receiver.connect();
        // The server may close before it has taken all of it.
        let _ = peer.try_send(command);
        peer.expect_closed();
    }
    assert!(receiver.files().is_empty());
    receiver.serves("a.data");
}

#[test]
fn the_longest_name_is_taken() {
    let receiver = Receiver::start(["-I"]);
    let name = "n".repeat(255);
    let mut peer = receiver.connect();
    peer.store(&name, b"x");
    assert_eq!(peer.fetch("MV", &name), b"x");
    peer.quit();
    assert!(receiver.files().is_empty());
}

#[test]
fn the_spools_own_names_are_out_of_reach_whatever_the_rules_for_names_are() {
    let receiver = Receiver::start(["-I", "-o", "--invalid-chars", "#"]);
    let mut peer = receiver.connect();
    assert_eq!(peer.ask("SEND <a#b> SIZE 1"), "SEND ERR (invalid file name)");
    for name in [".tentacle~lock", ".tentacle~x", "../x", "a/b", "..", "."] {
        assert_eq!(peer.ask(format!("SEND <{name}> SIZE 1")), "SEND ERR (invalid file name)", "{name}");
        assert_eq!(peer.ask(format!("RECV <{name}>")), "RECV ERR (file has an invalid file name)", "{name}");
        assert_eq!(peer.ask(format!("MV <{name}>")), "MV ERR", "{name}");
    }
    peer.store("a~b+c", b"x");
    assert_eq!(peer.list(""), [".", "..", "a~b+c"]);
    peer.quit();
    assert!(fs::metadata(receiver.spool().join(".tentacle~lock")).is_ok());
}

#[test]
fn a_folder_is_no_file() {
    let receiver = Receiver::start(["-I", "-o", "-i", "c$:conf"]);
    // So many entries that the folder itself is as big as a large file.
    fs::create_dir(receiver.spool().join("conf")).unwrap();
    for number in 0..2000 {
        fs::write(receiver.spool().join(format!("conf/{number:0200}")), b"").unwrap();
    }
    let mut peer = receiver.connect();
    assert!(peer.ask("RECV <conf>").starts_with("RECV ERR ("));
    assert!(peer.ask("ZRECV <conf>").starts_with("ZRECV ERR ("));
    assert_eq!(peer.ask("MV <conf>"), "MV ERR");
    assert_eq!(peer.ask("SEND <conf> SIZE 1"), "SEND OK");
    peer.send("x");
    assert!(peer.line().starts_with("SEND ERR ("));
    peer.quit();
    receiver.serves("a.data");
}

#[test]
fn what_is_neither_file_nor_folder_holds_nobody_up() {
    let receiver = Receiver::start(["-I"]);
    let pipe = receiver.spool().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for verb in ["RECV", "MV"] {
        let mut peer = receiver.connect();
        assert!(peer.ask(format!("{verb} <pipe>")).starts_with(&format!("{verb} ERR")));
        peer.quit();
    }
}

#[test]
fn a_size_that_cannot_be_is_refused() {
    let receiver = Receiver::start(["-m", "10"]);
    let mut peer = receiver.connect();
    for size in
        ["0", "00", "11", "18446744073709551615", "18446744073709551617", "99999999999999999999999999"]
    {
        for verb in ["SEND", "ZSEND"] {
            let answer = peer.ask(format!("{verb} <a> SIZE {size}"));
            assert_eq!(answer, format!("{verb} ERR (file is too big)"), "{size}");
        }
    }
    peer.store("a", b"0123456789");
    peer.quit();
    for size in ["", "x", "-1", "+1", "1.0", "0x1", "1 "] {
        let mut peer = receiver.connect();
        peer.send(format!("SEND <b> SIZE {size}\n"));
        peer.expect_closed();
    }
    assert_eq!(receiver.files().len(), 1);
    receiver.serves("c");
}

#[test]
fn a_body_that_is_cut_short_leaves_nothing() {
    let receiver = Receiver::start(["-I", "-m", "10MB"]);
    let mut watcher = receiver.connect();
    for (verb, size, sent) in [("SEND", 10, 3), ("SEND", 5_000_000, 3_000_000), ("ZSEND", 5000, 30)] {
        for reset in [false, true] {
            let mut peer = receiver.connect();
            assert_eq!(peer.ask(format!("{verb} <a.data> SIZE {size}")), format!("{verb} OK"));
            peer.send(vec![b'x'; sent]);
            if reset {
                peer.reset();
            } else {
                peer.finish_writing();
                peer.expect_closed();
            }
            eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
            assert!(receiver.files().is_empty());
            assert_eq!(watcher.list(""), [".", ".."]);
        }
    }
    receiver.serves("a.data");
}

#[test]
fn a_command_of_9_kb_closes_the_connection() {
    let receiver = Receiver::start(["-I"]);
    for command in [vec![b'S'; 9000], [b"SEND <", &[b'a'; 9000][..], b"> SIZE 1\n"].concat()] {
        let mut peer = receiver.connect();
        let _ = peer.try_send(command);
        peer.expect_closed();
    }
    let mut peer = receiver.connect();
    assert_eq!(peer.ask([b"MV <", &[b'a'; 8000][..], b">"].concat()), "MV ERR");
    peer.quit();
    receiver.wait_for_log("a line of more than 8192 bytes");
}

#[test]
fn garbage_closes_the_connection() {
    let receiver = Receiver::start::<&str>([]);
    let every_byte: Vec<u8> = (0..=255).rev().collect();
    let tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for garbage in
        [&b"\n"[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0\0\0\0\n", tls, &every_byte, b"SEND\n"]
    {
        let mut peer = receiver.connect();
        let _ = peer.try_send(garbage);
        peer.finish_writing();
        peer.expect_closed();
    }
    assert!(receiver.files().is_empty());
    receiver.serves("a.data");
}

#[test]
fn a_client_that_says_nothing_is_closed_in_time() {
    let receiver = Receiver::start(["-t", "1", "-r", "1"]);
    let started = Instant::now();
    let mut silent_at_first = receiver.connect();
    let mut silent_in_body = receiver.connect();
    assert_eq!(silent_in_body.ask("SEND <a> SIZE 10"), "SEND OK");
    silent_in_body.send("abc");
    silent_at_first.expect_closed();
    assert!(started.elapsed() >= Duration::from_millis(1900), "{:?}", started.elapsed());
    silent_in_body.expect_closed();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    receiver.wait_for_log("no command within 2 s");
    receiver.wait_for_log("no more of the body within 2 s");
    assert!(receiver.files().is_empty());
    receiver.serves("b");
}

#[test]
fn a_client_that_sends_a_byte_now_and_then_is_closed_all_the_same() {
    let receiver = Receiver::start(["-t", "1", "-r", "1"]);
    let (started, mut peer) = (Instant::now(), receiver.connect());
    for byte in b"SEND <aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        if peer.try_send([*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(250));
    }
    peer.expect_closed();
    let took = started.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

#[test]
fn a_reader_that_takes_nothing_is_closed_in_time() {
    let receiver = Receiver::start(["-I", "-t", "1", "-r", "0"]);
    fs::write(receiver.spool().join("big"), vec![0; 30_000_000]).unwrap();
    let mut peer = tests::Peer::connect_with_little_room(receiver.address());
    peer.announced("MV", "big");
    peer.send("MV OK\n");
    receiver.wait_for_log("no reader for what is written within 1 s");
    let mut other = receiver.connect();
    assert_eq!(other.announced("MV", "big"), 30_000_000);
}

/// `docs/protocol.md`, "Names".
const REFUSED_BYTES: &[u8] = b"?[]/\\=+<>:;',*~";
