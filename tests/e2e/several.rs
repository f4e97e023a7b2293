//! The puller on a name that stands for several buffers, as a headless Service
//! of Kubernetes does. The name stands in a hosts file that is mounted for the
//! puller alone, which needs root, or user namespaces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{
    Ended, Key, Pki, Process, Receiver, eventually, files_below, free_address, program_with_hosts, run,
};

/// The name of all buffers.
const NAME: &str = "buffers.test";

/// What the puller sees of the world: an incoming folder, and what the name
/// stands for.
struct Centre {
    home: TempDir,
}

impl Centre {
    fn new(addresses: &[Ipv4Addr]) -> Self {
        let centre = Self { home: TempDir::new().unwrap() };
        fs::create_dir(centre.incoming()).unwrap();
        centre.name_stands_for(addresses);
        centre
    }

    /// Written in place: the puller has the file mounted.
    fn name_stands_for(&self, addresses: &[Ipv4Addr]) {
        let lines = addresses.iter().map(|address| format!("{address} {NAME}\n"));
        let hosts = format!("127.0.0.1 localhost\n{}", lines.collect::<String>());
        fs::write(self.home.path().join("hosts"), hosts).unwrap();
    }

    fn incoming(&self) -> PathBuf {
        self.home.path().join("incoming")
    }

    /// The puller of this name; it alone sees our hosts file.
    fn puller(&self, arguments: &[&str]) -> Command {
        let mut command = program_with_hosts("tentacle-sync-puller", &self.home.path().join("hosts"));
        command.args(["--sync-address", NAME, "--interval", "1", "--incoming-dir"]).arg(self.incoming());
        command.args(["--sync-timeout", "2", "--sync-retries", "0"]).args(arguments);
        command
    }

    fn pull_once(&self) -> Ended {
        run(self.puller(&["--once"]))
    }

    /// A file as a crash leaves it: fetched from one of the name's buffers
    /// (or from the only one), and not settled.
    fn staged(&self, at: Option<Ipv4Addr>, name: &str, content: &str) {
        let folder = self.staging(at);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), content).unwrap();
    }

    fn staging(&self, at: Option<Ipv4Addr>) -> PathBuf {
        let buffer = at.map_or("buffer".to_owned(), |address| address.to_string());
        self.incoming().join(".tentacle~sync").join(format!("{NAME}%3A41121/{buffer}/files"))
    }

    /// What a consumer finds.
    fn found(&self) -> BTreeMap<String, Vec<u8>> {
        files_below(&self.incoming())
    }

    /// What is fetched and not published.
    fn waiting(&self) -> Vec<String> {
        let below = |folder: PathBuf| names_in(&folder).into_iter().map(move |name| folder.join(name));
        let buffers = below(self.incoming().join(".tentacle~sync")).flat_map(below);
        let names = buffers.flat_map(below).flat_map(|folder| names_in(&folder));
        names.filter(|name| !name.starts_with(".tentacle~")).collect()
    }
}

/// A buffer as the guides start it, holding these files.
fn buffer<const N: usize>(files: [(&str, &str); N]) -> Receiver {
    let buffer = Receiver::start(["-I", "-o"]);
    put(&buffer, files);
    buffer
}

fn put<const N: usize>(buffer: &Receiver, files: [(&str, &str); N]) {
    for (name, content) in files {
        fs::write(buffer.spool().join(name), content).unwrap();
    }
}

/// What is in a folder, which may be gone by now.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn ip(buffer: &Receiver) -> Ipv4Addr {
    match buffer.address().ip() {
        std::net::IpAddr::V4(address) => address,
        other => panic!("{other}"),
    }
}

fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, Vec<u8>> {
    files.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec())).into()
}

