//! A proxy that reads along: what it passes on, what its log says of it, and
//! what it closes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;
use tests::{
    Builder, Delivery, Key, Pki, Receiver, eventually, free_address, program_command, replay_all, run,
};

#[test]
fn every_recorded_session_passes_to_the_letter() {
    for options in [&[][..], &["--strict"]] {
        for delivery in [Delivery::AsRecorded, Delivery::ByteByByte, Delivery::OnePiece] {
            replay_all(delivery, |receiver| {
                let proxy = proxy(receiver).args(options).start();
                (proxy.address(), proxy)
            });
        }
    }
}

#[test]
fn files_far_ahead_of_their_answers_are_all_read_along() {
    let pki = Pki::empty();
    pki.self_signed("receiver", Key::P256, "receiver");
    let identity = pki.identity("receiver");
    for (to_receiver, of_receiver) in [(&[][..], &[][..]), (&["--upstream-tls"], &identity)] {
        for options in [&[][..], &["--strict"]] {
            for (count, size) in [(3, 100_000), (20, 20_000), (200, 1000)] {
                let receiver = Receiver::builder().args(["-I"]).args(of_receiver).start();
                let proxy = proxy(receiver.address()).args(to_receiver).args(options).start();
                let files: Vec<_> = (0..count).map(|at| (format!("{at}.data"), content(size + at))).collect();
                let mut peer = proxy.connect();
                let store = |(name, content): &(String, Vec<u8>)| {
                    [format!("SEND <{name}> SIZE {}\n", content.len()).as_bytes(), content].concat()
                };
                let mut sent: Vec<_> = files.iter().flat_map(store).collect();
                sent.extend(b"MV <0.data>\nMV OK\nQUIT\n");
                peer.send(sent);
                peer.expect("SEND OK\n".repeat(2 * count));
                peer.expect(format!("MV SIZE {size}\n"));
                peer.expect(&files[0].1);
                peer.expect_closed();
                drop(peer);
                let last = proxy.wait_for_log("session passed on");
                assert_eq!((&last["files"], &last["refused"]), (&(count + 1).into(), &0.into()), "{last}");
                assert!(receiver.files() == files[1..].iter().cloned().collect());
                proxy.process().signal(Signal::TERM);
                let sums = proxy.wait_for_log("all in all");
                assert_eq!((&sums["sessions"], &sums["files"]), (&1.into(), &(count + 1).into()), "{sums}");
                proxy.wait();
            }
        }
    }
}

#[test]
fn who_waits_for_answers_goes_on_when_none_can_come() {
    let server = TcpListener::bind((free_address(), 0)).unwrap();
    let proxy = proxy(server.local_addr().unwrap()).args(["-t", "60"]).start();
    let mut peer = proxy.connect();
    let sent = [b"SEND <a> SIZE 1000000\n", &content(1_000_000)[..]].concat();
    thread::scope(|scope| {
        scope.spawn(|| {
            peer.send(&sent);
            peer.finish_writing();
        });
        let (mut stream, _) = server.accept().unwrap();
        let mut came = vec![0; 32 * 1024];
        stream.read_exact(&mut came).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut came).unwrap();
        assert!(came == sent);
    });
    peer.expect_closed();
    proxy.wait_for_log("session passed on");
}

#[test]
fn a_strict_one_passes_nothing_that_may_not_be_a_command() {
    let server = TcpListener::bind((free_address(), 0)).unwrap();
    let strict = proxy(server.local_addr().unwrap()).args(["--strict"]).start();
    // Not whole; behind what is refused; and behind the end.
    let half = [b"SEND <\0\x01GET /".to_vec(), vec![b'a'; 6000]].concat();
    for (sent, passed, answer, says) in [
        (&half[..], "", "", None),
        (b"SEND <a> SIZE 5\nQUIT\n", "SEND <a> SIZE 5\nQUIT\n", "SEND ERR (no)\n", None),
        (b"SEND <a> SIZE 5\nGET /", "SEND <a> SIZE 5\n", "SEND ERR (no)\n", Some("an unknown command")),
        (b"QUIT\nGET / HTTP/1.1\r\n", "", "", Some("more behind QUIT")),
    ] {
        let mut peer = strict.connect();
        peer.send(sent);
        peer.finish_writing();
        let (mut stream, _) = server.accept().unwrap();
        let (mut came, mut line) = (Vec::new(), vec![0; passed.find('\n').map_or(0, |at| at + 1)]);
        stream.read_exact(&mut line).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        assert_eq!(stream.read_to_end(&mut came).is_err(), says.is_some());
        assert_eq!([line, came].concat().escape_ascii().to_string(), passed.escape_default().to_string());
        drop(stream);
        if let Some(says) = says {
            strict.wait_for_log(says);
        } else {
            peer.expect(answer);
            peer.expect_closed();
        }
    }
    let lax = proxy(server.local_addr().unwrap()).start();
    let mut peer = lax.connect();
    peer.send(b"QUIT\nGET / HTTP/1.1\r\n");
    peer.finish_writing();
    let mut came = String::new();
    server.accept().unwrap().0.read_to_string(&mut came).unwrap();
    assert_eq!(came, "QUIT\nGET / HTTP/1.1\r\n");
}

