//! The client: sends files to a Tentacle server, or fetches them; the
//! `tentacle_client` of the guides.
//!
//! Silent where all went well. An error is one line on standard error and
//! exit status 1.

pub mod options;
mod progress;
mod transfer;

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::logs;

pub use crate::{options::Options, transfer::TransferError};

/// The whole program under the name `name`: reads the options of this
/// process, and runs.
///
/// # Errors
/// What is wrong with the options, and unless they ask for quiet what ended
/// the run; one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    let Some(layers) = options::program(name).from_process()? else { return Ok(ExitCode::SUCCESS) };
    let options = Options::from_layers(&layers)?;
    let _logs = logs::start(&options.logs)?;
    let thread = runtime::thread().context("cannot start")?;
    match thread.block_on(run(&options)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // As the peers' -q does: the exit status alone tells.
        Err(_) if options.is_quiet() => Ok(ExitCode::FAILURE),
        Err(error) => Err(error.into()),
    }
}

/// Transfers all files of `options` over one connection, in turn.
///
/// The thread is taken as this program's own: local files are read on it.
///
/// # Errors
/// [`TransferError`]; the files before the one that it names were transferred.
pub async fn run(options: &Options) -> Result<(), TransferError> {
    transfer::run(options).await
}
