//! How a proxy carries the bytes of a session to its end, whatever that is:
//! in sessions that are plain on both sides, and in those that are encrypted
//! on one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use socket2::SockRef;
use tests::{Key, PATIENCE, Pki, Receiver, eventually, free_address};

/// What carries from a client to a server.
struct Chain {
    /// The first is what clients connect to.
    proxies: Vec<Receiver>,
    server: TcpListener,
    _pki: Option<Pki>,
}

impl Chain {
    /// Plain on both sides.
    fn plain(arguments: &[&str]) -> Self {
        let server = TcpListener::bind((free_address(), 0)).unwrap();
        let proxy = Receiver::proxy_to([server.local_addr().unwrap()]).args(arguments).start();
        Self { proxies: vec![proxy], server, _pki: None }
    }

    /// One that encrypts, and one that decrypts.
    fn encrypted(arguments: &[&str]) -> Self {
        let (pki, server) = (Pki::empty(), TcpListener::bind((free_address(), 0)).unwrap());
        pki.self_signed("proxy", Key::P256, "proxy");
        let last = Receiver::proxy_to([server.local_addr().unwrap()]);
        let last = last.args(pki.identity("proxy")).args(arguments).start();
        let first = Receiver::proxy_to([last.address()]).args(["--upstream-tls"]).args(arguments).start();
        Self { proxies: vec![first, last], server, _pki: Some(pki) }
    }

    fn both(arguments: &[&str]) -> [Self; 2] {
        [Self::plain(arguments), Self::encrypted(arguments)]
    }

    /// The two ends of a session that has carried a byte each way.
    fn session(&self) -> [TcpStream; 2] {
        let mut client = TcpStream::connect(self.proxies[0].address()).unwrap();
        client.write_all(b"x").unwrap();
        let (mut server, _) = self.server.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_nodelay(true).unwrap();
        }
        server.read_exact(&mut [0]).unwrap();
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        [client, server]
    }
}

/// Makes it stand still, all of it.
fn stop(proxy: &Receiver) {
    proxy.process().signal(Signal::STOP);
    eventually("it stands still", || {
        let mut threads = fs::read_dir(format!("/proc/{}/task", proxy.process().id())).unwrap();
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.starts_with(" T")
        })
    });
}

fn go_on(proxy: &Receiver) {
    proxy.process().signal(Signal::CONT);
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// What comes until the end, and whether that is a good one.
fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut came = Vec::new();
    match stream.read_to_end(&mut came) {
        Ok(_) => (came, true),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (came, false),
        Err(error) => panic!("{error}, after {} bytes", came.len()),
    }
}

/// Content that differs from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect()
}

#[test]
fn a_process_that_stood_still_cuts_nobody_whose_bytes_came_meanwhile() {
    for chain in Chain::both(&["-t", "1", "-r", "0"]) {
        let mut sessions: Vec<_> = (0..40).map(|_| chain.session()).collect();
        chain.proxies.iter().for_each(stop);
        for [client, _] in &mut sessions {
            client.write_all(b"y").unwrap();
        }
        // Longer than a session may be silent.
        thread::sleep(Duration::from_millis(1500));
        chain.proxies.iter().for_each(go_on);
        for [client, server] in &mut sessions {
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            server.write_all(b"z").unwrap();
            client.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"z");
        }
        for [mut client, server] in sessions {
            drop(server);
            assert_eq!(rest(&mut client), (vec![], true));
        }
    }
}

#[test]
fn an_end_within_a_body_goes_over_behind_all_that_was_sent() {
    for chain in Chain::both(&[]) {
        for turned in [false, true] {
            for size in [1, 100_000, 3_000_000] {
                let [mut from, mut to] = chain.session();
                if turned {
                    std::mem::swap(&mut from, &mut to);
                }
                let sent = content(size);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        from.write_all(&sent).unwrap();
                        from.shutdown(Shutdown::Write).unwrap();
                    });
                    assert!(rest(&mut to) == (sent.clone(), true));
                });
                // The other direction goes on.
                to.write_all(b"so much came").unwrap();
                drop(to);
                assert_eq!(rest(&mut from), (b"so much came".to_vec(), true));
            }
        }
    }
}

