//! Everybody who works at once: agents, plain, packed and over TLS, readers
//! of lists, movers, slow readers, and who breaks off.

use std::{
    fmt, fs, iter,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tempfile::TempDir;
use tests::{Peer, program_command, run};

use crate::field::Field;

/// What was done, and how long agents waited.
#[derive(Default)]
pub(crate) struct Load {
    acknowledged: Mutex<Vec<String>>,
    /// When, from the beginning, and for how long.
    waits: Mutex<Vec<(Duration, Duration)>>,
    sessions: AtomicUsize,
    lists: AtomicUsize,
    moves: AtomicUsize,
    resets: AtomicUsize,
    slow: AtomicUsize,
}

/// Median and 95th percentile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency(Duration, Duration);

/// Name, period and what one turn does.
type Worker = (&'static str, u64, fn(&mut Turn<'_>));

/// One worker's next piece of work.
struct Turn<'a> {
    field: &'a Field,
    load: &'a Load,
    began: Instant,
    chance: Rng,
    worker: usize,
    number: u64,
    folder: &'a TempDir,
}

// === impl Load ===

impl Load {
    pub(crate) fn run(field: &Field, during: Duration, seed: u64) -> Self {
        let (load, began) = (Self::default(), Instant::now());
        let folder = TempDir::new().unwrap();
        keep_one_to_read(field);
        thread::scope(|scope| {
            for (worker, (name, period, work)) in WORKERS.into_iter().enumerate() {
                let (load, folder) = (&load, &folder);
                let chance = Rng::with_seed(seed << 8 | worker as u64);
                let mut turn = Turn { field, load, began, chance, worker, number: seed << 32, folder };
                let working = move || {
                    while began.elapsed() < during {
                        turn.number += 1;
                        work(&mut turn);
                        thread::sleep(Duration::from_millis(turn.chance.u64(..2 * period)));
                    }
                };
                thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, working).unwrap();
            }
        });
        load
    }

    /// The acknowledged files of which `is_missing` says so.
    pub(crate) fn acknowledged_and(&self, is_missing: impl Fn(&str) -> bool) -> Vec<String> {
        let names = self.acknowledged.lock().unwrap();
        names.iter().filter(|name| is_missing(name)).cloned().collect()
    }

    /// In the first and the last fifth.
    pub(crate) fn latencies(&self) -> (Latency, Latency) {
        let waits = self.waits.lock().unwrap();
        let end = waits.iter().map(|(when, _)| *when).max().unwrap();
        let first = Latency::of(waits.iter().filter(|(when, _)| *when <= end / 5).map(|(_, wait)| *wait));
        let last = Latency::of(waits.iter().filter(|(when, _)| *when >= end / 5 * 4).map(|(_, wait)| *wait));
        (first, last)
    }

    pub(crate) fn counts(&self) -> String {
        format!(
            "{} sessions, {} files acknowledged, {} lists, {} moves, {} resets, {} slow readers",
            self.sessions.load(Relaxed),
            self.acknowledged.lock().unwrap().len(),
            self.lists.load(Relaxed),
            self.moves.load(Relaxed),
            self.resets.load(Relaxed),
            self.slow.load(Relaxed),
        )
    }
}

// === impl Latency ===

impl Latency {
    fn of(waits: impl Iterator<Item = Duration>) -> Self {
        let mut waits: Vec<_> = waits.collect();
        waits.sort_unstable();
        let at = |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default();
        Self(at(50), at(95))
    }

    /// As far as a machine that does other things too can tell.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let near = |this: Duration, other: Duration| this <= other * 3 / 2 + Duration::from_millis(2);
        near(self.0, other.0) && near(self.1, other.1)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?} (95 %: {:.1?})", self.0, self.1)
    }
}

// === impl Turn ===

impl Turn<'_> {
    fn connect(&self, to: SocketAddr) -> Peer {
        self.load.sessions.fetch_add(1, Relaxed);
        Peer::connect(to)
    }

    fn site(&self) -> SocketAddr {
        self.field.plain.address()
    }

    /// A name that nothing else has, and tells how many bytes there are.
    fn name(&mut self, most: u64) -> String {
        let size = 1 + self.chance.u64(..most);
        self.number += 1;
        format!("soak-{}-{:x}-{size}.data", self.worker, self.number)
    }

    fn acknowledged(&self, name: String) {
        self.load.acknowledged.lock().unwrap().push(name);
    }

    /// Some files in one session.
    fn send_to(&mut self, to: SocketAddr) {
        let mut peer = self.connect(to);
        for _ in 0..1 + self.chance.u64(..4) {
            let most = if self.chance.u64(..50) == 0 { 1_900_000 } else { 16_000 };
            let name = self.name(most);
            peer.store(&name, content(&name));
            self.acknowledged(name);
        }
        peer.quit();
    }
}

/// What the file of this name holds: as many bytes as it says.
pub(crate) fn content(name: &str) -> Vec<u8> {
    let size = name.trim_end_matches(".data").rsplit('-').next().unwrap().parse().unwrap();
    name.bytes().chain(iter::once(b'\n')).cycle().take(size).collect()
}

fn keep_one_to_read(field: &Field) {
    let mut peer = field.plain.connect();
    peer.store("large.kept", vec![b'k'; KEPT]);
    peer.quit();
}

fn agent(turn: &mut Turn<'_>) {
    turn.send_to(turn.field.plain.address());
}