#[test]
fn a_line_may_be_longer_than_the_server_allows_by_default() {
    let receiver = Receiver::start(["--block-size", "65536"]);
    let proxy = proxy(receiver.address()).args(["--strict"]).start();
    let mut peer = proxy.connect();
    let name = "a".repeat(50_000);
    assert_eq!(peer.ask(format!("SEND <{name}> SIZE 5")), "SEND ERR (invalid file name)");
    peer.store("a", "hello");
    peer.quit();
    let last = proxy.wait_for_log("session passed on");
    assert_eq!((&last["files"], &last["refused"]), (&1.into(), &1.into()), "{last}");
}

#[test]
fn files_small_and_large_go_both_ways_whole() {
    let receiver = Receiver::start(["-I", "-m", "100000000", "-t", "10"]);
    let proxy = proxy(receiver.address()).args(["--strict", "-t", "10"]).start();
    for (name, size) in [("small", 100_000), ("middle", 5_000_000), ("large", 50_000_000)] {
        let content = content(size);
        let mut peer = proxy.connect();
        peer.store(name, &content);
        assert!(peer.fetch("RECV", name) == content, "{name} came back otherwise");
        assert!(peer.fetch("MV", name) == content, "{name} came back otherwise");
        peer.quit();
        eventually("the file has left", || receiver.files().is_empty());
        // The body ahead of its answer, and more behind it.
        let mut peer = proxy.connect();
        peer.send([format!("SEND <{name}> SIZE {size}\n").as_bytes(), &content, b"QUIT\n"].concat());
        peer.expect("SEND OK\nSEND OK\n");
        peer.expect_closed();
        assert!(receiver.files()[name] == content, "{name} is kept otherwise");
        std::fs::remove_file(receiver.spool().join(name)).unwrap();
    }
    // A session's last line comes once both ends have gone.
    eventually("six sessions have ended", || said(&proxy, "session passed on").len() == 6);
    let files = said(&proxy, "file passed on");
    let told: Vec<_> =
        files.iter().map(|line| (text(line, "verb"), line["bytes"].as_u64().unwrap())).collect();
    let expected = [100_000, 5_000_000, 50_000_000]
        .map(|size| ["SEND", "RECV", "MV", "SEND"].map(|verb| (verb.to_owned(), size)));
    assert_eq!(told, expected.concat());
    assert!(proxy.process().peak_memory() < 50 << 20, "{} bytes", proxy.process().peak_memory());
}

#[test]
fn the_log_tells_each_file_each_refusal_and_their_counts() {
    let receiver = Receiver::start(["-I", "-x", "secret"]);
    let proxy = proxy(receiver.address()).start();
    let mut peer = proxy.connect();
    assert_eq!(peer.ask(format!("PASS {DIGEST}")), "PASS OK");
    peer.store("a \x1b.data", b"hello");
    assert_eq!(peer.fetch("RECV", "a \x1b.data"), b"hello");
    assert_eq!(peer.ask("RECV <none.md5>"), "RECV ERR (file does not exist)");
    assert_eq!(peer.ask("SEND <a?b> SIZE 1"), "SEND ERR (invalid file name)");
    assert_eq!(peer.list(""), [".", "..", "a \x1b.data"]);
    peer.quit();

    let last = proxy.wait_for_log("session passed on");
    assert_eq!((&last["files"], &last["refused"]), (&2.into(), &1.into()), "{last}");
    let file = proxy.wait_for_log("file passed on");
    assert_eq!(text(&file, "level"), "INFO");
    assert_eq!((text(&file, "verb"), text(&file, "name")), ("SEND".into(), r"a \x1b.data".into()));
    assert_eq!(file["bytes"], 5);
    assert!(file["seconds"].as_f64().unwrap() < tests::PATIENCE.as_secs_f64(), "{file}");
    assert_eq!(text(&file, "upstream"), receiver.address().to_string());
    assert!(text(&file, "peer").starts_with("127."), "{file}");
    let refused = proxy.wait_for_log("refused by the server");
    assert_eq!((text(&refused, "level"), text(&refused, "name")), ("WARN".into(), "a?b".into()));
    assert_eq!(text(&refused, "reason"), "invalid file name");
    assert_eq!(text(&proxy.wait_for_log("no such file"), "level"), "INFO");
    assert_eq!(proxy.wait_for_log("list passed on")["bytes"], 14);
}

