//! A program that drains. The test starts itself again as that program, by its first argument.

#![allow(clippy::unwrap_used, reason = "a test with a main of its own")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use runtime::drain::Drain;
use rustix::process::{Pid, Signal, kill_process};

fn main() -> ExitCode {
    // cargo-nextest asks for the tests' names first.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("signals: test");
        }
        return ExitCode::SUCCESS;
    }
    if std::env::args().nth(1).as_deref() == Some("program") {
        return runtime::threads().unwrap().block_on(drain_for_ever());
    }
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        a_second_signal_ends_at_once(signal, status);
    }
    ExitCode::SUCCESS
}

fn a_second_signal_ends_at_once(signal: Signal, status: i32) {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .arg("program")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap());
    assert_eq!(line(&mut lines), "ready\n");

    // Without a terminal this one is passed over.
    send(&program, Signal::HUP);
    send(&program, signal);
    assert_eq!(line(&mut lines), "draining\n");
    send(&program, signal);

    assert_eq!(program.wait().unwrap().code(), Some(status));
    assert_eq!(lines.read_to_end(&mut Vec::new()).unwrap(), 0);
}

fn send(program: &Child, signal: Signal) {
    kill_process(Pid::from_child(program), signal).unwrap();
}

fn line(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line
}

async fn drain_for_ever() -> ExitCode {
    let drain = Drain::on_signals().unwrap();
    drain.tracker().spawn(std::future::pending::<()>());
    println!("ready");
    drain.watch().started().await;
    println!("draining");
    drain.finish(Duration::from_secs(3600)).await;
    ExitCode::SUCCESS
}
