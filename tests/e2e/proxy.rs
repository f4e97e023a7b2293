//! What a proxy passes on, and what it does when it cannot.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Resource, Rlimit, Signal, getrlimit, setrlimit},
    thread::sched_yield,
};
use socket2::SockRef;
use tests::{
    Delivery, Peer, Receiver, eventually, files_below, free_address, free_port_of, program_command,
    replay_all, run,
};

/// A receiver that agents and a puller may use.
fn buffer() -> Receiver {
    Receiver::start(["-I", "-o", "-m", "100000000"])
}

fn proxy(upstream: SocketAddr) -> Receiver {
    Receiver::proxy_to([upstream]).start()
}

/// Content that differs from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect()
}

#[track_caller]
fn sends_and_fetches(server: &Receiver, name: &str, content: &[u8]) {
    let mut peer = server.connect();
    peer.store(name, content);
    assert!(peer.fetch("RECV", name) == content, "{name}");
    peer.quit();
}

#[test]
fn every_recorded_session_is_the_same_through_a_proxy() {
    for delivery in [Delivery::AsRecorded, Delivery::ByteByByte, Delivery::OnePiece] {
        replay_all(delivery, |receiver| {
            let proxy = proxy(receiver);
            (proxy.address(), proxy)
        });
    }
}

#[test]
fn files_of_all_sizes_go_both_ways() {
    let receiver = buffer();
    for proxy in [
        proxy(receiver.address()),
        Receiver::proxy_to([receiver.address()]).program("tentacle_server").start(),
    ] {
        for size in [1, 16 * 1024 - 40, 16 * 1024, 16 * 1024 + 1, 300_000, 20_000_000] {
            sends_and_fetches(&proxy, "a.data", &content(size));
        }
        let line = proxy.wait_for_log("session passed on");
        assert_eq!(line["upstream"], receiver.address().to_string());
        assert!(line["sent"].as_u64() > Some(1) && line["received"].as_u64() > Some(1), "{line}");
    }
}

#[test]
fn the_documented_server_is_a_proxy_when_its_file_says_so() {
    let receiver = buffer();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tentacle_server.conf");
    let (to, own) = (receiver.address(), free_address());
    fs::write(
        &file,
        format!(
            "addresses {own}\nport 41121\nproxy_ip {}\nproxy_port {}\nmax_connections 5\n",
            to.ip(),
            to.port()
        ),
    )
    .unwrap();
    // With -s, as the peers want one; it is not used.
    let proxy = Receiver::builder().address(own.into()).args(["-F"]).args([&file]).start();
    proxy.wait_for_log("a proxy keeps no files");
    sends_and_fetches(&proxy, "a.data", b"hello");
    assert!(proxy.files().is_empty());
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_slow_reader_holds_up_nobody_and_gets_everything() {
    let receiver = buffer();
    let proxy = proxy(receiver.address());
    let content = content(20_000_000);
    receiver.connect().store("a.data", &content);
    let mut slow = Peer::connect_with_little_room(proxy.address());
    let size = slow.announced("RECV", "a.data");
    slow.send("RECV OK\n");
    let first = slow.body(1000);
    thread::sleep(Duration::from_millis(300));
    sends_and_fetches(&proxy, "b.data", b"meanwhile");
    assert!([first, slow.body(size - 1000)].concat() == content);
    assert!(proxy.process().peak_memory() < 40_000_000);
}

#[test]
fn each_direction_ends_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = proxy(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"the client's last words").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "the client's last words");
    server.write_all(b"an answer").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "an answer");
    proxy.wait_for_log("session passed on");
}

