use std::io::{self, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::limits;

/// Runs a program, with as many open files as it may have: `run`, and where that fails one line `NAME: error: context: cause` on standard error and exit
/// status 1, for a wrong option too.
pub fn main(name: &str, run: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    // The soft bound that a shell or a container sets is for programs that use select(2).
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    match run() {
        Ok(status) => status,
        Err(error) => {
            // Standard error may be closed; the exit status says the same.
            let _ = writeln!(io::stderr(), "{}", error_line(name, &error));
            ExitCode::FAILURE
        }
    }
}

/// The threads of an asynchronous program: one worker for each CPU that this process may use (its CPU set and its
/// control group's quota count), with timers and sockets. Of those that wait for a disk, there are fewer where the
/// control group's memory is small.
pub fn threads() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, |count| count.get()))
        .max_blocking_threads(limits::memory().map_or(MOST_BLOCKING, blocking_threads))
        .enable_all()
        .build()
}

/// One a MiB: a thread that waits holds some ten kB, and what it works with.
fn blocking_threads(memory: u64) -> usize {
    usize::try_from(memory >> 20).unwrap_or(usize::MAX).clamp(FEWEST_BLOCKING, MOST_BLOCKING)
}

/// The one thread of a program that does one thing at a time, with timers and sockets.
pub fn thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn error_line(name: &str, error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many a message says its cause in its own words.
        if message.contains(&cause) {
            continue;
        }
        let colon = if message.is_empty() { "" } else { ": " };
        message.push_str(colon);
        message.push_str(&cause);
    }
    let lines: Vec<_> = message.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{name}: error: {}", lines.join(" ").chars().map(shown).collect::<String>())
}

/// What a peer said may stand in an error, and must not steer a terminal.
fn shown(letter: char) -> String {
    if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
}

/// More than the transfers that may hold one for as long as their peer is slow.
const FEWEST_BLOCKING: usize = 64;

/// As many as tokio makes by itself.
const MOST_BLOCKING: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        let error = anyhow::anyhow!("no such\n  folder").context("spool /a");
        assert_eq!(
            error_line("tentacle-receiver", &error),
            "tentacle-receiver: error: spool /a: no such folder"
        );
        assert_eq!(error_line("x", &anyhow::anyhow!("é\x1b[2J")), "x: error: é\\u{1b}[2J");
    }

    #[test]
    fn a_cause_that_the_message_names_is_not_said_twice() {
        let cause = || std::io::Error::other("it is a folder");
        let error = anyhow::Error::new(cause()).context(format!("log file /a: {} (name a file)", cause()));
        assert_eq!(error_line("x", &error), "x: error: log file /a: it is a folder (name a file)");
    }

    #[test]
    fn small_memory_makes_fewer_threads() {
        assert_eq!([16, 128, 4096].map(|mebibytes| blocking_threads(mebibytes << 20)), [64, 128, 512]);
    }

    #[test]
    fn threads_run_a_future() {
        assert_eq!(threads().unwrap().block_on(async { 7 }), 7);
        assert_eq!(thread().unwrap().block_on(async { 7 }), 7);
    }
}
