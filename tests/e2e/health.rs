//! The HTTP endpoint: what `/readyz` says turns red and green again for real
//! reasons, and nobody who connects to it holds it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::{Builder, Ended, Key, PATIENCE, Pki, Process, Receiver, eventually, program_command, run};

/// The endpoint of a process, which its log names.
fn endpoint(process: &Process) -> SocketAddr {
    let line = process.wait_for_line("where HTTP is answered", |line| line.contains("answering HTTP"));
    let line: Value = serde_json::from_str(&line).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

/// What comes back for these bytes until the connection ends.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Where it is refused before it has gone out, the answer still says so.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status and body.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = exchange(address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Waits until it is ready.
#[track_caller]
fn turns_green(address: SocketAddr) {
    eventually("it is ready", || get(address, "/readyz") == (200, "ok\n".to_owned()));
    let (status, body) = get(address, "/readyz?verbose");
    assert_eq!(status, 200, "{body}");
    assert!(body.ends_with("readyz check passed\n") && !body.contains("[-]"), "{body}");
}

/// Waits until this check alone fails; the reason.
#[track_caller]
fn turns_red(address: SocketAddr, check: &str) -> String {
    eventually(check, || get(address, "/readyz").0 == 503);
    assert_eq!(get(address, "/readyz"), (503, format!("failed: {check}\n")));
    assert_eq!(get(address, "/livez"), (200, "ok\n".to_owned()));
    let (status, body) = get(address, "/readyz?verbose");
    assert_eq!(status, 503);
    assert!(body.ends_with("readyz check failed\n"), "{body}");
    let begin = format!("[-]{check} failed: ");
    let reason = body.lines().find_map(|line| line.strip_prefix(&begin));
    reason.unwrap_or_else(|| panic!("{body}")).to_owned()
}

fn with_endpoint(builder: Builder) -> (Receiver, SocketAddr) {
    let receiver = builder.args(["--http-addr", "127.0.0.1:0"]).start();
    let address = endpoint(receiver.process());
    (receiver, address)
}

fn puller(arguments: &[&str], incoming: Option<&TempDir>) -> (Process, SocketAddr) {
    let mut command = program_command("tentacle-sync-puller");
    command.args(["--http-addr", "127.0.0.1:0", "--interval", "1"]).args(arguments);
    if let Some(incoming) = incoming {
        command.arg("--incoming-dir").arg(incoming.path());
    }
    let process = Process::spawn(command);
    let address = endpoint(&process);
    (process, address)
}

#[test]
fn every_check_is_named() {
    let pki = Pki::empty();
    pki.self_signed("web", Key::P256, "web");
    let (receiver, http) = with_endpoint(Receiver::builder().args(["-I"]).args(pki.identity("web")));
    turns_green(http);
    let said = "[+]listening ok\n[+]spool ok\n[+]certificates ok\n[+]draining ok\nreadyz check passed\n";
    assert_eq!(get(http, "/readyz?verbose"), (200, said.to_owned()));

    let tls = ["--upstream-tls"];
    let (_proxy, http) = with_endpoint(Receiver::proxy_to([receiver.address()]).args(tls));
    turns_green(http);
    let said = "[+]listening ok\n[+]upstream ok\n[+]certificates ok\n[+]draining ok\nreadyz check passed\n";
    assert_eq!(get(http, "/readyz?verbose=1"), (200, said.to_owned()));

    let (incoming, source) = (TempDir::new().unwrap(), receiver.address().to_string());
    let (_puller, http) = puller(&["--sync-address", &source, "--sync-tls"], Some(&incoming));
    turns_green(http);
    let said = "[+]destination ok\n[+]certificates ok\n[+]draining ok\nreadyz check passed\n";
    assert_eq!(get(http, "/readyz?verbose"), (200, said.to_owned()));
}

#[test]
fn it_can_be_asked_for_by_a_variable_and_by_a_token() {
    let receiver = Receiver::builder().env("TENTACLE_HTTP_ADDR", "127.0.0.1:0").start();
    turns_green(endpoint(receiver.process()));
    let conf = TempDir::new().unwrap().keep().join("tentacle_server.conf");
    fs::write(&conf, "http_addr 127.0.0.1:0\nreserve_space 1000\n").unwrap();
    let receiver = Receiver::builder().args(["-F".as_ref(), conf.as_os_str()]).start();
    turns_green(endpoint(receiver.process()));
    // The documented name, as a proxy.
    let receiver = receiver.address().to_string();
    let (_proxy, http) = with_endpoint(Receiver::proxy_to([receiver]).program("tentacle_server"));
    turns_green(http);
    fs::remove_dir_all(conf.parent().unwrap()).unwrap();

    let without = Receiver::start::<&str>([]);
    assert!(!without.log().iter().any(|line| line["message"].as_str().unwrap().contains("HTTP")));
}

#[test]
fn a_spool_that_is_gone_turns_it_red_until_it_is_back() {
    let (receiver, http) = with_endpoint(Receiver::builder());
    turns_green(http);
    fs::remove_dir_all(receiver.spool()).unwrap();
    let why = turns_red(http, "spool");
    assert!(why.starts_with("No such file"), "{why}");
    assert_eq!(receiver.wait_for_log("not ready: No such file")["check"], "spool");
    fs::create_dir(receiver.spool()).unwrap();
    turns_green(http);
    assert!(fs::read_dir(receiver.spool()).unwrap().next().is_none(), "nothing is left of the probes");
}

#[test]
fn a_spool_that_becomes_read_only_turns_it_red() {
    let (receiver, http) = with_endpoint(Receiver::builder().on_tmpfs("size=1m"));
    turns_green(http);
    let process = receiver.process().id().to_string();
    let mounted = fs::read_to_string(format!("/proc/{process}/mounts")).unwrap();
    let mount = mounted.lines().find(|line| line.starts_with("tentacle ")).unwrap();
    let spool = mount.split(' ').nth(1).unwrap();
    let inside = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &process, "-U", "-m", "--preserve-credentials"]).args(words).arg(spool);
        let Ended { status, stderr, .. } = run(command);
        assert!(status.success(), "{stderr}");
    };
    inside(&["mount", "-t", "tmpfs", "-o", "ro", "tentacle"]);
    let why = turns_red(http, "spool");
    assert!(why.starts_with("Read-only file system"), "{why}");
    inside(&["umount"]);
    turns_green(http);
    receiver.serves("a.data");
}

