//! A program that goes to the background. The test starts itself again as that program, by its first argument.

#![allow(clippy::unwrap_used, reason = "a test with a main of its own")]

use std::process::{Command, ExitCode, Output, Stdio};

use runtime::daemon::{self, Detached, ReadyHandle};

fn main() -> ExitCode {
    // cargo-nextest asks for the tests' names first.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("daemon: test");
        }
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("reports") => program(|ready| report_when_ready(ready, &arguments[1])),
        Some("fails") => program(|_| fail_before_ready()),
        Some("starts") => program(|_| start_a_child()),
        Some("child") => detach_again(),
        _ => {
            the_command_returns_when_the_daemon_is_ready();
            a_daemon_that_ends_first_gives_its_status();
            a_child_of_the_daemon_is_no_daemon();
            ExitCode::SUCCESS
        }
    }
}

fn the_command_returns_when_the_daemon_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());

    // The daemon holds neither of the pipes, else this would wait for as long as it lives.
    let output = call("reports", fifo.to_str().unwrap());
    assert!(output.status.success());
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));

    let report = std::fs::read_to_string(&fifo).unwrap();
    assert_eq!(report, "leads its session: true, stderr: /dev/null");
}

fn a_daemon_that_ends_first_gives_its_status() {
    let output = call("fails", "");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stderr, b"spool: no such folder\n");
}

fn a_child_of_the_daemon_is_no_daemon() {
    assert_eq!(call("starts", "").status.code(), Some(3));
}

fn call(role: &str, argument: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args([role, argument]).stdin(Stdio::null()).output().unwrap()
}

/// A program of which the daemon does `work`.
fn program(work: impl FnOnce(ReadyHandle) -> ExitCode) -> ExitCode {
    match daemon::detach(None).unwrap() {
        Detached::Parent(status) => status,
        Detached::Child(ready) => work(ready),
    }
}

fn report_when_ready(ready: ReadyHandle, fifo: &str) -> ExitCode {
    ready.ready().unwrap();
    let leads = rustix::process::getsid(None).unwrap() == rustix::process::getpid();
    let stderr = std::fs::read_link("/proc/self/fd/2").unwrap();
    std::fs::write(fifo, format!("leads its session: {leads}, stderr: {}", stderr.display())).unwrap();
    ExitCode::SUCCESS
}

fn fail_before_ready() -> ExitCode {
    eprintln!("spool: no such folder");
    ExitCode::from(7)
}

fn start_a_child() -> ExitCode {
    let child = std::env::current_exe().unwrap();
    let status = Command::new(child).arg("child").status().unwrap();
    ExitCode::from(u8::try_from(status.code().unwrap()).unwrap())
}

/// Where the mark had an effect, this would be a daemon at once; it starts its own instead.
fn detach_again() -> ExitCode {
    match daemon::detach(None).unwrap() {
        Detached::Parent(_) => ExitCode::from(3),
        Detached::Child(ready) => {
            ready.ready().unwrap();
            ExitCode::SUCCESS
        }
    }
}
