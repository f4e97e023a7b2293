//! Old and new: what a released version left on a disk is read by this one,
//! and the programs of two versions work in every pair.
//!
//! `TORTURE_OTHER_PROGRAMS` names the folder of another version's programs;
//! without it, those of this build stand in for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{
    Ended, PORT, Peer, Process, Receiver, command, files_below, free_address, left_aside, program, run,
};

/// A folder of programs.
#[derive(Clone, Debug)]
struct Version(PathBuf);

impl Version {
    fn this() -> Self {
        Self(program("tentacle-receiver").parent().unwrap().to_owned())
    }

    fn other() -> Self {
        env::var_os("TORTURE_OTHER_PROGRAMS").map_or_else(Self::this, |folder| Self(folder.into()))
    }

    /// This one and the other one.
    fn both() -> [Self; 2] {
        [Self::this(), Self::other()]
    }

    fn command(&self, name: &str) -> Command {
        command(&self.0.join(name))
    }

    fn receiver(&self, spool: &Path, address: Ipv4Addr) -> Process {
        let mut command = self.command("tentacle-receiver");
        command.args(["-I", "-o", "-x", "secret", "-i", r".*\.conf:conf", "-a", &address.to_string(), "-s"]);
        command.arg(spool);
        listening(command)
    }

    fn proxy(&self, to: Ipv4Addr, address: Ipv4Addr) -> Process {
        let mut command = self.command("tentacle-proxy");
        command.args(["-b", &to.to_string(), "-a", &address.to_string()]);
        listening(command)
    }

    fn client(&self, to: Ipv4Addr, folder: &Path, arguments: &[&str]) -> Ended {
        let mut command = self.command("tentacle_client");
        command.args(["-a", &to.to_string(), "-x", "secret"]).args(arguments).current_dir(folder);
        run(command)
    }

    fn pull(&self, from: &str, incoming: &Path, arguments: &[&str]) -> Ended {
        let mut command = self.command("tentacle-sync-puller");
        command.args(["--once", "--sync-timeout", "2", "--sync-retries", "0", "--sync-address", from]);
        command.args(arguments).arg("--incoming-dir").arg(incoming);
        run(command)
    }
}

fn listening(command: Command) -> Process {
    let process = Process::spawn(command);
    process.wait_for_line("listening", |line| line.contains(r#""message":"listening""#));
    process
}

/// What a consumer finds.
fn arrived(incoming: &Path) -> BTreeMap<String, Vec<u8>> {
    files_below(incoming)
}

#[test]
fn the_programs_of_two_versions_work_in_every_pair() {
    let mut pairs = 0;
    for receiver in Version::both() {
        for proxy in [None].into_iter().chain(Version::both().map(Some)) {
            for client in Version::both() {
                for puller in Version::both() {
                    files_pass(&receiver, proxy.as_ref(), &client, &puller);
                    pairs += 1;
                }
            }
        }
    }
    let versions = if Version::this().0 == Version::other().0 { "one version" } else { "two versions" };
    println!("counted: {pairs} combinations of client, proxy, receiver and puller of {versions}, 0 lost");
}

fn files_pass(receiver: &Version, proxy: Option<&Version>, client: &Version, puller: &Version) {
    let all = format!("receiver {receiver:?}, proxy {proxy:?}, client {client:?}, puller {puller:?}");
    let [spool, outbox, incoming, fetched] = [(); 4].map(|()| TempDir::new().unwrap());
    let address = free_address();
    let _receiver = receiver.receiver(spool.path(), address);
    let reached = if proxy.is_some() { free_address() } else { address };
    let _proxy = proxy.map(|proxy| proxy.proxy(address, reached));

    let names = ["a.data", "large.data", "z.data"];
    let sizes = [1, 1_500_000, 70_000];
    for (name, size) in names.iter().zip(sizes) {
        fs::write(outbox.path().join(name), content(name, size)).unwrap();
    }
    for arguments in [&names[..2], &["-z", names[2]]] {
        let ended = client.client(reached, outbox.path(), arguments);
        assert!(ended.status.success(), "{all}: {}", ended.stderr);
    }
    let ended = client.client(reached, fetched.path(), &["-g", names[0]]);
    assert!(ended.status.success(), "{all}: {}", ended.stderr);
    assert_eq!(arrived(fetched.path()), files_of(&[(names[0], 1)]), "{all}");

    let ended = puller.pull(&reached.to_string(), incoming.path(), &["-x", "secret"]);
    assert!(ended.status.success(), "{all}: {}", ended.stderr);
    let sent: Vec<_> = names.into_iter().zip(sizes).collect();
    assert!(arrived(incoming.path()) == files_of(&sent), "{all}");
    assert!(files_below(spool.path()).is_empty(), "{all}");
}

#[test]
fn a_spool_goes_from_one_version_to_the_other_and_back() {
    for (first, second) in [(Version::this(), Version::other()), (Version::other(), Version::this())] {
        let (spool, address) = (TempDir::new().unwrap(), free_address());
        let mut killed = first.receiver(spool.path(), address);
        let mut peer = Peer::connect(SocketAddr::from((address, PORT)));
        assert_eq!(peer.ask(pass()), "PASS OK");
        peer.store("a.data", content("a.data", 5000));
        peer.store("a.conf", content("a.conf", 10));
        assert_eq!(peer.ask("SEND <torso.data> SIZE 900000"), "SEND OK");
        peer.send(vec![b't'; 600_000]);
        tests::eventually("a part of it is on the disk", || !left_aside(spool.path()).is_empty());
        killed.signal(Signal::KILL);
        killed.wait();

        let _second = second.receiver(spool.path(), address);
        assert_eq!(left_aside(spool.path()), [""; 0]);
        let incoming = TempDir::new().unwrap();
        let arguments = ["-x", "secret", "--folders", "conf"];
        let ended = second.pull(&address.to_string(), incoming.path(), &arguments);
        assert!(ended.status.success(), "{}", ended.stderr);
        let mut sent = files_of(&[("a.data", 5000)]);
        sent.insert("conf/a.conf".into(), content("a.conf", 10));
        assert!(arrived(incoming.path()) == sent);
    }
}

#[test]
fn what_one_version_has_staged_is_settled_by_the_other() {
    for (first, second) in [(Version::this(), Version::other()), (Version::other(), Version::this())] {
        let incoming = TempDir::new().unwrap();
        // It hands a file out, and is gone when the next command shows that
        // the reader has it.
        let source = dying_source();
        let ended = first.pull(&source, incoming.path(), &[]);
        assert!(!ended.status.success(), "{}", ended.stderr);
        assert!(arrived(incoming.path()).is_empty(), "it is staged, and not published");
        let ended = second.pull(&source, incoming.path(), &[]);
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_eq!(arrived(incoming.path()), files_of(&[("a.data", 4000)]));
    }
}

/// The first connection ends after the command that follows `MV`'s body;
/// the others find an empty buffer. Returns its address.
fn dying_source() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut gone = false;
        for stream in listener.incoming() {
            gone |= serve(&stream.unwrap(), gone);
        }
    });
    address
}

