//! The client: sends files to a Tentacle server, or fetches them, or checks
//! that the server works; the `tentacle_client` of the guides.
//!
//! Silent where all went well, but for a check, which says so. An error is one
//! line on standard error and exit status 1.

mod check;
pub mod options;
mod progress;
mod transfer;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use runtime::telemetry::{self, SPANS};
use tracing::{
    Instrument as _,
    field::{Empty, display},
};

use crate::options::Task;
pub use crate::{
    check::{CheckError, Checked, Step},
    options::Options,
    transfer::TransferError,
};

/// The whole program under the name `name`: reads the options of this
/// process, and runs.
///
/// # Errors
/// What is wrong with the options, and unless they ask for quiet what ended
/// the run; one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    let Some(layers) = options::program(name).from_process()? else { return Ok(ExitCode::SUCCESS) };
    let options = Options::from_layers(&layers)?;
    let program = telemetry::Program { name, scraped: false };
    let _telemetry = telemetry::start(program, &options.logs)?;
    let thread = runtime::thread().context("cannot start")?;
    let span = tracing::info_span!(
        target: SPANS,
        "session",
        otel.kind = "client",
        network.transport = "tcp",
        server.address = %options.server,
        tentacle.outcome = Empty,
        tentacle.reason = Empty,
    );
    let done = match options.task {
        Task::Check => thread
            .block_on(check(&options).instrument(span.clone()))
            .map(|checked| say(&options, &checked))
            .map_err(anyhow::Error::from),
        Task::Send | Task::Get => {
            thread.block_on(run(&options).instrument(span.clone())).map_err(anyhow::Error::from)
        }
    };
    match &done {
        Ok(()) => span.record("tentacle.outcome", "ok"),
        Err(error) => span.record("tentacle.outcome", "failed").record("tentacle.reason", display(error)),
    };
    // It ends before what has been seen is sent.
    drop(span);
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // As the peers' -q does: the exit status alone tells.
        Err(_) if options.is_quiet() => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

/// Transfers all files of `options` over one connection, in turn.
///
/// The thread is taken as this program's own: local files are read on it.
///
/// # Errors
/// [`TransferError`]; the files before the one that it names were transferred.
pub async fn run(options: &Options) -> Result<(), TransferError> {
    match options.task {
        Task::Get => transfer::get_all(options).await,
        _ => transfer::send_all(options).await,
    }
}

/// Sends a small file of its own, fetches it, and takes it out again.
///
/// # Errors
/// [`CheckError`], which names the step.
pub async fn check(options: &Options) -> Result<Checked, CheckError> {
    check::run(options).await
}

fn say(options: &Options, checked: &Checked) {
    if !options.is_quiet() {
        // Who asked may have gone.
        let _ = writeln!(std::io::stdout(), "{checked}");
    }
}