#[test]
fn below_its_reserve_of_room_it_is_red_and_refuses_files_that_readers_can_still_take() {
    let (receiver, http) = with_endpoint(Receiver::builder().args(["-I"]).on_tmpfs("size=10m"));
    turns_green(http);
    let mut peer = receiver.connect();
    peer.store("first.data", b"kept");
    // One per cent of 10 MiB is more than what this leaves.
    let filler = receiver.spool().join("filler");
    fs::write(&filler, vec![0; (10 << 20) - (60 << 10)]).unwrap();
    let why = turns_red(http, "spool");
    assert!(why.ends_with("bytes are free, of which 104857 stay free (--reserve-space)"), "{why}");
    for verb in ["SEND", "ZSEND"] {
        let answer = peer.ask(format!("{verb} <a.data> SIZE 10"));
        assert_eq!(answer, format!("{verb} ERR (no space left on the server)"));
    }
    assert!(receiver.wait_for_log("refused")["reason"].as_str().unwrap().contains("--reserve-space"));
    assert_eq!(peer.fetch("MV", "first.data"), b"kept");
    fs::remove_file(filler).unwrap();
    turns_green(http);
    peer.store("a.data", b"hello");
    peer.quit();
    assert_eq!(receiver.files().into_keys().collect::<Vec<_>>(), ["a.data"]);
}

#[test]
fn a_file_that_would_take_the_reserve_is_refused_before_it_comes() {
    let reserve = ["-m", "100MB", "--reserve-space", "8MiB"];
    let receiver = Receiver::builder().args(reserve).on_tmpfs("size=10m").start();
    let mut peer = receiver.connect();
    assert_eq!(peer.ask("SEND <big.data> SIZE 4000000"), "SEND ERR (no space left on the server)");
    peer.store("small.data", [b'x'; 10_000]);
    // Two that are under way count together.
    let mut other = receiver.connect();
    assert_eq!(peer.ask("SEND <1.data> SIZE 1200000"), "SEND OK");
    assert_eq!(other.ask("SEND <2.data> SIZE 1200000"), "SEND ERR (no space left on the server)");
    peer.send(vec![b'x'; 1_200_000]);
    assert_eq!(peer.line(), "SEND OK");
}

