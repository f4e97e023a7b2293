//! Clients' addresses behind proxies, by the header of the PROXY protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{Builder, Ended, Peer, Receiver, certificates, eventually, free_address, program_command, run};

/// Proxies connect from there.
const ALLOW: [&str; 3] = ["--accept-proxy", "--allow", "127.0.0.1/32"];

fn receiver(more: &[String]) -> Receiver {
    Receiver::builder().args(ALLOW).args(more).start()
}

fn tls() -> Vec<String> {
    certificates().identity("server-v1-p256").to_vec()
}

fn proxy(to: &Receiver, more: &[&str]) -> Receiver {
    let to = to.address().ip().to_string();
    Receiver::builder().program("tentacle-proxy").args(["-b", &to]).args(more).start()
}

/// A file goes to `server` from an agent's address.
fn send(server: &Receiver, agent: Ipv4Addr, name: &str, more: &[&str]) -> Ended {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), "hello").unwrap();
    let mut client = program_command("tentacle_client");
    client.args(["-a", &server.address().ip().to_string(), "-b", &agent.to_string()]);
    client.args(more).arg(folder.path().join(name));
    run(client)
}

/// The same, and it arrives at `receiver`.
#[track_caller]
fn arrives(front: &Receiver, receiver: &Receiver, agent: Ipv4Addr, name: &str, more: &[&str]) {
    let ended = send(front, agent, name, more);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(receiver.files()[name], b"hello");
}

/// Waits for a line of the log about that client.
#[track_caller]
fn logs_of(server: &Receiver, client: Ipv4Addr, text: &str) {
    let peer = format!(r#""peer":"{client}:"#);
    server.process().wait_for_line(text, |line| line.contains(text) && line.contains(&peer));
}

fn header(command: u8, client: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = client.octets();
    let head = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, b'Q', b'U', b'I', b'T', 0x0a, command, 0x11, 0, 12];
    [&head[..], &[a, b, c, d, 127, 0, 0, 1, 0x12, 0x34, 0xa0, 0xa1]].concat()
}

#[test]
fn a_receiver_behind_a_proxy_knows_the_agents_addresses() {
    for (more, options) in [(Vec::new(), &[][..]), (tls(), &["-c"])] {
        let receiver = receiver(&more);
        let front = proxy(&receiver, &["--send-proxy"]);
        let agent = free_address();
        arrives(&front, &receiver, agent, "a.data", options);
        logs_of(&front, agent, "session passed on");
        logs_of(&receiver, agent, "connection is a client's behind a proxy");
        logs_of(&receiver, agent, "file stored");
        logs_of(&receiver, agent, "connection closed: quit");
    }
}

#[test]
fn two_proxies_in_a_row_keep_the_agents_address() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("proxy.conf");
    let receiver = receiver(&[]);
    let tokens = "accept_proxy 1\nsend_proxy 1\nallow 127.0.0.1";
    fs::write(&file, format!("proxy_ip {}\n{tokens}\n", receiver.address().ip())).unwrap();
    // As the older program is called.
    let inner = Receiver::builder().args(["-F"]).args([&file]).start();
    let outer = proxy(&inner, &["--send-proxy"]);
    let agent = free_address();
    arrives(&outer, &receiver, agent, "a.data", &[]);
    for proxy in [&outer, &inner] {
        logs_of(proxy, agent, "session passed on");
    }
    logs_of(&receiver, agent, "file stored");
}

#[test]
fn what_does_not_begin_with_a_header_is_closed_and_the_service_goes_on() {
    let deadline = ["-t".to_owned(), "1".to_owned(), "-r".to_owned(), "0".to_owned()];
    let plain = receiver(&deadline);
    let encrypted = receiver(&[&tls()[..], &deadline].concat());
    let between = proxy(&plain, &[&ALLOW[..], &["--send-proxy", "-t", "1", "-r", "0"]].concat());
    for (server, receiver, options) in
        [(&plain, &plain, &[][..]), (&encrypted, &encrypted, &["-c"]), (&between, &plain, &[])]
    {
        let whole = header(0x21, Ipv4Addr::new(192, 0, 2, 1));
        let closes = |begin: &[u8], why: &str| {
            let mut peer = server.connect();
            peer.send(begin);
            peer.finish_writing();
            peer.expect_closed();
            server.wait_for_log(why);
        };
        for length in [0, 1, 15, whole.len() - 1] {
            closes(&whole[..length], "it ended before its PROXY header did");
        }
        closes(
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 41121\r\n",
            "of version 1 (the proxy must send version 2)",
        );
        for garbage in [&b"SEND <a.data> SIZE 1\n"[..], b"\x16\x03\x01\x00\xc8"] {
            closes(garbage, "does not begin with a PROXY header");
        }
        closes(&[&whole[..13], b"\x41\0\x0c", &whole[16..]].concat(), "PROXY header is malformed");
        closes(&[&whole[..14], b"\0\x0b", &whole[16..]].concat(), "PROXY header is malformed");
        closes(&[&whole[..14], b"\xff\xff", &whole[16..]].concat(), "PROXY header is of 65551 bytes");
        for begin in [&whole[..0], &whole[..20]] {
            let mut peer = server.connect();
            peer.send(begin);
            peer.expect_closed();
        }
        server.wait_for_log("no whole PROXY header within 1 s");
        // Who is no proxy cannot say that it is one.
        let stranger = free_address();
        assert_eq!(send(server, stranger, "a.data", options).status.code(), Some(1));
        logs_of(server, stranger, "in no network that --allow names");
        // Four cut, one of version 1, two without, three malformed, two late,
        // and the stranger: a line each.
        let closed = |line: &serde_json::Value| line["message"].to_string().contains("connection closed: ");
        eventually("13 closed", || server.log().iter().filter(|line| closed(line)).count() == 13);
        let front = proxy(server, &["--send-proxy"]);
        arrives(&front, receiver, free_address(), "a.data", options);
        fs::remove_file(receiver.spool().join("a.data")).unwrap();
    }
}

