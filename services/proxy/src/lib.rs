//! The proxy: passes Tentacle sessions on to a receiver, byte for byte, so
//! that passwords and TLS are between the ends. Where it is asked to, it reads
//! along.
//!
//! The way of a session reads top-down: [`run`] accepts a stream, an upstream
//! is chosen and dialled, and the bytes are carried in both directions until
//! each has ended.

mod carry;
mod inspect;
pub mod options;
mod pipe;
mod server;
mod upstreams;
mod watch;

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::{
    daemon::{self, Detached, ReadyHandle},
    drain::{Drain, Drained},
    logs,
    options::Layers,
};
use security::Access;
use transport::Listeners;

pub use crate::options::Options;
use crate::{server::Server, upstreams::Upstreams};

/// The whole program under the name `name`: reads the options of this
/// process, goes to the background where that is asked for, and runs.
///
/// # Errors
/// What ends the start, one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    let Some(layers) = options::program(name).from_process()? else { return Ok(ExitCode::SUCCESS) };
    start_with(&layers)
}

/// The whole program, with options that were read: its own, or those of
/// `tentacle_server`.
///
/// # Errors
/// As [`start`].
pub fn start_with(layers: &Layers) -> anyhow::Result<ExitCode> {
    let options = Options::from_layers(layers)?;
    let ready = match options.daemon.then(|| daemon::detach(None)).transpose()? {
        Some(Detached::Parent(status)) => return Ok(status),
        Some(Detached::Child(ready)) => Some(ready),
        None => None,
    };
    let _logs = logs::start(&options.logs)?;
    runtime::threads().context("cannot start threads")?.block_on(run(options, ready))?;
    Ok(ExitCode::SUCCESS)
}

/// Passes connections on until SIGTERM or SIGINT, then waits for those under
/// way. Says on `ready` that it accepts connections.
///
/// # Errors
/// What ends the start: an address, or the files of `-T`.
pub async fn run(options: Options, ready: Option<ReadyHandle>) -> anyhow::Result<()> {
    let drain = Drain::on_signals().context("cannot wait for signals")?;
    let listeners = Listeners::bind(&options.addresses, options.port)?;
    let listening = listeners.addresses().context("a listening socket has no address")?;
    let access = Access::start(options.access).map_err(anyhow::Error::msg)?;
    if let Some(directory) = &options.directory {
        tracing::warn!(directory = %directory.display(), "a proxy keeps no files: the folder is not used");
    }
    let upstreams = Upstreams::new(options.upstreams, options.deadline, listening.clone());
    for address in listening {
        tracing::info!(%address, upstreams = %upstreams, "listening");
    }
    if let Some(ready) = ready {
        ready.ready()?;
    }
    let Options { inspect, deadline, max_connections, .. } = options;
    let server = Server::new(upstreams, access, inspect, deadline, max_connections, &drain);
    server.serve(listeners).await;
    match drain.finish(options.drain_timeout).await {
        Drained::Whole => tracing::info!("ended"),
        Drained::Cut(connections) => tracing::warn!(connections, "ended, with sessions cut"),
    }
    Ok(())
}