#[test]
fn a_certificate_that_cannot_be_used_turns_it_red() {
    let pki = Pki::empty();
    pki.self_signed("web", Key::P256, "web");
    pki.self_signed("ca", Key::P256, "ca");
    pki.dated("old", "old", "ca", (2020, 2021));
    let (receiver, http) = with_endpoint(Receiver::builder().args(pki.identity("web")));
    turns_green(http);
    let good = fs::read(pki.certificate("web")).unwrap();
    fs::write(pki.certificate("web"), "no certificate\n").unwrap();
    let why = turns_red(http, "certificates");
    assert!(why.contains("web.pem") && why.ends_with("(the one before is in use)"), "{why}");
    fs::write(pki.certificate("web"), good).unwrap();
    turns_green(http);
    for (from, to) in [(pki.certificate("old"), pki.certificate("web")), (pki.key("old"), pki.key("web"))] {
        fs::copy(from, to).unwrap();
    }
    eventually("it is red", || get(http, "/readyz").0 == 503);
    eventually("it has expired", || turns_red(http, "certificates").contains("web.pem: expired on 2021"));
    drop(receiver);
}

#[test]
fn a_proxy_is_red_while_none_of_its_servers_can_be_reached() {
    let first = Receiver::start::<&str>([]);
    let (address, spool) = (first.address(), TempDir::new().unwrap());
    let (proxy, http) = with_endpoint(Receiver::proxy_to([address]));
    turns_green(http);
    assert!(first.stop().success());
    // Nobody uses it meanwhile.
    let why = turns_red(http, "upstream");
    assert!(why.contains(&address.to_string()) && why.contains("Connection refused"), "{why}");
    let _second = Receiver::builder().spool(spool.path()).at(address).start();
    turns_green(http);
    let mut peer = proxy.connect();
    peer.store("a.data", b"hello");
    peer.quit();
}

#[test]
fn a_proxy_is_green_while_one_of_its_servers_can_be_reached_and_says_nothing_to_it() {
    let receiver = Receiver::start(["--accept-proxy", "--allow", "127.0.0.0/8"]);
    let upstreams = [tests::free_port_of([127, 0, 0, 1].into()), receiver.address()];
    let (_proxy, http) = with_endpoint(Receiver::proxy_to(upstreams).args(["--send-proxy"]));
    turns_green(http);
    receiver.wait_for_log("connection closed");
    let log = receiver.log();
    assert!(log.iter().all(|line| line["level"] == "INFO"), "{log:?}");
}

#[test]
fn a_wrong_password_to_the_servers_turns_a_proxy_red() {
    let receiver = Receiver::start(["-x", "right"]);
    let wrong = ["--upstream-password", "wrong"];
    let (_proxy, http) = with_endpoint(Receiver::proxy_to([receiver.address()]).args(wrong));
    let why = loop {
        let why = turns_red(http, "upstream");
        if why != "not known yet" {
            break why;
        }
    };
    assert!(why.contains("refuses the password") && !why.contains("wrong"), "{why}");
}

#[test]
fn a_puller_is_red_while_its_folder_takes_nothing_and_green_while_a_source_is_dead() {
    let incoming = TempDir::new().unwrap();
    let (_puller, http) = puller(&["--sync-address", "127.0.0.1:1"], Some(&incoming));
    turns_green(http);
    let moved = incoming.path().with_extension("moved");
    fs::rename(incoming.path(), &moved).unwrap();
    let why = turns_red(http, "destination");
    assert!(why.starts_with("the incoming folder: No such file"), "{why}");
    fs::rename(&moved, incoming.path()).unwrap();
    turns_green(http);
}

#[test]
fn a_puller_is_red_while_its_central_server_cannot_be_reached() {
    let (source, central) = (Receiver::start(["-I"]), Receiver::start::<&str>([]));
    let (source, address) = (source.address().to_string(), central.address());
    let arguments = ["--sync-address", &source, "--forward-to", &address.to_string()];
    let (_puller, http) = puller(&arguments, None);
    turns_green(http);
    assert!(central.stop().success());
    let why = turns_red(http, "destination");
    assert!(why.starts_with("the central server: ") && why.contains("refused"), "{why}");
    let spool = TempDir::new().unwrap();
    let _central = Receiver::builder().spool(spool.path()).at(address).start();
    turns_green(http);
}

