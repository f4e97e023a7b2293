//! Addresses, the background, configuration files and layers.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::{PORT, Peer, Process, Receiver, eventually, free_address, free_port, program_command, run};

#[test]
fn every_address_and_name_is_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    let own = free_address();
    let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    // The loopback address is everybody's, so the port has to be a free one.
    let port = free_port();
    let mut addresses = vec![SocketAddr::from((own, port)), (Ipv4Addr::LOCALHOST, port).into()];
    let mut list = format!("{own}, localhost");
    if ipv6 {
        addresses.push((Ipv6Addr::LOCALHOST, port).into());
        list.push_str(",::1");
    }
    let mut command = program_command("tentacle-receiver");
    command.args(["-a", &list, "-p", &port.to_string(), "-s"]).arg(folder.path());
    let process = Process::spawn(command);
    for address in addresses {
        process.wait_for_line("listening", |line| line.contains(&format!("\"{address}\"")));
        let mut peer = Peer::connect(address);
        peer.store(&format!("{}.data", address.ip().to_string().replace(':', "-")), b"x");
        peer.quit();
    }
}

#[test]
fn the_last_connection_is_there_for_every_address() {
    let folder = tempfile::tempdir().unwrap();
    let addresses = [free_address(), free_address()];
    let mut command = program_command("tentacle-receiver");
    let list = addresses.map(|address| address.to_string()).join(",");
    command.args(["-c", "1", "-a", &list, "-s"]).arg(folder.path());
    let process = Process::spawn(command);
    process.wait_for_line("listening", |line| line.contains(&format!("\"{}:", addresses[1])));
    for (count, address) in addresses.into_iter().cycle().take(4).enumerate() {
        let mut peer = Peer::connect((address, PORT).into());
        peer.store(&format!("{count}.data"), b"x");
        peer.quit();
    }
}

#[test]
fn connections_are_not_bounded_by_what_a_shell_is_set_to() {
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 40 && exec \"$@\"", "sh"]).arg(tests::program("tentacle-receiver"));
    command.args(["-a", &address.to_string(), "-s"]).arg(folder.path());
    let process = Process::spawn(command);
    process.wait_for_line("listening", |line| line.contains("listening"));
    let mut peers: Vec<_> = (0..100).map(|_| Peer::connect((address, PORT).into())).collect();
    for peer in &mut peers {
        assert_eq!(peer.ask("RECV <none>"), "RECV ERR (file does not exist)");
    }
}

#[test]
fn both_names_are_the_same_program() {
    for name in ["tentacle-receiver", "tentacle_server"] {
        Receiver::builder().program(name).start().serves("a.data");
        let mut command = program_command(name);
        command.arg("-h");
        let help = run(command);
        assert!(help.status.success() && help.stdout.contains(name) && help.stderr.is_empty());
    }
}

#[test]
fn in_the_background_it_returns_once_it_listens() {
    let daemon = Daemon::new();
    let ended = run(daemon.command());
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""));
    let mut peer = Peer::connect(daemon.address());
    peer.store("a.data", b"x");
    peer.quit();
    assert_eq!(fs::read(daemon.folder.path().join("spool/a.data")).unwrap(), b"x");
    let log = daemon.folder.path().join("log");
    eventually("the log says so", || fs::read_to_string(&log).unwrap().contains("file stored"));
}