#[test]
fn a_reset_within_a_body_is_one_for_the_other_side() {
    for chain in Chain::both(&[]) {
        for turned in [false, true] {
            let [mut from, mut to] = chain.session();
            if turned {
                std::mem::swap(&mut from, &mut to);
            }
            let sent = content(100_000);
            from.write_all(&sent).unwrap();
            let mut came = vec![0; sent.len()];
            to.read_exact(&mut came).unwrap();
            assert!(came == sent);
            reset(from);
            assert_eq!(rest(&mut to), (vec![], false));
        }
    }
}

#[test]
fn the_last_words_of_one_that_broke_off_arrive() {
    for chain in Chain::both(&[]) {
        for turned in [false, true] {
            for _ in 0..20 {
                let [mut from, mut to] = chain.session();
                if turned {
                    std::mem::swap(&mut from, &mut to);
                }
                // Both are there when the proxy looks: the last words, and
                // what cannot be written any more.
                let beside = if turned { &chain.proxies[0] } else { chain.proxies.last().unwrap() };
                stop(beside);
                to.write_all(b"the last words").unwrap();
                reset(to);
                from.write_all(b"more of a body").unwrap();
                go_on(beside);
                assert_eq!(rest(&mut from), (b"the last words".to_vec(), false));
            }
        }
    }
}

#[test]
fn a_drain_that_cuts_resets_both_sides() {
    for chain in Chain::both(&["--drain-timeout", "1"]) {
        let [mut client, mut server] = chain.session();
        server.write_all(b"the first half of a body").unwrap();
        client.read_exact(&mut [0; 24]).unwrap();
        let [first, others @ ..] = &chain.proxies[..] else { panic!() };
        first.process().signal(Signal::TERM);
        assert_eq!(rest(&mut client), (vec![], false));
        assert_eq!(rest(&mut server), (vec![], false));
        first.wait_for_log("ended, with sessions cut");
        let sums = first.wait_for_log("all in all");
        assert_eq!((&sums["sessions"], &sums["sent"], &sums["received"]), (&1.into(), &1.into(), &25.into()));
        assert!(sums.get("files").is_none(), "nobody counted: {sums}");
        others.iter().for_each(|proxy| proxy.process().signal(Signal::TERM));
        for proxy in chain.proxies {
            assert_eq!(proxy.wait().code(), Some(0));
        }
    }
}

#[test]
fn sides_that_take_nothing_any_more_hold_little_memory() {
    let chain = Chain::plain(&[]);
    let proxy = &chain.proxies[0];
    let sessions: Vec<_> = (0..100).map(|_| chain.session()).collect();
    let (sent, written) = (content(30_000_000), AtomicUsize::new(0));
    let write = &|mut client: &TcpStream, part: &[u8]| {
        for piece in part.chunks(PIECE) {
            client.write_all(piece).unwrap();
            written.fetch_add(1, Relaxed);
        }
    };
    let read = &|mut server: &TcpStream, part: &[u8]| {
        for piece in part.chunks(PIECE) {
            let mut came = vec![0; piece.len()];
            server.read_exact(&mut came).unwrap();
            assert!(came == piece);
        }
    };
    let nothing_moves = || {
        let before = written.load(Relaxed);
        thread::sleep(Duration::from_millis(200));
        written.load(Relaxed) == before
    };
    // The system gives those that move fast much room.
    let (fast, slow) = sent.split_at(sent.len() / 2);
    for [client, server] in &sessions {
        thread::scope(|scope| {
            scope.spawn(move || write(client, fast));
            read(server, fast);
        });
    }
    let before = proxy.process().peak_memory();
    thread::scope(|scope| {
        stop(proxy);
        for [client, _] in &sessions {
            scope.spawn(move || write(client, slow));
        }
        eventually("as much as goes has come", nothing_moves);
        go_on(proxy);
        eventually("as much as goes has gone over", nothing_moves);
        let kept = proxy.process().peak_memory() - before;
        assert!(kept < 35_000_000, "{kept} bytes");
        for [_, server] in &sessions {
            scope.spawn(move || read(server, slow));
        }
    });
}

/// Bytes that are written or read at once.
const PIECE: usize = 100_000;