#[test]
fn every_buffer_of_the_name_is_emptied() {
    let buffers = [
        buffer([("a.data", "hello"), ("same.1.data", "one")]),
        buffer([("b.data", "hello"), ("same.1.data", "two")]),
        buffer([("c.data", "hello")]),
    ];
    let centre = Centre::new(&buffers.each_ref().map(ip));
    let ended = centre.pull_once();
    assert!(ended.status.success(), "{}", ended.stderr);
    let mut found = centre.found();
    let same: Vec<_> = ["same.1.data", "same.1.2.data"].map(|name| found.remove(name).unwrap()).into();
    assert!(same.contains(&b"one".to_vec()) && same.contains(&b"two".to_vec()), "{same:?}");
    assert_eq!(found, files([("a.data", "hello"), ("b.data", "hello"), ("c.data", "hello")]));
    assert!(buffers.iter().all(|buffer| buffer.files().is_empty()));
    for address in buffers.each_ref().map(ip) {
        let shown = format!(r#""source":"{NAME}:41121 ({address})""#);
        assert!(ended.stderr.contains(&shown), "{shown} is not in {}", ended.stderr);
    }
    assert!(centre.waiting().is_empty());
}

#[test]
fn one_that_is_away_holds_up_no_other() {
    let (one, two) = (buffer([("a.data", "a")]), buffer([("b.data", "b")]));
    let nobody = free_address();
    let centre = Centre::new(&[ip(&one), nobody, ip(&two)]);
    let ended = centre.pull_once();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains(&format!("{NAME}:41121 ({nobody})")), "{}", ended.stderr);
    assert_eq!(centre.found(), files([("a.data", "a"), ("b.data", "b")]));
}

#[test]
fn addresses_come_and_go_while_it_runs() {
    let (one, two) = (buffer([("a.data", "a")]), buffer([("b.data", "b")]));
    let centre = Centre::new(&[ip(&one)]);
    let mut puller = Process::spawn(centre.puller(&[]));
    eventually("the only one is pulled", || centre.found() == files([("a.data", "a")]));

    centre.name_stands_for(&[ip(&one), ip(&two)]);
    eventually("the second one is pulled", || centre.found().contains_key("b.data"));
    put(&one, [("c.data", "c")]);
    eventually("the first one is still pulled", || centre.found().contains_key("c.data"));

    centre.name_stands_for(&[ip(&two)]);
    let gone = format!("{NAME}:41121 ({})", ip(&one));
    puller.wait_for_line("the first one is let go", |line| {
        line.contains(&gone) && line.contains("no longer pulled")
    });
    put(&one, [("d.data", "d")]);
    put(&two, [("e.data", "e")]);
    eventually("the second one is pulled by itself", || centre.found().contains_key("e.data"));
    assert_eq!(one.files(), files([("d.data", "d")]), "the name does not stand for it any more");

    // A resolver that knows nothing is no reason to stop.
    centre.name_stands_for(&[]);
    puller.wait_for_line("the name is not found", |line| line.contains("the addresses that are known stay"));
    put(&two, [("f.data", "f")]);
    eventually("the known one is pulled", || centre.found().contains_key("f.data"));

    puller.signal(Signal::TERM);
    assert!(puller.wait().success());
    assert!(centre.waiting().is_empty());
}

#[test]
fn what_is_staged_is_settled_with_the_buffer_that_it_came_from() {
    // Of the same name in both: one forgot it, the other has its own.
    let (one, two) = (buffer([]), buffer([("a.1.data", "two")]));
    let centre = Centre::new(&[ip(&one), ip(&two)]);
    centre.staged(Some(ip(&one)), "a.1.data", "one");
    let ended = centre.pull_once();
    assert!(ended.status.success(), "{}", ended.stderr);
    let found = centre.found();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a.1.2.data", "a.1.data"]);
    assert!(centre.waiting().is_empty());
}

