//! Running the commands of a section in a folder of its own.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tests::{PORT, eventually, free_address, program};

use crate::page::Section;

/// Runs a section's blocks, one after the other in one shell.
///
/// # Errors
/// What was not as the page shows it.
pub(crate) fn run(section: &Section) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let printed = tempfile::tempdir().unwrap();
    let started = Started(folder.path().canonicalize().unwrap());
    let address = Addresses::of(section);
    // Without a terminal, wherever the test runs.
    let mut command = Command::new("setsid");
    command.args(["timeout", LONGEST, "sh", "-euc", &script(section, printed.path(), &address)]);
    command.current_dir(folder.path());
    command.env("PATH", path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for (variable, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TENTACLE_"))
    {
        command.env_remove(variable);
    }
    // What stands on the page is what a terminal shows.
    command.env("TENTACLE_LOG_FORMAT", "human");
    let ended = command.spawn().unwrap().wait_with_output().unwrap();
    for (number, block) in section.blocks.iter().enumerate() {
        let Ok(output) = fs::read(printed.path().join(number.to_string())) else { break };
        let output = address.as_on_the_page(&String::from_utf8_lossy(&output));
        let last = !printed.path().join((number + 1).to_string()).exists();
        if last && !ended.status.success() {
            return Err(format!("{} ends by {}:\n{output}", block.commands, ended.status));
        }
        if !block.agrees(&output) {
            let shown = block.shown.as_deref().unwrap_or_default();
            return Err(format!("{}\n--- shown:\n{shown}\n--- printed:\n{output}", block.commands));
        }
    }
    if !ended.status.success() {
        return Err(format!("{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr)));
    }
    eventually("what a section starts, it stops", || started.processes().is_empty());
    Ok(())
}

/// Each block prints to a file of its own; variables and background jobs
/// last to the section's end, as in a reader's shell.
fn script(section: &Section, printed: &Path, addresses: &Addresses) -> String {
    let block = |(number, block): (usize, &crate::page::Block)| {
        format!("{{\n{}}} > {}/{number} 2>&1\n", addresses.as_here(&block.commands), printed.display())
    };
    section.blocks.iter().enumerate().map(block).collect()
}

fn path() -> std::ffi::OsString {
    let programs = program("tentacle_server").parent().unwrap().to_owned();
    let system = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(programs).chain(env::split_paths(&system))).unwrap()
}

/// The page's address of a section, or another one where that is taken: by
/// another run of this test, for one.
struct Addresses {
    on_page: Option<String>,
    here: String,
    /// Keeps other runs away.
    _claim: Option<Socket>,
}

// === impl Addresses ===

impl Addresses {
    fn of(section: &Section) -> Self {
        let text: String = section.blocks.iter().map(|block| block.commands.as_str()).collect();
        let Some(start) = text.find(NET) else {
            return Self { on_page: None, here: String::new(), _claim: None };
        };
        let end = text[start + NET.len()..].find(|c: char| !c.is_ascii_digit());
        let on_page = text[start..].split_at(NET.len() + end.unwrap_or_default()).0.to_owned();
        let address: Ipv4Addr = on_page.parse().unwrap();
        let claim = bind(address, CLAIM, false).filter(|_| bind(address, PORT, true).is_some());
        let here = if claim.is_some() { on_page.clone() } else { free_address().to_string() };
        Self { on_page: Some(on_page), here, _claim: claim }
    }

    fn as_here(&self, text: &str) -> String {
        self.on_page.as_ref().map_or_else(|| text.to_owned(), |on_page| text.replace(on_page, &self.here))
    }

    fn as_on_the_page(&self, text: &str) -> String {
        self.on_page.as_ref().map_or_else(|| text.to_owned(), |on_page| text.replace(&self.here, on_page))
    }
}

fn bind(address: Ipv4Addr, port: u16, reuse: bool) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(reuse).unwrap();
    socket.bind(&std::net::SocketAddr::from((address, port)).into()).is_ok().then_some(socket)
}

/// The processes that work in a section's folder; ended with it.
struct Started(PathBuf);

// === impl Started ===

impl Started {
    fn processes(&self) -> Vec<Pid> {
        let works_here = |pid: &Pid| {
            fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()))
                .is_ok_and(|cwd| cwd.starts_with(&self.0))
        };
        let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
        let pids = names.filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?));
        pids.filter(works_here).collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// Seconds that a section may take.
const LONGEST: &str = "90";

/// How the page's addresses begin.
const NET: &str = "127.0.11.";

/// A port of the page's addresses that no service has.
const CLAIM: u16 = 41120;
