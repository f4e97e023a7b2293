//! Going to the background: the caller's command returns once the daemon works.
//!
//! A process with threads cannot fork in safe Rust, so the program starts itself again with the same arguments, and
//! the first process waits for the second one's word.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt, parent_id};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use crate::options::Secret;

/// What this process is after [`detach`].
#[derive(Debug)]
pub enum Detached {
    /// The process that was called: it has waited for the daemon and shall exit with this status, which is 0 when the
    /// daemon is ready, else what the daemon ended with.
    Parent(ExitCode),

    /// The daemon: in a session of its own, without the terminal but for standard error.
    Child(ReadyHandle),
}

/// The daemon's word to the process that waits for it. Dropped without [`ReadyHandle::ready`], the waiting process
/// goes on to wait until the daemon ends.
#[derive(Debug)]
#[must_use = "the caller's command returns when the daemon says that it is ready"]
pub struct ReadyHandle(());

/// Why a program could not go to the background.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The program's own file is gone, or it cannot be started again.
    #[error("cannot start again in the background: {0} (run without -d)")]
    Start(#[source] io::Error),

    /// The started program could not be waited for.
    #[error("cannot wait for the daemon to be ready: {0}")]
    Wait(#[source] io::Error),

    /// The daemon could not leave the caller's session.
    #[error("cannot leave the caller's session: {0} (run without -d)")]
    Session(#[source] io::Error),

    /// `/dev/null` could not take the place of the standard streams.
    #[error("cannot let the terminal go: /dev/null: {0}")]
    Streams(#[source] io::Error),
}

/// Goes to the background. Returns twice: in the called process when the daemon is ready or has ended, and in the
/// daemon at once.
///
/// Call it after the options are read and before threads, sockets or locks are made: the daemon begins anew, with the
/// same arguments, environment and working folder. What was asked for on the terminal is handed over, through a pipe:
/// the daemon has no terminal to ask on.
pub fn detach(asked: Option<&Secret>) -> Result<Detached, DaemonError> {
    if is_daemon() {
        // Fails for the leader of a process group alone, which a process that was just started is not.
        rustix::process::setsid().map_err(|error| DaemonError::Session(error.into()))?;
        return Ok(Detached::Child(ReadyHandle(())));
    }
    start_and_wait(asked).map(Detached::Parent)
}

// === impl ReadyHandle ===

impl ReadyHandle {
    /// Lets the waiting process exit with 0, and puts `/dev/null` in the place of standard input, output and error.
    /// What is written to standard error from now on is lost: start the logs with a file before.
    pub fn ready(self) -> Result<(), DaemonError> {
        // The waiting process may have been killed; the daemon works all the same.
        let _ = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
        release_streams().map_err(DaemonError::Streams)
    }
}

/// Whether this process is one that [`detach`] started. The mark names its parent, as safe Rust cannot take a
/// variable out of the environment: for the daemon's own children the mark is another process's, and has no effect.
pub(crate) fn is_daemon() -> bool {
    env::var(MARK).is_ok_and(|parent| parent == parent_id().to_string())
}

fn start_and_wait(asked: Option<&Secret>) -> Result<ExitCode, DaemonError> {
    let mut arguments = env::args_os();
    let name = arguments.next();
    let program = env::current_exe().map_err(DaemonError::Start)?;
    let mut command = Command::new(&program);
    command
        .arg0(name.unwrap_or_else(|| program.into_os_string()))
        .args(arguments)
        .env(MARK, std::process::id().to_string())
        .stdin(if asked.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped());
    let mut daemon = command.spawn().map_err(DaemonError::Start)?;
    if let (Some(secret), Some(mut stdin)) = (asked, daemon.stdin.take()) {
        // One that ended early says why itself.
        let _ = stdin.write_all(secret.expose());
    }

    let words = daemon.stdout.take().expect("standard output was asked for as a pipe");
    for line in BufReader::new(words).lines() {
        if line.map_err(DaemonError::Wait)? == READY {
            return Ok(ExitCode::SUCCESS);
        }
    }
    daemon.wait().map(exit_code).map_err(DaemonError::Wait)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        (None, None) => ExitCode::FAILURE,
    }
}

fn release_streams() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// The variable that marks the daemon, with its parent's process number as the value.
const MARK: &str = "_TENTACLE_DAEMON_OF";

/// The line that the daemon writes to its standard output when it is ready.
const READY: &str = "ready";
