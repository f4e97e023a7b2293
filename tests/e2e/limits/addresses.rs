//! What one address may take, of connections and of turns.

use std::{
    fs,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tests::{Builder, Peer, Receiver, certificates, eventually, free_address, program_command, run};

use crate::Ended;

/// How long a file takes from an agent's address.
fn send(server: &Receiver, agent: Ipv4Addr, name: &str, more: &[&str]) -> Duration {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), "hello").unwrap();
    let mut client = program_command("tentacle_client");
    client.args(["-t", "9", "-a", &server.address().ip().to_string(), "-b", &agent.to_string()]);
    client.args(more).arg(folder.path().join(name));
    let began = Instant::now();
    let ended = run(client);
    assert!(ended.status.success(), "{}", ended.stderr);
    began.elapsed()
}

/// Begins with a header that names a client.
fn header(client: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = client.octets();
    let head = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, b'Q', b'U', b'I', b'T', 0x0a, 0x21, 0x11, 0, 12];
    [&head[..], &[a, b, c, d, 127, 0, 0, 1, 0x12, 0x34, 0xa0, 0xa1]].concat()
}

fn each_server(options: &[&str]) -> [(Builder, Vec<&'static str>, Option<Receiver>); 3] {
    let behind = Receiver::start(["-t", "60"]);
    let proxy = Receiver::proxy_to([behind.address()]).args(options);
    let encrypted = Receiver::builder().args(certificates().identity("server-v1-p256")).args(options);
    [
        (Receiver::builder().args(options), vec![], None),
        (encrypted, vec!["-c"], None),
        (proxy, vec![], Some(behind)),
    ]
}

#[test]
fn an_address_with_fifty_connections_keeps_no_other_out() {
    for (server, options, _behind) in each_server(&["-c", "10", "-t", "1", "-r", "0"]) {
        let server = server.start();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let _ended = Ended(&done);
            // Each is opened again as soon as it is closed, and says nothing.
            for _ in 0..50 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        Peer::connect(server.address()).expect_closed();
                    }
                });
            }
            if options.is_empty() {
                server.wait_for_log("all connections are in use");
            }
            let times: Vec<_> = (0..5)
                .map(|number| send(&server, free_address(), &format!("{number}.data"), &options))
                .collect();
            println!(
                "counted: 5 files beside 50 greedy connections, the slowest in {:?}",
                times.iter().max().unwrap()
            );
            assert!(times.iter().all(|&time| time < Duration::from_secs(4)), "{times:?}");
        });
    }
}

#[test]
fn an_address_has_as_many_connections_as_it_may_and_others_have_theirs() {
    for (server, options, _behind) in each_server(&["--max-connections-per-address", "2", "-t", "60"]) {
        let server = server.start();
        let mut first = Peer::connect(server.address());
        let mut second = Peer::connect(server.address());
        // Both have come before the third.
        match options.is_empty() {
            true => {
                first.store("1.data", b"1");
                second.store("2.data", b"2");
            }
            false => {
                let said = |line: &serde_json::Value| line["message"] == "connection accepted";
                eventually("both have come", || server.log().iter().filter(|line| said(line)).count() == 2);
            }
        }
        server.connect().expect_closed();
        server.wait_for_log("its address has 2 connections already (--max-connections-per-address)");
        send(&server, free_address(), "a.data", &options);
        drop(second);
        eventually("the room is free again", || {
            let mut third = Peer::connect(server.address());
            // Nothing comes to one that was let in.
            !third.is_closed_within(Duration::from_millis(200))
        });
        first.send("x");
    }
}

#[test]
fn behind_a_proxy_the_bound_is_the_clients() {
    let options =
        ["--accept-proxy", "--allow", "127.0.0.1", "--max-connections-per-address", "1", "-t", "60"];
    let server = Receiver::start(options);
    let connect = |client: [u8; 4]| {
        let mut peer = server.connect();
        peer.send(header(client.into()));
        peer
    };
    let mut one = connect([192, 0, 2, 1]);
    one.store("1.data", b"1");
    let mut two = connect([192, 0, 2, 2]);
    two.store("2.data", b"2");
    connect([192, 0, 2, 1]).expect_closed();
    server.wait_for_log("its address has 1 connections already");
    one.quit();
    eventually("the room is free again", || {
        let mut again = connect([192, 0, 2, 1]);
        !again.is_closed_within(Duration::from_millis(200))
    });
    two.quit();
}

#[test]
fn the_greediest_of_those_that_wait_makes_room() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let server = Receiver::start(["-c", "1", "-t", "60"]);
    let mut first = server.connect();
    first.store("a.data", b"1");
    let mut waiting: Vec<_> = (0..4097).map(|_| Peer::connect(server.address())).collect();
    server.wait_for_log("it made room for a newer one");
    waiting.remove(0).expect_closed();
    first.quit();
}