#[test]
fn a_wrong_password_is_told_and_no_digest_ever() {
    let receiver = Receiver::start(["-x", "secret"]);
    let proxy = proxy(receiver.address()).args(["-V"]).start();
    let wrong = "0123456789abcdef0123456789abcdef";
    // The last is no command: what stands there in its place is not told either.
    for (line, said) in [
        (format!("PASS {wrong}\n"), "password refused by the server"),
        (format!("PASS{DIGEST}\n"), "uninspected"),
    ] {
        let mut peer = proxy.connect();
        peer.send(line);
        peer.expect_closed();
        proxy.wait_for_log(said);
    }
    let mut peer = proxy.connect();
    peer.send(format!("PASS {DIGEST}\nQUIT\n"));
    peer.expect("PASS OK\n");
    peer.expect_closed();
    drop(peer);
    eventually("three sessions have ended", || said(&proxy, "session passed on").len() == 3);
    let log = proxy.process().lines().join("\n");
    assert!(!log.contains(wrong) && !log.contains(DIGEST), "{log}");
}

#[test]
fn what_is_not_tentacle_passes_unless_it_is_to_be_closed() {
    let request = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n";
    let lax = proxy(echo()).start();
    let mut peer = lax.connect();
    peer.send(request);
    peer.expect(request);
    // Much, too.
    let much = content(1_000_000);
    peer.send(&much);
    assert!(peer.body(much.len()) == much);
    peer.finish_writing();
    peer.expect_closed();
    lax.wait_for_log("session passed on");
    let told = said(&lax, "not plain Tentacle");
    assert_eq!(told.len(), 1);
    assert_eq!(text(&told[0], "level"), "INFO");

    let strict = proxy(echo()).args(["--strict"]).start();
    let mut peer = strict.connect();
    peer.send(request);
    peer.expect_closed();
    let told = strict.wait_for_log("not plain Tentacle");
    assert_eq!(text(&told, "level"), "WARN");
    assert!(text(&told, "message").contains("an unknown command"), "{told}");
    assert_eq!(said(&strict, "session").len(), 1);
}

#[test]
fn strict_goes_with_inspect_and_both_with_a_proxy() {
    let alone = Receiver::proxy_to(["192.0.2.1"]).args(["--strict"]).refused();
    assert!(alone.contains("--strict: it only goes with --inspect"), "{alone}");
    for option in ["--inspect", "--strict"] {
        let no_proxy = Receiver::builder().args([option]).refused();
        assert!(no_proxy.contains(option) && no_proxy.contains("tentacle_server with -b"), "{no_proxy}");
    }
}

#[test]
fn the_server_with_b_reads_along_too_as_its_file_says() {
    let receiver = Receiver::start([] as [&str; 0]);
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("tentacle_server.conf");
    std::fs::write(&conf, format!("proxy_ip {}\ninspect 1\nstrict 1\n", receiver.address())).unwrap();
    let proxy = Receiver::builder().args(["-F".as_ref(), conf.as_os_str()]).start();
    let mut peer = proxy.connect();
    peer.store("a.data", b"hello");
    peer.quit();
    proxy.wait_for_log("file passed on");
    std::fs::write(&conf, "strict 1\nproxy_ip 192.0.2.1\n").unwrap();
    let mut command = program_command("tentacle_server");
    command.arg("-F").arg(&conf);
    let ended = run(command);
    assert!(
        ended.stderr.contains("line 1: strict") && ended.stderr.contains("--inspect"),
        "{}",
        ended.stderr
    );
}

fn proxy(upstream: SocketAddr) -> Builder {
    Receiver::proxy_to([upstream]).args(["--inspect"])
}

/// The lines of its log whose message contains `message`.
fn said(proxy: &Receiver, message: &str) -> Vec<Value> {
    let lines = proxy.log().into_iter();
    lines.filter(|line| line["message"].as_str().is_some_and(|said| said.contains(message))).collect()
}

fn text(line: &Value, field: &str) -> String {
    line[field].as_str().unwrap_or_else(|| panic!("no {field} in {line}")).to_owned()
}

/// Sends back what comes, one connection after the other.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((free_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        }
    });
    address
}

/// Bytes with newlines and words of the protocol among them.
fn content(size: usize) -> Vec<u8> {
    b"SEND OK\nQUIT\nRECV <a>\n0123456789".iter().copied().cycle().take(size).collect()
}

/// That of the password `secret`.
const DIGEST: &str = "9e769017c85f064977fe6a658f207fa6";
