//! `kill -9` of receiver, puller and client at a random moment of a transfer:
//! what was acknowledged to its sender arrives whole, and nothing twice.
//!
//! `TENTACLE_KILLS` sets how many kills there are, `TENTACLE_KILL_FILES` how
//! many files are sent around each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tests::{free_address, program_command};

#[test]
fn what_was_acknowledged_arrives_whole_and_once_whoever_is_killed() {
    let kills = number("TENTACLE_KILLS", 12);
    let files = number("TENTACLE_KILL_FILES", 300);
    let mut field = Field::new();
    // A seed that differs from run to run finds more, and is printed.
    let seed = number("TENTACLE_KILL_SEED", std::process::id() as usize) as u64;
    println!("{kills} kills, {files} files each, seed {seed}");
    let mut chance = Rng::with_seed(seed);
    let mut acknowledged = 0;
    for kill in 0..kills {
        let victim = [Victim::Receiver, Victim::Puller, Victim::Client][kill % 3];
        acknowledged += field.round(kill, files, victim, &mut chance);
    }
    println!("counted: {kills} kills, {acknowledged} files acknowledged, all arrived whole, 0 twice, 0 lost");
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    Receiver,
    Puller,
    Client,
}

/// An isolated site, a centre, and a consumer there.
struct Field {
    address: Ipv4Addr,
    receiver: Child,
    puller: Child,
    consumer: Consumer,
    /// Longest time that a whole transfer took: a kill falls within.
    usual: Duration,
    /// Last, so that it outlives whoever uses it.
    home: tempfile::TempDir,
}

impl Field {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("crash").tempdir_in(build_folder()).unwrap();
        for folder in ["spool", "incoming", "outbox"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let address = free_address();
        let receiver = receiver(home.path(), address);
        let puller = puller(home.path(), address);
        let consumer = Consumer::start(home.path().join("incoming"));
        Self { address, receiver, puller, consumer, usual: Duration::from_millis(300), home }
    }

    /// Sends files, kills at a random moment, and waits until everything that
    /// was acknowledged has been consumed; how many that were.
    fn round(&mut self, round: usize, files: usize, victim: Victim, chance: &mut Rng) -> usize {
        let outbox = self.home.path().join("outbox");
        let names: Vec<_> = (0..files).map(|n| format!("r{round}-{n}.{}.data", 1_795_170_000 + n)).collect();
        for name in &names {
            fs::write(outbox.join(name), content(name)).unwrap();
        }
        let moment = Duration::from_micros(chance.u64(..self.usual.as_micros() as u64));
        let started = Instant::now();
        let mut client = program_command("tentacle_client")
            .args(["-v", "-a", &self.address.to_string()])
            .args(&names)
            .current_dir(&outbox)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(client.stderr.take().unwrap());
        let reading =
            thread::spawn(move || log.lines().filter_map(|line| sent(&line.ok()?)).collect::<Vec<_>>());
        thread::sleep(moment);
        match victim {
            Victim::Receiver => {
                kill(&mut self.receiver);
                self.receiver = receiver(self.home.path(), self.address);
            }
            Victim::Puller => {
                kill(&mut self.puller);
                self.puller = puller(self.home.path(), self.address);
            }
            Victim::Client => kill(&mut client),
        }
        let status = client.wait().unwrap();
        if status.success() {
            self.usual = self.usual.max(started.elapsed()).min(Duration::from_secs(3));
        }
        let acknowledged = reading.join().unwrap();
        self.consumer.wait_for(&acknowledged, || left_in(&self.home.path().join("spool")), victim);
        for name in names {
            fs::remove_file(outbox.join(name)).unwrap();
        }
        acknowledged.len()
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        kill(&mut self.receiver);
        kill(&mut self.puller);
    }
}

/// Removes each file from the incoming folder as it appears, as the data
/// server does, and says what is wrong with it.
struct Consumer {
    state: Arc<Seen>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    names: Mutex<BTreeSet<String>>,
    wrong: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Consumer {
    fn start(incoming: PathBuf) -> Self {
        let state = Arc::new(Seen::default());
        let thread = thread::spawn({
            let state = Arc::clone(&state);
            move || {
                while !state.ended.load(SeqCst) {
                    if !state.consume(&incoming) {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
            }
        });
        Self { state, thread: Some(thread) }
    }

    fn wait_for(&self, names: &[String], left: impl Fn() -> Vec<String>, victim: Victim) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let wrong = self.state.wrong.lock().unwrap().clone();
            assert!(wrong.is_empty(), "{victim:?} killed: {wrong:?}");
            let missing: Vec<_> = {
                let seen = self.state.names.lock().unwrap();
                names.iter().filter(|name| !seen.contains(*name)).cloned().collect()
            };
            // What was not acknowledged may have been stored: it is pulled too.
            if missing.is_empty() && left().is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{victim:?} killed: {} of {} acknowledged files did not arrive, such as {:?}; in the buffer: {:?}",
                missing.len(),
                names.len(),
                missing.first(),
                left().first(),
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Seen {
    /// Whether there was something.
    fn consume(&self, incoming: &Path) -> bool {
        let mut some = false;
        for entry in fs::read_dir(incoming).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            // What the data server's pattern matches.
            if !name.ends_with(".data") {
                continue;
            }
            some = true;
            if fs::read(entry.path()).unwrap() != content(&name) {
                self.wrong.lock().unwrap().push(format!("{name} is torn, or a second one of its name"));
            }
            if !self.names.lock().unwrap().insert(name.clone()) {
                self.wrong.lock().unwrap().push(format!("{name} came twice"));
            }
            fs::remove_file(entry.path()).unwrap();
        }
        some
    }
}

fn receiver(home: &Path, address: Ipv4Addr) -> Child {
    let mut child = program_command("tentacle_server")
        .args(["-I", "-a", &address.to_string(), "-s"])
        .arg(home.join("spool"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"listening\"") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the receiver does not start");
    }
    // Nobody reads on: the rest must not fill the pipe.
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    child
}

fn puller(home: &Path, address: Ipv4Addr) -> Child {
    program_command("tentacle-sync-puller")
        .args(["--interval", "1", "--sync-address", &address.to_string(), "--incoming-dir"])
        .arg(home.join("incoming"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// The name in a line of the client's log that says that a file is safe.
fn sent(line: &str) -> Option<String> {
    let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    (line.get("message")? == "sent").then(|| line["name"].as_str().unwrap().to_owned())
}

/// About 4 kB that tell which file they are.
fn content(name: &str) -> Vec<u8> {
    format!("<agent_data agent_name='{name}'>\n").repeat(4096 / (name.len() + 28)).into_bytes()
}

fn left_in(spool: &Path) -> Vec<String> {
    let entries = fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter(|name| name.ends_with(".data")).collect()
}

fn build_folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}
