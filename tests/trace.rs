//! What a program asks of the system, as strace(1) sees it, and faults that
//! it puts in.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::Signal;
use tempfile::NamedTempFile;

use crate::{Process, eventually, run};

/// The finished calls of a program and its threads, as they ended.
#[derive(Debug)]
pub struct Trace {
    /// In the order of their ends.
    pub calls: Vec<Call>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Such as `fsync`.
    pub name: String,
    /// What stood between its parentheses: paths behind descriptors, bytes
    /// with C's escapes.
    pub arguments: String,
    /// What came back: a number, `-1 EIO (...)`.
    pub result: String,
    /// The line of the log in which it began.
    pub begin: usize,
    /// The line in which it ended.
    pub end: usize,
}

/// Faults that a running program meets until they end.
#[derive(Debug)]
pub struct Injection {
    strace: Process,
    log: NamedTempFile,
}

/// What to run a program under, so that its calls come into `log`. It stays
/// the child of whoever starts it.
pub fn traced(log: &Path, calls: &str) -> Vec<OsString> {
    check_strace();
    let mut command: Vec<OsString> =
        ["strace", "-D", "-f", "-y", "-q", "-s", "64", "-o"].map(OsString::from).into();
    command.extend([
        log.into(),
        "-e".into(),
        format!("trace={calls}").into(),
        "-e".into(),
        "signal=none".into(),
    ]);
    command
}

impl Trace {
    /// Reads the log of a program that has ended.
    pub fn read(log: &Path) -> Self {
        let mut text = String::new();
        // Who traces ends after who is traced.
        eventually("strace has written everything", || {
            let before = std::mem::take(&mut text);
            text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
            text == before && text.lines().last().is_some_and(|line| line.contains("+++"))
        });
        Self::parse(&text)
    }

    /// Reads a log: lines of a thread's id and a call, or half of one.
    pub fn parse(log: &str) -> Self {
        let (mut calls, mut begun) = (Vec::new(), HashMap::new());
        for (number, line) in log.lines().enumerate() {
            let Some((thread, rest)) = line.trim_start().split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(first) = rest.strip_suffix("<unfinished ...>") {
                begun.insert(thread.to_owned(), (number, first.trim_end().to_owned()));
                continue;
            }
            let (begin, whole) = match rest.strip_prefix("<... ") {
                Some(resumed) => {
                    let Some((begin, first)) = begun.remove(thread) else { continue };
                    let Some((_, second)) = resumed.split_once(" resumed>") else { continue };
                    (begin, first + second)
                }
                None => (number, rest.to_owned()),
            };
            // Its result is behind the last sign of it.
            let Some((call, result)) = whole.rsplit_once(" = ") else { continue };
            let Some((name, arguments)) = call.trim_end().split_once('(') else { continue };
            calls.push(Call {
                name: name.to_owned(),
                arguments: arguments.strip_suffix(')').unwrap_or(arguments).to_owned(),
                result: result.to_owned(),
                begin,
                end: number,
            });
        }
        Self { calls }
    }
}

impl Call {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        !self.result.starts_with("-1") && !self.result.starts_with('?')
    }

    /// What its first argument, a descriptor, stands for: a path, or
    /// `socket:[number]`.
    pub fn file(&self) -> &str {
        let inside = self.arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        inside.map_or("", |(file, _)| file)
    }

    /// Its arguments in quotes, as they are written.
    pub fn strings(&self) -> Vec<&str> {
        self.arguments.split('"').skip(1).step_by(2).collect()
    }
}

impl Injection {
    /// Has each of these calls fail with an error, such as `EIO`, in a program
    /// that runs: those on these paths alone, if there are any.
    pub fn into(program: u32, calls: &str, error: &str, paths: &[PathBuf]) -> Self {
        check_strace();
        let mut command = Command::new("strace");
        let log = NamedTempFile::new().unwrap();
        command.args(["-f", "-qq", "-p", &program.to_string(), "-o"]).arg(log.path());
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:error={error}")]);
        for path in paths {
            command.arg("-P").arg(path);
        }
        let injection = Self { strace: Process::spawn(command), log };
        eventually("every thread is traced", || threads(program).iter().all(|thread| is_traced(thread)));
        injection
    }

    /// Lets go of the program; how many calls have failed.
    pub fn end(mut self) -> usize {
        self.strace.signal(Signal::TERM);
        self.strace.wait();
        injected(self.log.path())
    }
}

/// How many faults a log of strace tells of.
pub fn injected(log: &Path) -> usize {
    fs::read_to_string(log).unwrap().matches("(INJECTED)").count()
}

/// Fails where programs cannot be traced.
fn check_strace() {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "true"]).stdout(Stdio::null());
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "strace is missing: install it by this system's package tool");
    let ended = run(command);
    assert!(
        ended.status.success(),
        "strace may not trace here: allow ptrace(2), such as by --cap-add SYS_PTRACE ({})",
        ended.stderr.trim()
    );
}

fn threads(program: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{program}/task")).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}

fn is_traced(thread: &Path) -> bool {
    // One that has ended meanwhile needs no tracing.
    let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_none_or(|tracer| tracer.trim() != "0")
}
