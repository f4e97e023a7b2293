//! A receiver on a spool and an address of its own, or a proxy.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    PATIENCE, Peer,
    contents::files_below,
    process::{Ended, Process, run},
    programs::{free_address, program, program_under, without_options},
};

/// A receiver that accepts connections; ended when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    process: Process,
    address: SocketAddr,
    spool: PathBuf,
    /// Removed with its content, after the process has ended.
    _folder: Option<TempDir>,
}

/// How a receiver is started.
#[derive(Debug)]
pub struct Builder {
    program: &'static str,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    address: IpAddr,
    port: u16,
    /// None of a proxy's.
    keeps_files: bool,
    spool: PathBuf,
    folder: Option<TempDir>,
    /// Options of the file system that is mounted on the spool.
    tmpfs: Option<&'static str>,
    hosts: Option<PathBuf>,
    /// A program, with its arguments, that runs the receiver.
    under: Vec<OsString>,
}

impl Receiver {
    /// `tentacle_server` on an address of its own and an empty spool.
    pub fn builder() -> Builder {
        let folder = TempDir::new().unwrap();
        Builder {
            program: "tentacle_server",
            arguments: Vec::new(),
            environment: Vec::new(),
            address: free_address().into(),
            port: PORT,
            keeps_files: true,
            spool: folder.path().to_owned(),
            folder: Some(folder),
            tmpfs: None,
            hosts: None,
            under: Vec::new(),
        }
    }

    /// `tentacle-proxy` on an address of its own, to these upstreams.
    pub fn proxy_to<A: ToString>(upstreams: impl IntoIterator<Item = A>) -> Builder {
        let upstreams: Vec<_> = upstreams.into_iter().map(|upstream| upstream.to_string()).collect();
        let proxy = Builder { program: "tentacle-proxy", keeps_files: false, ..Self::builder() };
        proxy.args(["-b", &upstreams.join(",")])
    }

    /// One with these options beside `-a` and `-s`.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::builder().args(arguments).start()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its spool.
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// The files in its spool.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files_below(&self.spool)
    }

    /// A connection to it.
    pub fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its log so far; every line of it is a JSON object.
    pub fn log(&self) -> Vec<Value> {
        self.process.lines().iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Waits for a line of its log whose message contains `text`.
    pub fn wait_for_log(&self, text: &str) -> Value {
        let says = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["message"].as_str().is_some_and(|message| message.contains(text))
        };
        serde_json::from_str(&self.process.wait_for_line(text, says)).unwrap()
    }

    /// A file of this name and content goes in and comes out again: the
    /// service works.
    #[track_caller]
    pub fn serves(&self, name: &str) {
        let mut peer = self.connect();
        peer.store(name, b"still here");
        assert_eq!(peer.fetch("RECV", name), b"still here");
        peer.quit();
        std::fs::remove_file(self.spool.join(name)).unwrap();
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }

    /// Waits until it has ended, after it was asked to.
    pub fn wait(mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Ends it at once, by SIGKILL.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }
}

impl Builder {
    /// Starts the program of this name.
    pub fn program(mut self, name: &'static str) -> Self {
        self.program = name;
        self
    }

    /// More arguments, before those for the address and the spool.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A spool that somebody else removes.
    pub fn spool(mut self, path: &Path) -> Self {
        self.spool = path.to_owned();
        self.folder = None;
        self
    }

    /// The address that another receiver has.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// A port of an address that others have too.
    pub fn at(mut self, address: SocketAddr) -> Self {
        (self.address, self.port) = (address.ip(), address.port());
        self
    }

    /// Mounts a file system in memory on the spool, with these options of
    /// mount(8), which this process alone sees: it vanishes with it.
    pub fn on_tmpfs(mut self, options: &'static str) -> Self {
        self.tmpfs = Some(options);
        self
    }

    /// Names that it knows, in the form of hosts(5), in place of the machine's:
    /// the file may be written again.
    pub fn with_hosts(mut self, hosts: &Path) -> Self {
        self.hosts = Some(hosts.to_owned());
        // The others are not worth waiting for.
        self.env("RES_OPTIONS", "timeout:1 attempts:1")
    }

    /// Runs it by another program, which stays out of its way.
    pub fn under(mut self, command: Vec<OsString>) -> Self {
        self.under = command;
        self
    }

    /// Where it will keep files.
    pub fn spool_path(&self) -> &Path {
        &self.spool
    }

    /// Where it will listen.
    pub fn listens_on(&self) -> SocketAddr {
        (self.address, self.port).into()
    }

    /// The call.
    pub fn command(&self) -> Command {
        let mut mounts = String::new();
        if let Some(options) = self.tmpfs {
            mounts += &format!("mount -t tmpfs -o {options} tentacle \"$1\" && ");
        }
        if self.hosts.is_some() {
            mounts += "mount --bind \"$2\" /etc/hosts && ";
        }
        let mut command = match mounts.is_empty() {
            true => program_under(&self.under, self.program),
            false => {
                let mut command = without_options(Command::new("unshare"));
                let script = format!("{mounts}shift 2 && exec \"$@\"");
                command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
                command
                    .arg(&self.spool)
                    .arg(self.hosts.as_deref().unwrap_or(Path::new("")))
                    .arg(program(self.program));
                command
            }
        };
        command.args(&self.arguments);
        command.arg("-a").arg(self.address.to_string());
        if self.keeps_files {
            command.arg("-s").arg(&self.spool);
        }
        if self.port != PORT {
            command.arg("-p").arg(self.port.to_string());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it, and waits until it accepts connections.
    pub fn start(self) -> Receiver {
        let process = Process::spawn(self.command());
        process.wait_for_line(
            "listening (where a file system is mounted: needs root, or user namespaces)",
            |line| line.contains(r#""message":"listening""#),
        );
        let spool = match self.tmpfs {
            None => self.spool.clone(),
            // The mount is in the process's own namespace.
            Some(_) => {
                let inside = self.spool.strip_prefix("/").unwrap();
                Path::new("/proc").join(process.id().to_string()).join("root").join(inside)
            }
        };
        Receiver { process, address: self.listens_on(), spool, _folder: self.folder }
    }

    /// Starts it in vain: exit status 1, and one line on standard error,
    /// which is returned.
    #[track_caller]
    pub fn refused(self) -> String {
        let Ended { status, stdout, stderr } = run(self.command());
        assert_eq!(status.code(), Some(1), "within {PATIENCE:?}: {stderr}");
        assert_eq!(stdout, "");
        let errors: Vec<_> = stderr.lines().filter(|line| line.contains("error:")).collect();
        assert_eq!(errors.len(), 1, "{stderr}");
        let logged = stderr.lines().filter(|line| line.starts_with('{'));
        assert_eq!(stderr.lines().count(), 1 + logged.count(), "{stderr}");
        errors[0].to_owned()
    }
}

/// The port that a receiver listens on, unless it is told another.
pub const PORT: u16 = 41121;