#[test]
fn half_finished_headers_keep_nobody_out() {
    let server = receiver(&[&tls()[..], &["-t".to_owned(), "60".to_owned()]].concat());
    let half_finished: Vec<_> = (0..600)
        .map(|_| {
            let mut peer = server.connect();
            peer.send(&header(0x21, Ipv4Addr::new(192, 0, 2, 1))[..20]);
            peer
        })
        .collect();
    let front = proxy(&server, &["--send-proxy"]);
    arrives(&front, &server, free_address(), "a.data", &["-c"]);
    server.wait_for_log("made room for a newer one");
    drop(half_finished);
}

#[test]
fn a_proxys_own_connections_have_its_address() {
    let server = receiver(&[]);
    let mut peer = server.connect();
    peer.send(header(0x20, Ipv4Addr::new(192, 0, 2, 1)));
    peer.store("a.data", b"hello");
    peer.quit();
    logs_of(&server, Ipv4Addr::LOCALHOST, "file stored");
}

#[test]
fn hosts_allow_and_wrong_passwords_are_about_the_client() {
    let folder = TempDir::new().unwrap();
    let (allow, deny) = (folder.path().join("allow"), folder.path().join("deny"));
    let agent = free_address();
    fs::write(&allow, format!("ALL: {agent}\n")).unwrap();
    fs::write(&deny, "ALL: ALL\n").unwrap();
    let files = |server: Builder| {
        server.args(["-T", "--hosts-allow"]).args([&allow]).args(["--hosts-deny"]).args([&deny])
    };
    let server = files(Receiver::builder().args(ALLOW)).start();
    let front = proxy(&server, &["--send-proxy"]);
    arrives(&front, &server, agent, "a.data", &[]);
    let other = free_address();
    assert_eq!(send(&front, other, "b.data", &[]).status.code(), Some(1));
    logs_of(&server, other, "hosts.allow and hosts.deny do not let it in");
    // At a proxy too.
    let to = server.address().ip().to_string();
    let between = Receiver::builder().program("tentacle-proxy").args(ALLOW).args(["-b", &to]);
    let between = files(between.args(["--send-proxy"])).start();
    let outer = proxy(&between, &["--send-proxy"]);
    arrives(&outer, &server, agent, "c.data", &[]);
    assert_eq!(send(&outer, other, "d.data", &[]).status.code(), Some(1));
    logs_of(&between, other, "hosts.allow and hosts.deny do not let it in");

    let server = receiver(&["-x".to_owned(), "right".to_owned()]);
    let tries = |client: Ipv4Addr, password: &str| {
        let began = Instant::now();
        let mut peer = Peer::connect(server.address());
        peer.send([&header(0x21, client)[..], password.as_bytes()].concat());
        (peer, began)
    };
    let wrong = format!("PASS {}\n", "0".repeat(32));
    let delays: Vec<_> = (0..7)
        .map(|_| {
            let (mut peer, began) = tries(agent, &wrong);
            peer.expect_closed();
            began.elapsed()
        })
        .collect();
    assert!(delays[6] >= Duration::from_secs(1), "{delays:?}");
    let (mut peer, began) = tries(other, &wrong);
    peer.expect_closed();
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn options_that_would_believe_anybody_are_refused() {
    for program in ["tentacle-receiver", "tentacle-proxy"] {
        let more = if program == "tentacle-proxy" { &["-b", "127.0.0.1"][..] } else { &[] };
        let said = Receiver::builder().program(program).args(more).args(["--accept-proxy"]).refused();
        assert!(
            said.contains("--accept-proxy: ") && said.contains("name the proxies: --allow CIDR"),
            "{said}"
        );
    }
    let said = Receiver::builder().args(["--send-proxy"]).refused();
    assert!(said.contains("--send-proxy: this program keeps files and passes nothing on"), "{said}");
}

#[test]
fn a_service_ends_while_headers_are_waited_for() {
    let server = receiver(&["-t".to_owned(), "60".to_owned()]);
    let mut peer = server.connect();
    peer.send(&header(0x21, Ipv4Addr::new(192, 0, 2, 1))[..20]);
    server.wait_for_log("connection accepted");
    server.process().signal(Signal::TERM);
    peer.expect_closed();
    assert!(server.wait().success());
}