#[test]
fn in_the_background_what_ends_the_start_is_still_said() {
    let daemon = Daemon::new();
    let mut wrong = daemon.command();
    wrong.args(["-p", "0"]);
    let _taken = TcpListener::bind(daemon.address()).unwrap();
    for (command, said) in
        [(wrong, "a port is a whole number"), (daemon.command(), "another process listens there")]
    {
        let ended = run(command);
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stderr.contains(said) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
}

#[test]
fn the_stock_configuration_file_works_as_it_is() {
    let daemon = Daemon::new();
    let conf = daemon.folder.path().join("tentacle_server.conf");
    let stock = STOCK
        .replace("/var/spool/pandora/data_in", daemon.spool().to_str().unwrap())
        .replace("0.0.0.0", &daemon.address.to_string());
    fs::write(&conf, stock).unwrap();
    let mut command = program_command("tentacle_server");
    command.arg("-F").arg(&conf);
    let ended = run(command);
    assert!(ended.status.success(), "{}", ended.stderr);
    let mut peer = Peer::connect(daemon.address());
    let places = [
        ("a.conf", "conf"),
        ("a.md5", "md5"),
        ("a.zip", "collections"),
        ("a.lock", "trans"),
        ("a.rcmd", "commands"),
        ("x.agent_setup.exe", "agent"),
        ("x.agent_setup.tar.gz", "agent"),
    ];
    for (name, folder) in places {
        peer.store(name, b"x");
        assert_eq!(fs::read(daemon.spool().join(folder).join(name)).unwrap(), b"x");
    }
    peer.quit();
}

#[test]
fn a_higher_layer_overrides_the_lower_ones() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("tentacle_server.conf");
    fs::write(&conf, "max_size 5\nmax_size 1\noverwrite 1\n").unwrap();
    for (layers, bound) in [(0, 2_000_000), (1, 1), (2, 2), (3, 3), (4, 4)] {
        let mut builder = Receiver::builder();
        if layers >= 1 {
            builder = builder.args(["-F"]).args([&conf]);
        }
        if layers >= 2 {
            builder = builder.env("TENTACLE_MAX_SIZE", "2");
        }
        if layers >= 3 {
            builder = builder.env("TENTACLE_EXT_OPTS", "-m '3'");
        }
        if layers >= 4 {
            builder = builder.args(["-m", "4"]);
        }
        let receiver = builder.start();
        let mut peer = receiver.connect();
        assert_eq!(
            peer.ask(format!("SEND <a> SIZE {}", bound + 1)),
            "SEND ERR (file is too big)",
            "{layers}"
        );
        peer.store("a", vec![b'x'; bound]);
        peer.quit();
    }
}

/// A place for a receiver in the background, which is ended with it.
struct Daemon {
    folder: TempDir,
    address: Ipv4Addr,
}

impl Daemon {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("spool")).unwrap();
        Self { folder, address: free_address() }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn address(&self) -> SocketAddr {
        (self.address, PORT).into()
    }

    fn command(&self) -> Command {
        let mut command = program_command("tentacle_server");
        command.args(["-d", "-a", &self.address.to_string(), "-s"]).arg(self.spool());
        command.arg("-l").arg(self.folder.path().join("log"));
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = fs::read_to_string(self.spool().join(".tentacle~lock")).unwrap_or_default();
        let Some(id) = id.trim().parse().ok().and_then(Pid::from_raw) else { return };
        // One that never ran has left its id too.
        if Path::new("/proc").join(id.to_string()).exists() && kill_process(id, Signal::KILL).is_ok() {
            eventually("the daemon is gone", || TcpStream::connect(self.address()).is_err());
        }
    }
}

/// `docs/protocol.md`, "Configuration files".
const STOCK: &str = r"# Tentacle server

addresses 0.0.0.0
port 41121
#max_connections 10
daemon 1
# insecure 1
filters .*\.conf:conf;.*\.md5:md5;.*\.zip:collections;.*\.lock:trans;.*\.rcmd:commands;.*\.agent_setup\.exe:agent;.*\.agent_setup\.tar\.gz:agent
directory /var/spool/pandora/data_in
log_file /dev/null
#password password
";

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let receiver = Receiver::builder();
    let (address, mut command) = (receiver.listens_on(), receiver.command());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    eventually("it listens", || TcpStream::connect(address).is_ok());
    let mut peer = Peer::connect(address);
    for number in 0..1500 {
        // A pipe holds the lines of some hundred files.
        peer.store(&format!("{number}.data"), b"x");
    }
    peer.quit();
    process.kill().unwrap();
    process.wait().unwrap();
}