#[test]
fn a_drain_turns_it_red_at_once_and_it_answers_until_the_last_transfer_has_ended() {
    let (receiver, http) = with_endpoint(Receiver::builder());
    turns_green(http);
    let mut peer = receiver.connect();
    assert_eq!(peer.ask("SEND <a.data> SIZE 5"), "SEND OK");
    receiver.process().signal(Signal::TERM);
    eventually("it is red", || get(http, "/readyz").0 == 503);
    eventually("the sockets are closed", || {
        get(http, "/readyz") == (503, "failed: listening, draining\n".to_owned())
    });
    let said = get(http, "/readyz?verbose").1;
    assert!(said.contains("[-]draining failed: the service is ending\n"), "{said}");
    assert_eq!(get(http, "/livez").0, 200);
    peer.send(b"hello");
    assert_eq!(peer.line(), "SEND OK");
    drop(peer);
    assert!(receiver.wait().success());
    assert!(TcpStream::connect(http).is_err());
}

#[test]
fn it_answers_two_paths_by_two_methods() {
    let (_receiver, http) = with_endpoint(Receiver::builder());
    turns_green(http);
    for path in ["/", "/readyz/", "/livez2", "/metricsz", "//livez", "/../livez"] {
        assert_eq!(get(http, path).0, 404, "{path}");
    }
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        let answer = exchange(http, format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let body = format!("{method} /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        let answer = exchange(http, body.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
}

#[test]
fn garbage_and_endless_headers_are_closed_on() {
    let (receiver, http) = with_endpoint(Receiver::builder());
    let noise: Vec<u8> =
        (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let endless = format!("GET /livez HTTP/1.1\r\n{}", "A: b\r\n".repeat(100_000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for garbage in
        [&noise[..], endless.as_bytes(), long.as_bytes(), b"\x16\x03\x01\x02\0\x01\0", b"SEND <a> SIZE 1\n"]
    {
        let answer = exchange(http, garbage);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(get(http, "/livez").0, 200);
    }
    receiver.serves("a.data");
}

#[test]
fn who_says_nothing_is_closed_on_and_who_is_slow_too() {
    let (_receiver, http) = with_endpoint(Receiver::builder());
    let began = Instant::now();
    assert_eq!(exchange(http, b""), "");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // One byte at a time does not win more.
    let mut slow = TcpStream::connect(http).unwrap();
    let began = Instant::now();
    eventually("the slow one is closed on", || {
        std::thread::sleep(Duration::from_millis(100));
        slow.write_all(b"A").is_err()
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn hundreds_who_hold_connections_keep_nobody_out() {
    let (receiver, http) = with_endpoint(Receiver::builder());
    turns_green(http);
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(http).unwrap());
        held.last_mut().unwrap().write_all(b"GET /readyz HTTP/1.1\r\n").unwrap();
    }
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(http, "/readyz"), (200, "ok\n".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let descriptors = fs::read_dir(format!("/proc/{}/fd", receiver.process().id())).unwrap().count();
    assert!(descriptors < 64 + 40, "{descriptors}");
    receiver.serves("a.data");
}

#[test]
fn an_address_that_is_taken_ends_the_start_of_each() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = format!("--http-addr: {address}: cannot be listened on: ");
    let http = ["--http-addr", &address];
    for builder in [Receiver::builder(), Receiver::proxy_to(["127.0.0.1:1"])] {
        let line = builder.args(http).refused();
        assert!(line.contains(&said) && line.contains("another process listens there"), "{line}");
    }
    let incoming = TempDir::new().unwrap();
    for (value, said) in [(&*address, &*said), ("8080", "such as 0.0.0.0:8080")] {
        let mut command = program_command("tentacle-sync-puller");
        command.args(["--sync-address", "127.0.0.1:1", "--http-addr", value, "--incoming-dir"]);
        command.arg(incoming.path());
        let Ended { status, stderr, .. } = run(command);
        assert_eq!(status.code(), Some(1));
        assert!(stderr.lines().last().unwrap().contains(said), "{stderr}");
    }
}