#[test]
fn a_side_that_is_reset_or_silent_ends_both() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Receiver::proxy_to([listener.local_addr().unwrap()]).args(["-t", "1", "-r", "0"]).start();
    let pair = || {
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        (client, server)
    };
    let reset = |stream: TcpStream| SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    let (client, mut server) = pair();
    reset(client);
    assert!(server.read(&mut [0]).is_err(), "no end that could be taken for that of a file");
    proxy.wait_for_log("the client's connection failed");
    let (mut client, server) = pair();
    reset(server);
    assert!(client.read(&mut [0]).is_err());
    proxy.wait_for_log("the server's connection failed");
    let (mut client, mut server) = pair();
    let began = Instant::now();
    assert!(client.read(&mut [0]).is_err() && server.read(&mut [0]).is_err());
    let took = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
    proxy.wait_for_log("no byte in either direction for 1 s");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused =
        |arguments: &[&str]| Receiver::builder().program("tentacle-proxy").args(arguments).refused();
    for (arguments, said) in [
        (&[][..], "must be named: -b HOST"),
        (&["-b", ""], "the host is missing"),
        (&["-b", "a,,b"], "the host is missing"),
        (&["-b", "a:0"], "the port must be a number from 1 to 65535"),
        (&["-b", "a b"], "a host holds no blanks"),
        (&["-b", "a", "-g", "70000"], "a port is a whole number from 1 to 65535"),
        (&["-b", "a", "-c", "0"], "a whole number from 1 to 1000000"),
        (&["-b", "a", "-t", "x"], "whole seconds from 1 to 86400"),
        (&["-b", "a", "-F", "/missing"], "No such file"),
        (&["-b", "a", "-i", "x:y"], "-i"),
        (&["-b", "a", "--allow", "10/8"], "an address or a network such as 10.0.0.0/8"),
    ] {
        let error = refused(arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    let error = Receiver::builder().program("tentacle-receiver").args(["-b", "a"]).refused();
    assert!(error.contains("tentacle-proxy does"), "{error}");
}

#[test]
fn strangers_are_kept_out_and_no_more_than_asked_for_let_in() {
    let receiver = buffer();
    let closed = Receiver::proxy_to([receiver.address()]).args(["--allow", "192.0.2.0/24"]).start();
    closed.connect().expect_closed();
    closed.wait_for_log("connection closed: ");
    let narrow = Receiver::proxy_to([receiver.address()]).args(["-c", "1"]).start();
    let mut first = narrow.connect();
    first.store("a.data", b"hello");
    let mut second = narrow.connect();
    second.send("SEND <b.data> SIZE 5\n");
    second.expect_quiet(Duration::from_millis(200));
    first.quit();
    second.expect("SEND OK\n");
}

#[test]
fn a_drain_lets_sessions_end() {
    let receiver = buffer();
    let proxy = proxy(receiver.address());
    let mut session = proxy.connect();
    assert_eq!(session.ask("SEND <a.data> SIZE 10"), "SEND OK");
    session.send("hello");
    proxy.process().signal(Signal::TERM);
    proxy.wait_for_log("draining");
    session.send("world");
    session.expect("SEND OK\n");
    session.quit();
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(receiver.files()["a.data"], b"helloworld");
}

fn pull(from: &Receiver, incoming: &Path) -> tests::Ended {
    let mut pull = program_command("tentacle-sync-puller");
    pull.args(["--once", "--sync-timeout", "2", "--sync-address", &from.address().to_string()]);
    pull.arg("--incoming-dir").arg(incoming);
    run(pull)
}

fn arrived(incoming: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files_below(incoming);
    files.retain(|name, _| !name.starts_with(".tentacle~"));
    files
}

#[test]
fn a_site_is_collected_through_proxies_on_both_sides_of_its_buffer() {
    let receiver = buffer();
    let inner = proxy(receiver.address());
    let outer = proxy(inner.address());
    let folder = tempfile::tempdir().unwrap();
    let mut sent = BTreeMap::new();
    let mut client = program_command("tentacle_client");
    client.args(["-a", &outer.address().ip().to_string()]);
    for number in 0..300 {
        let (name, content) = (format!("{number}.data"), content(1000 + 40 * number));
        fs::write(folder.path().join(&name), &content).unwrap();
        client.arg(folder.path().join(&name));
        sent.insert(name, content);
    }
    let ended = run(client);
    assert!(ended.status.success(), "{}", ended.stderr);
    let incoming = tempfile::tempdir().unwrap();
    let pulled = pull(&proxy(receiver.address()), incoming.path());
    assert!(pulled.status.success(), "{}", pulled.stderr);
    assert!(arrived(incoming.path()) == sent);
    assert!(receiver.files().is_empty());
}

#[test]
fn a_proxy_that_is_killed_loses_nothing() {
    let receiver = buffer();
    let address = free_port_of(free_address());
    let start = || Receiver::proxy_to([receiver.address()]).at(address).start();
    let incoming = tempfile::tempdir().unwrap();
    let mut sent = BTreeMap::new();
    for round in 0..6 {
        let proxy = start();
        for number in 0..150 {
            let name = format!("{round}-{number}.data");
            let content = content(3000 + number);
            fs::write(receiver.spool().join(&name), &content).unwrap();
            sent.insert(name, content);
        }
        thread::scope(|scope| {
            let pulling = scope.spawn(|| pull(&proxy, incoming.path()));
            let before = arrived(incoming.path()).len();
            while arrived(incoming.path()).len() < before + 20 && !pulling.is_finished() {
                sched_yield();
            }
            proxy.process().signal(Signal::KILL);
            assert_eq!(pulling.join().unwrap().status.code(), Some(1), "it was cut off");
        });
        proxy.kill();
    }
    let pulled = pull(&start(), incoming.path());
    assert!(pulled.status.success(), "{}", pulled.stderr);
    assert!(arrived(incoming.path()) == sent, "all of it, each once");
    assert!(receiver.files().is_empty());
}

#[test]
fn a_server_that_is_started_again_under_load_fails_only_what_was_in_flight() {
    let address = free_port_of(free_address());
    let spool = tempfile::tempdir().unwrap();
    let start = || Receiver::builder().at(address).spool(spool.path()).args(["-I", "-o"]).start();
    let first = start();
    let proxy = proxy(address);
    let (good, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let send = |number: usize| -> bool {
        let Ok(mut stream) = TcpStream::connect(proxy.address()) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let said = |stream: &mut TcpStream| {
            let mut line = [0; 8];
            stream.read_exact(&mut line).is_ok() && &line == b"SEND OK\n"
        };
        stream.write_all(format!("SEND <{number}.data> SIZE 5\n").as_bytes()).is_ok()
            && said(&mut stream)
            && stream.write_all(b"hello").is_ok()
            && said(&mut stream)
    };
    let numbers = AtomicUsize::new(0);
    let run = |until: Instant| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while Instant::now() < until {
                        let count = if send(numbers.fetch_add(1, SeqCst)) { &good } else { &failed };
                        count.fetch_add(1, SeqCst);
                    }
                });
            }
        });
    };
    let second = thread::scope(|scope| {
        let load = scope.spawn(|| run(Instant::now() + Duration::from_secs(1)));
        thread::sleep(Duration::from_millis(300));
        first.kill();
        let second = start();
        load.join().unwrap();
        second
    });
    assert!(good.load(SeqCst) > 50, "{good:?} good, {failed:?} failed");
    let before = failed.load(SeqCst);
    run(Instant::now() + Duration::from_millis(500));
    assert_eq!(failed.load(SeqCst), before, "all later ones succeed");
    // Whatever was acknowledged is there.
    assert!(second.files().len() >= good.load(SeqCst));
}

#[test]
fn thousands_of_sessions_wait_at_little_cost() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let sessions: usize = if maximum.is_none_or(|most| most >= 10_500) { 5000 } else { 500 };
    let count = (sessions + 10).to_string();
    let waits = ["-c", &count, "-t", "60"];
    let receiver = Receiver::start(waits);
    let proxy = Receiver::proxy_to([receiver.address()]).args(waits).start();
    let empty = proxy.process().peak_memory();
    let mut all: Vec<_> = (0..sessions).map(|_| proxy.connect()).collect();
    // Each has reached the receiver.
    for peer in &mut all {
        peer.send("NOT A COMMAND");
    }
    let reached = || receiver.log().iter().filter(|line| line["message"] == "connection accepted").count();
    eventually("all have reached the receiver", || reached() == sessions);
    let memory = proxy.process().peak_memory() - empty;
    assert!(memory / (sessions as u64) < 8000, "{memory} bytes for {sessions} sessions");
    all.drain(..).for_each(drop);
    sends_and_fetches_through(&proxy);
}

fn sends_and_fetches_through(proxy: &Receiver) {
    let mut peer = proxy.connect();
    peer.store("last.data", b"hello");
    peer.quit();
}
