//! The programs under load, and who consumes what arrives.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tests::{Key, Pki, Process, Receiver, left_aside, program_command};

use crate::{
    load::Load,
    vitals::{NOTHING_KEPT, Vitals},
};

/// Two sites, one of them behind a proxy too and one with TLS, and a centre.
pub(crate) struct Field {
    pub(crate) plain: Receiver,
    pub(crate) tls: Receiver,
    pub(crate) proxy: Receiver,
    puller: Process,
    consumer: Consumer,
    /// Last, so that they outlive who uses them.
    incoming: TempDir,
    _config: (TempDir, Pki),
}

impl Field {
    pub(crate) fn start() -> Self {
        let (variable, tunables) = NOTHING_KEPT;
        let site = || {
            Receiver::builder().env(variable, tunables).args([
                "-I",
                "-o",
                "--http-addr",
                "127.0.0.1:0",
                "-i",
                r".*\.mv:moves;.*\.kept:kept",
            ])
        };
        let plain = site().start();
        let pki = Pki::empty();
        let address = tests::free_address();
        pki.self_signed("site", Key::P256, &address.to_string());
        let tls = site().address(address.into()).args(pki.identity("site")).start();
        let proxy = Receiver::proxy_to([plain.address()])
            .env(variable, tunables)
            .args(["--http-addr", "127.0.0.1:0"])
            .start();
        let (incoming, config) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let puller = puller(&plain, &tls, &pki, incoming.path(), config.path());
        let consumer = Consumer::start(incoming.path());
        Self { plain, tls, proxy, puller, consumer, incoming, _config: (config, pki) }
    }

    pub(crate) fn vitals(&self) -> [Vitals; 4] {
        self.processes().map(|(_, process)| Vitals::of(process))
    }

    /// Waits until nothing is held any more that was not before.
    pub(crate) fn return_to(&self, before: &[Vitals; 4]) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let now = self.vitals();
            if now.iter().zip(before).all(|(now, before)| now.are_back_at(before)) {
                for ((name, _), (now, before)) in self.processes().iter().zip(now.iter().zip(before)) {
                    println!("{name}: {before:?} before, {now:?} after");
                }
                return;
            }
            let names = self.processes().map(|(name, _)| name);
            assert!(Instant::now() < until, "{names:?}: {now:#?}, where there was before {before:#?}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until all that was acknowledged has been consumed at the centre,
    /// and nothing is left of anything else.
    pub(crate) fn becomes_quiet(&self, load: &Load) {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let missing = self.consumer.missing(load);
            let left = self.left();
            if missing.is_empty() && left.is_empty() {
                return;
            }
            assert!(
                Instant::now() < until,
                "{} of what was acknowledged did not arrive, such as {:?}; left: {left:?}",
                missing.len(),
                missing.first(),
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn torn(&self) -> usize {
        self.consumer.seen.torn.load(Relaxed)
    }

    pub(crate) fn twice(&self) -> usize {
        self.consumer.seen.twice.load(Relaxed)
    }

    /// What lies where nothing should.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for spool in [self.plain.spool(), self.tls.spool()] {
            for folder in [spool.to_owned(), spool.join("moves"), spool.join("kept")] {
                left.extend(left_aside(&folder));
            }
            let files = tests::files_below(spool);
            left.extend(files.into_keys().filter(|name| !name.starts_with("kept/")));
        }
        left.extend(tests::files_below(self.incoming.path()).into_keys());
        left
    }

    fn processes(&self) -> [(&'static str, &Process); 4] {
        [
            ("receiver", self.plain.process()),
            ("receiver with TLS", self.tls.process()),
            ("proxy", self.proxy.process()),
            ("puller", &self.puller),
        ]
    }
}

fn puller(plain: &Receiver, tls: &Receiver, pki: &Pki, incoming: &Path, config: &Path) -> Process {
    let split = |address: SocketAddr| (address.ip(), address.port());
    let (plain, tls) = (split(plain.address()), split(tls.address()));
    let config = config.join("sources.yaml");
    let yaml = format!(
        "incoming_dir: {}\nsources:\n  - {{address: {}, port: {}}}\n  - {{address: {}, port: {}, tls: {{ca: {}}}}}\n",
        incoming.display(),
        plain.0,
        plain.1,
        tls.0,
        tls.1,
        pki.certificate("site"),
    );
    fs::write(&config, yaml).unwrap();
    let mut command = program_command("tentacle-sync-puller");
    command.env(NOTHING_KEPT.0, NOTHING_KEPT.1);
    command.args(["--interval", "1", "--http-addr", "127.0.0.1:0", "--config"]).arg(config);
    Process::spawn(command)
}

/// Removes each file as it appears, as a data server does, and looks at it.
struct Consumer {
    seen: Arc<Seen>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    names: Mutex<HashSet<String>>,
    torn: AtomicUsize,
    twice: AtomicUsize,
    ended: AtomicBool,
}

impl Consumer {
    fn start(incoming: &Path) -> Self {
        let (seen, incoming) = (Arc::new(Seen::default()), incoming.to_owned());
        let consuming = Arc::clone(&seen);
        let consume = move || {
            while !consuming.ended.load(Relaxed) {
                consuming.consume(&incoming);
                thread::sleep(Duration::from_millis(20));
            }
        };
        Self { seen, thread: Some(thread::spawn(consume)) }
    }

    fn missing(&self, load: &Load) -> Vec<String> {
        let seen = self.seen.names.lock().unwrap();
        load.acknowledged_and(|name| !seen.contains(name))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.seen.ended.store(true, Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Seen {
    fn consume(&self, incoming: &Path) {
        for entry in fs::read_dir(incoming).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if !name.ends_with(".data") {
                continue;
            }
            let path: PathBuf = entry.path();
            let is_whole = fs::read(&path).unwrap() == crate::load::content(&name);
            self.torn.fetch_add(usize::from(!is_whole), Relaxed);
            let is_new = self.names.lock().unwrap().insert(name);
            self.twice.fetch_add(usize::from(!is_new), Relaxed);
            fs::remove_file(path).unwrap();
        }
    }
}