fn agent_of_the_proxy(turn: &mut Turn<'_>) {
    turn.send_to(turn.field.proxy.address());
}

fn packing_agent(turn: &mut Turn<'_>) {
    let mut peer = turn.connect(turn.site());
    let name = turn.name(60_000);
    let mut archive = Vec::new();
    protocol::archive::pack(name.as_bytes(), &mut &content(&name)[..], &mut archive).unwrap();
    assert_eq!(peer.ask(format!("ZSEND <{name}> SIZE {}", archive.len())), "ZSEND OK");
    peer.send(&archive);
    peer.expect("ZSEND OK\n");
    turn.acknowledged(name);
    peer.quit();
}

fn agent_with_tls(turn: &mut Turn<'_>) {
    let names: Vec<_> = (0..8).map(|_| turn.name(16_000)).collect();
    for name in &names {
        fs::write(turn.folder.path().join(name), content(name)).unwrap();
    }
    let mut command = program_command("tentacle_client");
    let to = turn.field.tls.address();
    command.args(["-a", &to.ip().to_string(), "-p", &to.port().to_string()]);
    command.arg("-c").args(&names).current_dir(turn.folder.path());
    let ended = run(command);
    assert!(ended.status.success(), "{}", ended.stderr);
    turn.load.sessions.fetch_add(1, Relaxed);
    for name in names {
        fs::remove_file(turn.folder.path().join(&name)).unwrap();
        turn.acknowledged(name);
    }
}

fn reader_of_lists(turn: &mut Turn<'_>) {
    let mut peer = turn.connect(turn.site());
    for _ in 0..5 {
        peer.list("");
        turn.load.lists.fetch_add(1, Relaxed);
    }
    peer.quit();
}

/// Some hold on to their file only at the second attempt.
fn mover(turn: &mut Turn<'_>) {
    let name = format!("{}-{:x}.mv", turn.worker, turn.number);
    let body = content(&turn.name(30_000));
    let mut peer = turn.connect(turn.site());
    peer.store(&name, &body);
    if turn.chance.u64(..3) == 0 {
        assert!(peer.fetch("MV", &name) == body);
        peer.reset();
        peer = turn.connect(turn.site());
        // It is lent until the server has seen the reset.
        while peer.ask(format!("MV <{name}>")) == "MV ERR" {}
        peer.send("MV OK\n");
        assert!(peer.body(body.len()) == body);
    } else {
        assert!(peer.fetch("MV", &name) == body);
    }
    peer.quit();
    turn.load.moves.fetch_add(1, Relaxed);
}

fn who_breaks_off(turn: &mut Turn<'_>) {
    let to = if turn.chance.u64(..2) == 0 { turn.site() } else { turn.field.proxy.address() };
    let mut peer = turn.connect(to);
    match turn.chance.u64(..6) {
        0 => {}
        1 => peer.send("SEND <half"),
        2 => {
            let line = format!("SEND <torso-{}.data> SIZE 100000", turn.number);
            assert_eq!(peer.ask(line), "SEND OK");
            peer.send(vec![b't'; 1 + turn.chance.u64(..99_998) as usize]);
        }
        3 => _ = peer.announced("RECV", "large.kept"),
        4 => {
            peer.announced("RECV", "large.kept");
            peer.send("RECV OK\n");
            peer.body(1 + turn.chance.u64(..100_000) as usize);
        }
        _ => {
            peer.send("NONSENSE <\x01>\n");
            peer.expect_closed();
        }
    }
    peer.reset();
    turn.load.resets.fetch_add(1, Relaxed);
}

fn slow_reader(turn: &mut Turn<'_>) {
    turn.load.sessions.fetch_add(1, Relaxed);
    let mut peer = Peer::connect_with_little_room(turn.site());
    let mut left = peer.announced("RECV", "large.kept");
    peer.send("RECV OK\n");
    while left > 0 {
        let piece = left.min(128 << 10);
        peer.body(piece);
        left -= piece;
        thread::sleep(Duration::from_millis(25));
    }
    peer.quit();
    turn.load.slow.fetch_add(1, Relaxed);
}

/// One small file a connection, as an agent sends it, with a watch beside it.
fn who_measures(turn: &mut Turn<'_>) {
    let name = format!("{}-4096.data", turn.name(1).trim_end_matches(".data"));
    let body = content(&name);
    let asked = Instant::now();
    let mut peer = turn.connect(turn.site());
    peer.store(&name, body);
    let waited = asked.elapsed();
    peer.quit();
    turn.load.waits.lock().unwrap().push((asked - turn.began, waited));
    turn.acknowledged(name);
}

/// Periods in milliseconds: one small machine is busy, and not full.
const WORKERS: [Worker; 12] = [
    ("agent", 30, agent),
    ("agent", 30, agent),
    ("agent", 60, agent_of_the_proxy),
    ("agent", 60, agent_of_the_proxy),
    ("packing agent", 60, packing_agent),
    ("agent with TLS", 300, agent_with_tls),
    ("reader of lists", 100, reader_of_lists),
    ("mover", 60, mover),
    ("mover", 60, mover),
    ("who breaks off", 20, who_breaks_off),
    ("slow reader", 500, slow_reader),
    ("who measures", 40, who_measures),
];

/// Bytes of the file that is read slowly.
const KEPT: usize = 1_900_000;
