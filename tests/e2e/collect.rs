//! The puller against our own receivers: collecting sites into a folder, or
//! on to a central server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    thread,
};

use tests::{Ended, Process, Receiver, eventually, files_below, program_command, run};

/// A buffer as the guides start it, holding these files.
fn site<const N: usize>(files: [(&str, &str); N]) -> Receiver {
    let site = Receiver::start(["-I", "-o"]);
    for (name, content) in files {
        fs::write(site.spool().join(name), content).unwrap();
    }
    site
}

/// One round from these sites.
fn pull(sites: &[&Receiver], arguments: &[&str]) -> Ended {
    let mut command = program_command("tentacle-sync-puller");
    command.args(["--once", "--sync-timeout", "2", "--sync-address", &addresses(sites)]).args(arguments);
    run(command)
}

fn addresses(sites: &[&Receiver]) -> String {
    sites.iter().map(|site| site.address().to_string()).collect::<Vec<_>>().join(",")
}

fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, Vec<u8>> {
    files.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec())).into()
}

/// What a consumer of the folder finds.
fn found(incoming: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files_below(incoming);
    files.retain(|name, _| !name.starts_with(".tentacle~"));
    files
}

#[test]
fn three_sites_are_emptied_into_one_folder() {
    let sites: Vec<_> = (1..=3).map(|_| site([])).collect();
    let mut all = BTreeMap::new();
    for (number, site) in sites.iter().enumerate() {
        for file in 0..200 {
            let (name, content) =
                (format!("s{number}-{file}.data"), format!("{number} {file}\n").repeat(400));
            fs::write(site.spool().join(&name), &content).unwrap();
            all.insert(name, content.into_bytes());
        }
    }
    let incoming = tempfile::tempdir().unwrap();
    let ended =
        pull(&sites.iter().collect::<Vec<_>>(), &["-q", "--incoming-dir", incoming.path().to_str().unwrap()]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(found(incoming.path()) == all);
    assert!(sites.iter().all(|site| site.files().is_empty()));
}

#[test]
fn a_receiver_of_ours_is_asked_for_mv_alone() {
    let site = site([("a.data", "hello")]);
    let incoming = tempfile::tempdir().unwrap();
    assert!(pull(&[&site], &["--incoming-dir", incoming.path().to_str().unwrap()]).status.success());
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
    let verbs: Vec<_> =
        site.log().iter().filter_map(|line| Some(line["verb"].as_str()?.to_owned())).collect();
    assert!(verbs.contains(&"MV".to_owned()), "{verbs:?}");
    // The question that settles the last file is the only other one.
    assert!(verbs.iter().filter(|verb| *verb == "RECV").count() <= 1, "{verbs:?}");
}

#[test]
fn folders_of_the_documented_filters_are_collected_when_named() {
    let site = Receiver::start(["-I", "-o", "-i", r".*\conf:conf;.*\md5:md5;.*\zip:collections"]);
    let mut agent = site.connect();
    for name in ["a.data", "a.conf", "a.md5", "c.zip"] {
        agent.store(name, name.as_bytes());
    }
    agent.quit();
    let incoming = tempfile::tempdir().unwrap();
    let folder = incoming.path().to_str().unwrap();
    let ended = pull(&[&site], &["--incoming-dir", folder, "--folders", "conf,md5,collections"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    let all = [
        ("a.data", "a.data"),
        ("conf/a.conf", "a.conf"),
        ("md5/a.md5", "a.md5"),
        ("collections/c.zip", "c.zip"),
    ];
    assert_eq!(found(incoming.path()), files(all));
    assert!(site.files().is_empty());
}

#[test]
fn files_go_on_to_a_central_server() {
    for mode in ["auto", "safe"] {
        let site = site([("a.data", "hello"), ("b.data", "world")]);
        let central = Receiver::start(["-x", "centre"]);
        let to = central.address().to_string();
        let arguments = ["--forward-to", &to, "--forward-password", "centre", "--sync-mode", mode];
        let ended = pull(&[&site], &arguments);
        assert!(ended.status.success(), "{mode}: {}", ended.stderr);
        assert_eq!(central.files(), files([("a.data", "hello"), ("b.data", "world")]));
        assert!(site.files().is_empty());
    }
}

#[test]
fn what_the_central_server_has_already_is_not_sent_twice_and_another_content_goes_beside() {
    for mode in ["auto", "safe"] {
        let site = site([("same.data", "same"), ("other.1.data", "new")]);
        let central = site_without_overwriting();
        fs::write(central.spool().join("same.data"), "same").unwrap();
        fs::write(central.spool().join("other.1.data"), "old").unwrap();
        let ended = pull(&[&site], &["--forward-to", &central.address().to_string(), "--sync-mode", mode]);
        assert!(ended.status.success(), "{mode}: {}", ended.stderr);
        let all = files([("same.data", "same"), ("other.1.data", "old"), ("other.1.2.data", "new")]);
        assert_eq!(central.files(), all);
        assert!(site.files().is_empty());
    }
}

fn site_without_overwriting() -> Receiver {
    Receiver::start(["-I"])
}

#[test]
fn without_the_central_server_files_stay_at_their_site() {
    let site = site([("a.data", "hello")]);
    let central = Receiver::start(["-m", "3"]);
    let ended = pull(&[&site], &["--forward-to", &central.address().to_string()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("the central server: the server refuses: file is too big"),
        "{}",
        ended.stderr
    );
    let address = central.address().to_string();
    central.kill();
    let ended = pull(&[&site], &["--forward-to", &address]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("the central server: cannot connect to"), "{}", ended.stderr);
    assert_eq!(site.files(), files([("a.data", "hello")]));
}

#[test]
fn a_file_whose_name_is_taken_while_it_is_sent_on_stays_at_its_site() {
    let site = site([("a.data", "hello")]);
    let central = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = central.local_addr().unwrap().to_string();
    // As a server on which another sender was faster.
    let serving = thread::spawn(move || {
        let stream = central.accept().unwrap().0;
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut stream) = (String::new(), stream);
        lines.read_line(&mut line).unwrap();
        stream.write_all(b"SEND OK\n").unwrap();
        lines.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"SEND ERR (file already exists)\n").unwrap();
        line
    });
    let ended = pull(&[&site], &["--forward-to", &to]);
    assert_eq!(serving.join().unwrap(), "SEND <a.data> SIZE 5\n");
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(site.files(), files([("a.data", "hello")]), "it is nowhere else: {}", ended.stderr);
}

#[test]
fn a_file_that_an_ended_puller_had_sent_on_meanwhile_is_not_sent_under_another_name() {
    let site = site([("a.data", "hello")]);
    let central = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = central.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        let mut peer = central.accept().unwrap().0;
        let mut lines = BufReader::new(peer.try_clone().unwrap());
        let mut asked = Vec::new();
        for answer in ["SEND OK\n", "SEND ERR (file already exists)\n", "RECV SIZE 5\n", "hello"] {
            let mut line = String::new();
            match asked.len() {
                1 => lines.read_exact(&mut [0; 5]).unwrap(),
                _ => _ = lines.read_line(&mut line).unwrap(),
            }
            asked.push(line);
            peer.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    let ended = pull(&[&site], &["--forward-to", &to, "--sync-mode", "safe"]);
    assert_eq!(serving.join().unwrap(), ["SEND <a.data> SIZE 5\n", "", "RECV <a.data>\n", "RECV OK\n"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(site.files(), files([]));
}

#[test]
fn files_that_the_central_server_refuses_do_not_hold_up_the_others() {
    for mode in ["auto", "safe"] {
        let site = site([]);
        for number in 0..20 {
            fs::write(site.spool().join(format!("large-{number}.data")), "too large").unwrap();
            fs::write(site.spool().join(format!("small-{number}.data")), "fits").unwrap();
        }
        let central = Receiver::start(["-m", "4"]);
        let ended = pull(&[&site], &["--forward-to", &central.address().to_string(), "--sync-mode", mode]);
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(central.files().len(), 20, "{mode}: {}", ended.stderr);
        assert_eq!(site.files().len(), 20, "{mode}");
    }
}

#[test]
fn a_large_file_is_collected_and_sent_on() {
    let content = "0123456789abcdef".repeat(1_000_000);
    let site = site([("large.data", &content)]);
    let central = Receiver::start(["-I", "-m", "100000000"]);
    assert!(pull(&[&site], &["--forward-to", &central.address().to_string()]).status.success());
    let incoming = tempfile::tempdir().unwrap();
    assert!(pull(&[&central], &["--incoming-dir", incoming.path().to_str().unwrap()]).status.success());
    assert!(found(incoming.path()) == files([("large.data", &content)]));
}

#[test]
fn a_puller_that_goes_on_fetches_what_comes_later_and_drains_on_sigterm() {
    let site = site([]);
    let incoming = tempfile::tempdir().unwrap();
    let mut command = program_command("tentacle-sync-puller");
    command
        .args(["--interval", "1", "--sync-address", &addresses(&[&site]), "--incoming-dir"])
        .arg(incoming.path());
    let mut puller = Process::spawn(command);
    for name in ["a.data", "b.data"] {
        let mut agent = site.connect();
        agent.store(name, b"hello");
        agent.quit();
        eventually("the file arrives", || found(incoming.path()).contains_key(name));
    }
    puller.signal(rustix::process::Signal::TERM);
    assert!(puller.wait().success());
}
