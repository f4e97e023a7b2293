//! How a proxy chooses among servers, and what it does with those that fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use socket2::{Domain, Socket, Type};
use tests::{Peer, Receiver, eventually, free_address, free_port_of};

fn buffer() -> Receiver {
    Receiver::start(["-I", "-o"])
}

#[track_caller]
fn stores(proxy: &Receiver, name: &str) {
    let mut peer = proxy.connect();
    peer.store(name, b"hello");
    peer.quit();
}

/// A server whose queue is full: who connects gets no answer.
struct Silent {
    _socket: Socket,
    _queued: Vec<Socket>,
    address: SocketAddr,
}

fn silent() -> Silent {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((free_address(), 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let queued = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        socket
    });
    Silent { _queued: queued.collect(), _socket: socket, address }
}

/// A server that accepts connections, and closes them.
fn closing() -> SocketAddr {
    let listener = TcpListener::bind((free_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

#[test]
fn a_session_is_moved_on_from_a_server_that_closes_before_anything_was_said() {
    let (bad, good) = (closing(), buffer());
    let proxy = Receiver::proxy_to([bad, good.address()]).start();
    // Each is open before its client says a word.
    let mut sessions: Vec<_> = (0..30).map(|_| proxy.connect()).collect();
    proxy.wait_for_log("it closes connections at once");
    for (number, session) in sessions.iter_mut().enumerate() {
        session.store(&format!("{number}.data"), b"hello");
    }
    assert_eq!(good.files().len(), 30);
    let alone = Receiver::proxy_to([bad]).start();
    alone.connect().expect_closed();
    alone.wait_for_log("no server could be reached");
}

#[test]
fn sessions_one_after_the_other_go_to_all_servers() {
    let servers = [buffer(), buffer(), buffer()];
    let proxy = Receiver::proxy_to(servers.iter().map(Receiver::address)).start();
    (0..12).for_each(|number| stores(&proxy, &format!("{number}.data")));
    let shares = servers.each_ref().map(|server| server.files().len());
    assert!(shares.iter().all(|share| (3..=5).contains(share)), "{shares:?}");
}

#[test]
fn while_all_servers_are_silent_clients_are_closed_at_once() {
    let silent = silent();
    let proxy = Receiver::proxy_to([silent.address]).args(["-t", "1", "-r", "1"]).start();
    proxy.connect().expect_closed();
    proxy.wait_for_log("server cannot be reached: no answer in time");
    let began = Instant::now();
    for _ in 0..20 {
        proxy.connect().expect_closed();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // It is probed: nobody has to ask for it.
    let Silent { _socket: socket, address, _queued } = silent;
    drop((socket, _queued));
    let receiver = Receiver::builder().at(address).args(["-I", "-o"]).start();
    proxy.wait_for_log("server reached again");
    stores(&proxy, "a.data");
    drop(receiver);
}

#[test]
fn a_server_that_needs_its_time_is_not_passed_over_because_there_are_two_of_it() {
    // Its password takes a while to be checked.
    let slow = || {
        let listener = TcpListener::bind((free_address(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut line = [0; 38];
                    if stream.read_exact(&mut line).is_ok() {
                        thread::sleep(Duration::from_millis(1300));
                        let _ = stream.write_all(b"PASS OK\n");
                        let _ = stream.read(&mut [0]);
                        let _ = stream.write_all(b"x");
                    }
                });
            }
        });
        address
    };
    let proxy =
        Receiver::proxy_to([slow(), slow()]).args(["-t", "1", "-r", "1", "--upstream-password", "p"]).start();
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn what_the_proxy_itself_lacks_is_not_blamed_on_a_server() {
    let receiver = buffer();
    let proxy = Receiver::proxy_to([receiver.address()]).start();
    stores(&proxy, "a.data");
    let process = Pid::from_raw(i32::try_from(proxy.process().id()).unwrap());
    let open = || {
        let files = fs::read_dir(format!("/proc/{}/fd", proxy.process().id())).unwrap();
        let number = |file: fs::DirEntry| file.file_name().to_str().unwrap().parse().unwrap();
        files.map(|file| number(file.unwrap())).collect::<BTreeSet<u64>>()
    };
    let mut found = VecDeque::from([const { BTreeSet::new() }; 20]);
    eventually("the session's sockets are closed", || {
        found.rotate_left(1);
        found[0] = open();
        found.iter().all(|one| *one == found[0])
    });
    let second_free = (0..).filter(|number| !found[0].contains(number)).nth(1);
    let limit = |limit| prlimit(process, Resource::Nofile, limit).unwrap();
    // Room for a client, and none for its server.
    let before = limit(Rlimit { current: second_free, ..getrlimit(Resource::Nofile) });
    proxy.connect().expect_closed();
    proxy.wait_for_log("this machine has no room for a connection to a server");
    limit(before);
    stores(&proxy, "b.data");
    assert!(!proxy.log().iter().any(|line| line["message"].to_string().contains("server cannot be reached")));
}

#[test]
fn a_name_is_looked_up_again_and_what_it_stood_for_is_used_while_it_is_lost() {
    // Two receivers on one port, as the pods of a headless service are.
    let (first, second) = (free_address(), free_address());
    let port = free_port_of(first).port();
    let start = |address: std::net::Ipv4Addr| {
        Receiver::builder().at((IpAddr::from(address), port).into()).args(["-I", "-o"]).start()
    };
    let (one, other) = (start(first), start(second));
    let hosts = tempfile::NamedTempFile::new().unwrap();
    fs::write(hosts.path(), format!("{first} buffers.test\n")).unwrap();
    let proxy = Receiver::proxy_to([format!("buffers.test:{port}")]).with_hosts(hosts.path()).start();
    stores(&proxy, "a.data");
    assert_eq!((one.files().len(), other.files().len()), (1, 0));
    fs::write(hosts.path(), format!("{second} buffers.test\n")).unwrap();
    let mut number = 0;
    eventually("the new address is used", || {
        number += 1;
        stores(&proxy, &format!("{number}.data"));
        !other.files().is_empty()
    });
    // Gone for good, and still used: the resolver may be away.
    fs::write(hosts.path(), "127.0.0.1 localhost\n").unwrap();
    proxy.wait_for_log("cannot be resolved");
    stores(&proxy, "last.data");
    assert!(other.files().contains_key("last.data"));
    fs::write(hosts.path(), format!("{first} buffers.test\n{second} buffers.test\n")).unwrap();
    proxy.wait_for_log("name resolved again");
}

#[test]
fn without_a_server_clients_are_closed_at_once_and_served_when_it_is_back() {
    let address = free_port_of(free_address());
    let proxy = Receiver::proxy_to([address]).start();
    let began = Instant::now();
    for _ in 0..5 {
        proxy.connect().expect_closed();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    proxy.wait_for_log("no server could be reached: ");
    let receiver = Receiver::builder().at(address).args(["-I", "-o"]).start();
    stores(&proxy, "a.data");
    proxy.wait_for_log("server reached again");
    receiver.stop();
    proxy.connect().expect_closed();
}

#[test]
fn a_server_that_swallows_everything_is_given_up_and_the_next_one_tried() {
    let silent = silent();
    let address = silent.address;
    let alone = Receiver::proxy_to([address]).args(["-t", "1", "-r", "0"]).start();
    alone.connect().expect_closed();
    alone.wait_for_log("no answer in time");
    let receiver = buffer();
    let both = Receiver::proxy_to([address, receiver.address()]).args(["-t", "1", "-r", "0"]).start();
    stores(&both, "a.data");
    // From now on it is passed over.
    stores(&both, "b.data");
    let began = Instant::now();
    stores(&both, "c.data");
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn sessions_are_shared_out_and_move_to_another_server_when_one_goes() {
    let servers = [buffer(), buffer(), buffer()];
    let proxy = Receiver::proxy_to(servers.iter().map(Receiver::address)).start();
    let mut sessions: Vec<_> = (0..9).map(|_| proxy.connect()).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        session.store(&format!("{number}.data"), b"hello");
    }
    assert_eq!(servers.each_ref().map(|server| server.files().len()), [3, 3, 3]);
    sessions.into_iter().for_each(Peer::quit);
    let [first, second, third] = servers;
    first.kill();
    for number in 0..9 {
        let mut session = proxy.connect();
        session.store(&format!("more{number}.data"), b"hello");
        session.quit();
    }
    assert_eq!(second.files().len() + third.files().len(), 6 + 9);
}

#[test]
fn names_stand_for_all_their_addresses_and_unknown_ones_are_said() {
    let receiver = Receiver::builder().address([127, 0, 0, 1].into()).at(free_port_of([127, 0, 0, 1].into()));
    let receiver = receiver.args(["-I", "-o"]).start();
    let port = receiver.address().port();
    let proxy = Receiver::proxy_to([format!("localhost:{port}")]).start();
    stores(&proxy, "a.data");
    let lost = Receiver::proxy_to(["no-such-host.invalid".to_owned()]).start();
    lost.connect().expect_closed();
    lost.wait_for_log("no-such-host.invalid: cannot be resolved");
    let both =
        Receiver::proxy_to(["no-such-host.invalid".to_owned(), receiver.address().to_string()]).start();
    stores(&both, "b.data");
}

#[test]
fn a_proxy_that_leads_to_itself_says_so() {
    let own = free_port_of(free_address());
    for written in [own.to_string(), format!("[::ffff:{}]:{}", own.ip(), own.port())] {
        let refused = Receiver::proxy_to([&written]).at(own).refused();
        assert!(refused.contains("this proxy itself listens there"), "{refused}");
    }
    let all = free_port_of([0, 0, 0, 0].into());
    let everywhere = Receiver::proxy_to([format!("localhost:{}", all.port())]).at(all).start();
    Peer::connect(([127, 0, 0, 9], all.port()).into()).expect_closed();
    everywhere.wait_for_log("connection closed: no server could be reached");
    let is_closed = |line: &&serde_json::Value| line["message"].to_string().contains("connection closed");
    assert_eq!(everywhere.log().iter().filter(is_closed).count(), 1);
}