/// Whether the file was handed out.
fn serve(stream: &TcpStream, gone: bool) -> bool {
    let mut lines = BufReader::new(stream);
    let mut handed_out = false;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap_or(0) == 0 || handed_out {
            return handed_out;
        }
        let list = if gone { ".\n..\n" } else { "a.data\n.\n..\n" };
        let answer = match line.trim_end() {
            "FEATURES" => b"FEATURES OK two-phase-mv\n".to_vec(),
            "LS OK" => list.into(),
            "MV OK" => {
                handed_out = true;
                content("a.data", 4000)
            }
            command if command.starts_with("LS") => format!("LS SIZE {}\n", list.len()).into(),
            command if command.starts_with("MV") && !gone => b"MV SIZE 4000\n".to_vec(),
            command if command.starts_with("RECV") => b"RECV ERR (file not found)\n".to_vec(),
            _ => return handed_out,
        };
        let mut stream = stream;
        stream.write_all(&answer).unwrap();
    }
}

#[test]
fn a_spool_of_every_released_version_is_read() {
    for version in released() {
        let spool = copied(&version.join("buffer"));
        let receiver = Receiver::builder().args(["-I", "-i", r".*\.conf:conf"]).spool(spool.path()).start();
        for folder in ["", "conf"] {
            assert_eq!(left_aside(&spool.path().join(folder)), [""; 0], "{version:?}");
        }
        let kept = files_below(&version.join("buffer"));
        let mut peer = receiver.connect();
        for (path, content) in &kept {
            let name = path.rsplit('/').next().unwrap();
            assert!(peer.fetch("MV", name) == *content, "{version:?}: {name}");
        }
        peer.quit();
        tests::eventually("what was moved is gone", || receiver.files().is_empty());
    }
}

#[test]
fn what_every_released_version_has_staged_is_published() {
    for version in released() {
        let site = Receiver::start(["-I"]);
        let incoming = copied(&version.join("incoming"));
        let staging = incoming.path().join(".tentacle~sync");
        let source = site.address().to_string().replace(':', "%3A");
        fs::rename(staging.join("SOURCE"), staging.join(source)).unwrap();
        let ended = Version::this().pull(&site.address().to_string(), incoming.path(), &[]);
        assert!(ended.status.success(), "{version:?}: {}", ended.stderr);
        let staged =
            BTreeMap::from([("staged.data".into(), b"staged, and forgotten by its buffer\n".to_vec())]);
        assert_eq!(arrived(incoming.path()), staged, "{version:?}");
    }
}

fn released() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/spools");
    let versions = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let versions: Vec<_> = versions.filter(|path| path.is_dir()).collect();
    assert!(!versions.is_empty());
    versions
}

fn copied(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    let done = Command::new("cp").arg("-r").arg(folder.join(".")).arg(copy.path()).status().unwrap();
    assert!(done.success());
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

fn files_of(files: &[(&str, usize)]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, size)| ((*name).to_owned(), content(name, *size))).collect()
}

fn content(name: &str, size: usize) -> Vec<u8> {
    name.bytes().cycle().take(size).collect()
}

/// `PASS` with the digest of the password (the protocol's page).
fn pass() -> String {
    let digest = protocol::PasswordDigest::of(b"secret").to_hex();
    format!("PASS {}", String::from_utf8_lossy(&digest))
}