#[test]
fn what_is_staged_for_an_address_that_is_gone_is_one_file_with_that_of_its_buffers_new_address() {
    let (one, two) = (buffer([("z.data", "z")]), buffer([("a.data", "hello")]));
    let centre = Centre::new(&[ip(&one), ip(&two)]);
    centre.staged(Some(free_address()), "a.data", "hello");
    let ended = centre.pull_once();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(centre.found(), files([("a.data", "hello"), ("z.data", "z")]));
    assert!(ended.stderr.contains("is back at another address"), "{}", ended.stderr);
    let published = ended.stderr.matches(r#""name":"a.data""#).count();
    assert_eq!(published, 1, "fetched once: {}", ended.stderr);
    assert!(!ended.stderr.contains("none of the name's buffers"), "{}", ended.stderr);
    assert!(centre.waiting().is_empty());
}

#[test]
fn what_is_staged_for_an_address_that_is_gone_is_published_when_nobody_has_it() {
    let (one, two) = (buffer([]), buffer([("a.1.data", "another")]));
    let centre = Centre::new(&[ip(&one), ip(&two)]);
    let gone = free_address();
    centre.staged(Some(gone), "a.1.data", "hello");
    centre.staged(Some(gone), "b.data", "hello");
    let ended = centre.pull_once();
    assert!(ended.status.success(), "{}", ended.stderr);
    let found = centre.found();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a.1.2.data", "a.1.data", "b.data"]);
    assert_eq!(ended.stderr.matches("none of the name's buffers has it").count(), 2, "{}", ended.stderr);
    assert!(centre.waiting().is_empty());
    // And nothing is left of its folder.
    assert!(centre.pull_once().status.success());
    let left = names_in(&centre.incoming().join(format!(".tentacle~sync/{NAME}%3A41121")));
    assert!(!left.iter().any(|buffer| buffer.starts_with(&gone.to_string())), "{left:?}");
}

#[test]
fn what_is_staged_for_an_address_that_is_gone_waits_for_a_buffer_that_does_not_answer() {
    let (one, two) = (buffer([("z.data", "z")]), free_address());
    let centre = Centre::new(&[ip(&one), two]);
    centre.staged(Some(free_address()), "a.data", "hello");
    let ended = centre.pull_once();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("wait until each of the name's buffers"), "{}", ended.stderr);
    assert_eq!(centre.found(), files([("z.data", "z")]));
    assert_eq!(centre.waiting().len(), 1);
    // It has what was fetched from it at its last address.
    let two = Receiver::builder().address(two.into()).args(["-I", "-o"]).start();
    put(&two, [("a.data", "hello")]);
    let ended = centre.pull_once();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(centre.found(), files([("a.data", "hello"), ("z.data", "z")]));
    assert!(centre.waiting().is_empty() && two.files().is_empty());
}

#[test]
fn a_puller_that_goes_on_gives_a_buffer_time_to_come_back() {
    let (one, two) = (buffer([]), buffer([]));
    let centre = Centre::new(&[ip(&one), ip(&two)]);
    centre.staged(Some(free_address()), "a.data", "hello");
    let mut puller = Process::spawn(centre.puller(&["-v"]));
    // Both have been asked by the time that this one is here.
    for buffer in [&one, &two] {
        for round in ["1", "2"] {
            let name = format!("{}-{round}.data", ip(buffer));
            put(buffer, [(&name, "x")]);
            eventually("a round", || centre.found().contains_key(&name));
        }
    }
    assert!(!centre.found().contains_key("a.data"));
    // Here it is, at a new address.
    let three = buffer([("a.data", "hello")]);
    centre.name_stands_for(&[ip(&one), ip(&two), ip(&three)]);
    eventually("it is published", || centre.found().contains_key("a.data"));
    puller.wait_for_line("why", |line| line.contains("is back at another address"));
    eventually("it is one file", || three.files().is_empty() && centre.waiting().is_empty());
    puller.signal(Signal::TERM);
    assert!(puller.wait().success());
    assert!(!puller.lines().iter().any(|line| line.contains("none of the name's buffers")));
}

