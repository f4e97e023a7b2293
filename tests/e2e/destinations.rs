//! Where the puller's files go: for each source by itself, to central servers
//! by turns, and nowhere while a destination takes none; and what sources get
//! of the puller's connections.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{Process, Receiver, eventually, files_below, program_command, run};

/// A buffer as the guides start it, holding so many small files.
fn site(begin: &str, count: usize) -> Receiver {
    let site = Receiver::start(["-I", "-o", "-q"]);
    put(&site, begin, 0..count);
    site
}

fn put(site: &Receiver, begin: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        fs::write(site.spool().join(format!("{begin}-{number}.data")), content(begin, number)).unwrap();
    }
}

fn content(begin: &str, number: usize) -> Vec<u8> {
    format!("{begin} {number}\n").repeat(200).into_bytes()
}

fn all(begin: &str, count: usize) -> BTreeMap<String, Vec<u8>> {
    (0..count).map(|number| (format!("{begin}-{number}.data"), content(begin, number))).collect()
}

fn puller(arguments: &[&str]) -> Command {
    let mut command = program_command("tentacle-sync-puller");
    command.args(["--interval", "1", "--sync-timeout", "2"]).args(arguments);
    command
}

/// What a consumer of the folder finds.
fn found(incoming: &Path) -> BTreeMap<String, Vec<u8>> {
    files_below(incoming)
}

/// How many names are in a folder, without the spool's own.
fn count(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| !name.to_string_lossy().starts_with(".tentacle~")).count()
}

/// What both have together, and that neither has what the other has.
fn together(one: &Path, other: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut one, other) = (files_below(one), files_below(other));
    for (name, content) in other {
        assert!(one.insert(name.clone(), content).is_none(), "{name} came twice");
    }
    one
}