#[test]
fn a_buffer_that_is_killed_and_comes_back_at_another_address_gives_nothing_twice() {
    const FILES: usize = 400;
    const ROUNDS: usize = 4;
    let (other, volume) = (buffer([]), TempDir::new().unwrap());
    let centre = Centre::new(&[ip(&other)]);
    let mut puller = Process::spawn(centre.puller(&[]));
    let mut seen = BTreeMap::new();
    // As the data server does: it reads what is there, and removes it.
    let consume = |seen: &mut BTreeMap<String, usize>| {
        for name in centre.found().into_keys() {
            fs::remove_file(centre.incoming().join(&name)).unwrap();
            *seen.entry(name).or_default() += 1;
        }
        seen.len()
    };
    for round in 0..ROUNDS {
        for number in 0..FILES {
            fs::write(volume.path().join(format!("{round}-{number}.data")), format!("{round} {number}"))
                .unwrap();
        }
        // It is killed after some files, and again after some more.
        for part in [FILES / 4, FILES / 2, FILES] {
            let mut pod = Some(Receiver::builder().spool(volume.path()).args(["-I", "-o"]).start());
            centre.name_stands_for(&[ip(pod.as_ref().unwrap()), ip(&other)]);
            let wanted = round * FILES + part;
            eventually("files come", || {
                // What the buffer forgot as it died waits for it to say so.
                let count = consume(&mut seen) + centre.waiting().len();
                if part < FILES && count + 20 >= wanted {
                    pod.take().unwrap().kill();
                }
                pod.is_none() || count >= wanted
            });
            if round % 2 == 1 {
                puller.signal(Signal::KILL);
                puller.wait();
                puller = Process::spawn(centre.puller(&[]));
            }
            if part == FILES {
                eventually("it is emptied", || names_in(volume.path()) == [".tentacle~lock"]);
            }
            centre.name_stands_for(&[ip(&other)]);
        }
    }
    puller.signal(Signal::KILL);
    puller.wait();
    // Once all are asked that can be, nothing waits any longer.
    let ended = centre.pull_once();
    assert!(ended.status.success(), "{}", ended.stderr);
    consume(&mut seen);
    assert!(centre.waiting().is_empty());
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "came twice: {twice:?}");
    assert_eq!(seen.len(), ROUNDS * FILES);
}

#[test]
fn a_name_that_stood_for_one_buffer_settles_what_was_staged_then() {
    for several in [false, true] {
        let (one, two) = (buffer([("a.data", "hello")]), buffer([]));
        let addresses = if several { vec![ip(&one), ip(&two)] } else { vec![ip(&one)] };
        let centre = Centre::new(&addresses);
        centre.staged(None, "a.data", "hello");
        centre.staged(None, "forgotten.data", "hello");
        let ended = centre.pull_once();
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_eq!(centre.found(), files([("a.data", "hello"), ("forgotten.data", "hello")]));
        assert!(!ended.stderr.contains("named no more"), "{}", ended.stderr);
        assert!(centre.waiting().is_empty());
        // And the other way round.
        centre.staged(Some(ip(&two)), "b.data", "hello");
        centre.name_stands_for(&[ip(&one)]);
        assert!(centre.pull_once().status.success());
        assert!(centre.found().contains_key("b.data"));
    }
}

#[test]
fn the_name_is_what_a_certificate_must_have() {
    let pki = Pki::empty();
    pki.self_signed("server", Key::P256, NAME);
    pki.self_signed("stranger", Key::P256, "other.test");
    let secure = |file: &str, certificate: &str| {
        let buffer = Receiver::builder().args(["-I"]).args(pki.identity(certificate)).start();
        put(&buffer, [(file, "hello")]);
        buffer
    };
    let buffers = [secure("a.data", "server"), secure("b.data", "server"), secure("c.data", "stranger")];
    let centre = Centre::new(&buffers.each_ref().map(ip));
    let authorities = format!("{}{}", read(pki.certificate("server")), read(pki.certificate("stranger")));
    let file = centre.home.path().join("ca.pem");
    fs::write(&file, authorities).unwrap();
    let ended =
        run(centre.puller(&["--once", "--sync-ca", file.to_str().unwrap(), "--verify-name", "strict"]));
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(centre.found(), files([("a.data", "hello"), ("b.data", "hello")]), "{}", ended.stderr);
    let refused = format!("{NAME}:41121 ({})", ip(&buffers[2]));
    let said = ended.stderr.lines().any(|line| line.contains(&refused) && line.contains("round failed"));
    assert!(said, "{}", ended.stderr);
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_name_that_stands_for_nothing_is_said() {
    let centre = Centre::new(&[]);
    let ended = centre.pull_once();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains(&format!("\"source\":\"{NAME}:41121\"")), "{}", ended.stderr);
    assert!(ended.stderr.contains("the name cannot be looked up"), "{}", ended.stderr);
}