fn yaml(home: &TempDir, text: &str) -> PathBuf {
    let path = home.path().join("sources.yaml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_files_of_each_source_go_where_it_says() {
    let (one, two, three) = (site("one", 3), site("two", 3), site("three", 3));
    let four = site("four", 3);
    let (home, central) = (TempDir::new().unwrap(), Receiver::start(["-x", "centre"]));
    let (shared, own) = (home.path().join("shared"), home.path().join("own"));
    fs::create_dir(&shared).unwrap();
    fs::create_dir(&own).unwrap();
    let yaml = yaml(
        &home,
        &format!(
            "incoming_dir: {}\nsources:\n  - address: {}\n  - {{address: '{}', incoming_dir: {}, overwrite: true}}\n  \
             - {{address: '{}', forward_to: '{}', forward_password: centre}}\n  - address: {}\n",
            shared.display(),
            one.address(),
            two.address(),
            own.display(),
            three.address(),
            central.address(),
            four.address(),
        ),
    );
    fs::write(own.join("two-0.data"), "old").unwrap();
    let ended = run(puller(&["--once", "--config", yaml.to_str().unwrap()]));
    assert!(ended.status.success(), "{}", ended.stderr);
    let mut both = all("one", 3);
    both.extend(all("four", 3));
    assert_eq!(found(&shared), both);
    assert_eq!(found(&own), all("two", 3));
    assert_eq!(central.files(), all("three", 3));
}

#[test]
fn a_destination_that_is_gone_stops_no_other() {
    let (one, two) = (site("one", 3), site("two", 3));
    let (home, nobody) = (TempDir::new().unwrap(), tests::free_port());
    let yaml = yaml(
        &home,
        &format!(
            "incoming_dir: {}\nsources:\n  - {{address: '{}', forward_to: '127.0.0.1:{nobody}'}}\n  - address: {}\n",
            home.path().display(),
            one.address(),
            two.address(),
        ),
    );
    let process = Process::spawn(puller(&["--config", yaml.to_str().unwrap()]));
    process.wait_for_line("the pause", |line| line.contains("pulling into it pauses"));
    put(&two, "two", 3..6);
    eventually("the other's files come", || two.files().is_empty());
    assert_eq!(one.files(), all("one", 3));
}

#[test]
fn central_servers_take_turns_and_none_is_lost_or_doubled_when_one_is_killed() {
    const FILES: usize = 1500;
    let site = site("s", FILES);
    let (first, second) = (Receiver::start(["-q"]), Receiver::start(["-q"]));
    let spools = [first.spool().to_owned(), second.spool().to_owned()];
    // It comes back where it was, with what it had.
    let (kept, address) = (TempDir::new().unwrap(), first.address());
    drop(first);
    let first = Receiver::builder().spool(kept.path()).at(address).args(["-q"]).start();
    let spools = [kept.path().to_owned(), spools[1].clone()];
    let servers = format!("{address}, {}", second.address());
    let mut process =
        Process::spawn(puller(&["--sync-address", &site.address().to_string(), "--forward-to", &servers]));
    eventually("both have some", || spools.iter().all(|spool| count(spool) > 50));
    first.kill();
    process.wait_for_line("it is passed over", |line| line.contains("the central server is passed over"));
    let before = count(&spools[1]);
    eventually("the other goes on", || count(&spools[1]) > before + 20 || count(site.spool()) < 5);
    // What was offered to the dead one waits for it.
    let _first = Receiver::builder().spool(kept.path()).at(address).args(["-q"]).start();
    eventually("all have come", || count(site.spool()) == 0);
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    assert!(together(&spools[0], &spools[1]) == all("s", FILES));
}

#[test]
fn with_all_central_servers_dead_files_stay_until_one_is_back() {
    let site = site("s", 20);
    let address = tests::free_address();
    let dead = format!("127.0.0.1:{},{address}", tests::free_port());
    let arguments = ["--sync-address", &site.address().to_string(), "--forward-to", &dead];
    let process = Process::spawn(puller(&arguments));
    let line = process.wait_for_line("the pause", |line| line.contains("pulling into it pauses"));
    assert!(line.contains("WARN") && line.contains("the central server: cannot connect to"), "{line}");
    assert_eq!(site.files().len(), 20);
    let central = Receiver::builder().address(address.into()).args(["-q"]).start();
    process.wait_for_line("it goes on", |line| line.contains("pulling goes on"));
    eventually("all have come", || central.files().len() == 20);
    eventually("the site is empty", || site.files().is_empty());
    assert_eq!(central.files(), all("s", 20));
}

#[test]
fn a_full_central_server_is_passed_over_and_with_all_full_files_stay() {
    let site = site("s", 1);
    let full = || Receiver::builder().args(["--reserve-space", "900KiB"]).on_tmpfs("size=1m").start();
    let (one, two) = (full(), full());
    for receiver in [&one, &two] {
        fs::write(receiver.spool().join("filler"), vec![0; 400 << 10]).unwrap();
    }
    let servers = format!("{},{}", one.address(), two.address());
    let arguments = ["--sync-address", &site.address().to_string(), "--forward-to", &servers];
    let process = Process::spawn(puller(&arguments));
    let line = process.wait_for_line("the pause", |line| line.contains("pulling into it pauses"));
    assert!(line.contains("no space left on the server"), "{line}");
    assert_eq!(site.files(), all("s", 1));
    fs::remove_file(two.spool().join("filler")).unwrap();
    eventually("it comes", || two.files() == all("s", 1));
    eventually("the site is empty", || site.files().is_empty());
    assert_eq!(one.files().keys().collect::<Vec<_>>(), ["filler"]);
}

#[test]
fn a_full_incoming_folder_pauses_all_of_its_sources_and_they_go_on_with_room() {
    let (one, two) = (site("one", 2), site("two", 2));
    let home = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=64k tentacle \"$1\" && head -c 100000 /dev/zero > \"$1/filler\"; shift && exec \"$@\"";
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(home.path());
    command.arg(tests::program("tentacle-sync-puller"));
    command.args(["--interval", "1", "--sync-address", &format!("{},{}", one.address(), two.address())]);
    command.arg("--incoming-dir").arg(home.path());
    let process = Process::spawn(command);
    let line = process.wait_for_line("the pause (needs root, or user namespaces)", |line| {
        line.contains("pulling into it pauses")
    });
    assert!(line.contains("No space left"), "{line}");
    let seen = Path::new("/proc").join(process.id().to_string()).join("root");
    let incoming = seen.join(home.path().strip_prefix("/").unwrap());
    fs::remove_file(incoming.join("filler")).unwrap();
    process.wait_for_line("it goes on", |line| line.contains("pulling goes on"));
    eventually("all have come", || one.files().is_empty() && two.files().is_empty());
    let mut both = all("one", 2);
    both.extend(all("two", 2));
    eventually("all are published", || found(&incoming).len() == 4);
    assert_eq!(found(&incoming), both);
}

#[test]
fn with_once_a_destination_that_takes_nothing_is_a_failure_and_no_wait() {
    let site = site("s", 2);
    let nobody = format!("127.0.0.1:{}", tests::free_port());
    let ended =
        run(puller(&["--once", "--sync-address", &site.address().to_string(), "--forward-to", &nobody]));
    assert_eq!(ended.status.code(), Some(1));
    assert!(!ended.stderr.contains("pauses"), "{}", ended.stderr);
    assert_eq!(site.files().len(), 2);
}

#[test]
fn a_large_site_does_not_starve_a_small_one() {
    const MANY: usize = 20_000;
    let (large, small) = (site("large", MANY), site("small", 0));
    let incoming = TempDir::new().unwrap();
    let mut command = puller(&["-q", "--max-connections", "1", "--sync-address"]);
    command.arg(format!("{},{}", large.address(), small.address()));
    command.arg("--incoming-dir").arg(incoming.path());
    let mut process = Process::spawn(command);
    eventually("the large one is under way", || count(large.spool()) < MANY - 100);
    put(&small, "small", 0..3);
    let began = Instant::now();
    eventually("the small one is emptied", || count(small.spool()) == 0);
    eventually("its files are there", || incoming.path().join("small-2.data").exists());
    let left = count(large.spool());
    assert!(left > 0, "it waited for the large one: {:?}", began.elapsed());
    eventually("the large one goes on", || count(large.spool()) < left);
    process.signal(Signal::TERM);
    assert!(process.wait().success());
}
