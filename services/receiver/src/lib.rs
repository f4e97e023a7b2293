//! The receiver: buffers the files that agents send, until someone fetches
//! them.
//!
//! The way of a file reads top-down: [`run`] accepts a stream, a session reads
//! commands from it, one file a command acts, the spool stores.

mod commands;
mod expiry;
mod metrics;
pub mod options;
mod quota;
mod reserve;
mod server;
mod session;
mod site;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use runtime::{
    daemon::{self, Detached, ReadyHandle},
    drain::Drain,
    health::Health,
    http::Http,
    options::Layers,
    telemetry,
};

use security::{Acceptor, Access, Entrance};
use transport::Sockets;

pub use crate::{expiry::Expiry, options::Options};
use crate::{server::Server, site::Site};

/// The whole program under the name `name`: reads the options of this
/// process, goes to the background where that is asked for, and runs.
///
/// # Errors
/// What ends the start, one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    let Some(layers) = options::program(name).from_process()? else { return Ok(ExitCode::SUCCESS) };
    start_with(name, &layers)
}

/// The whole program under the name `name`, with options that were read.
///
/// # Errors
/// As [`start`].
pub fn start_with(name: &'static str, layers: &Layers) -> anyhow::Result<ExitCode> {
    let options = Options::from_layers(layers)?;
    let asked = options.tls.as_ref().and_then(|tls| tls.identity.asked());
    let ready = match options.daemon.then(|| daemon::detach(asked)).transpose()? {
        Some(Detached::Parent(status)) => return Ok(status),
        Some(Detached::Child(ready)) => Some(ready),
        None => None,
    };
    let program = telemetry::Program { name, scraped: options.http_address.is_some() };
    let _telemetry = telemetry::start(program, &options.logs)?;
    runtime::threads().context("cannot start threads")?.block_on(run(options, ready))?;
    Ok(ExitCode::SUCCESS)
}

/// Receives until SIGTERM or SIGINT, then ends what is under way. Says on
/// `ready` that it accepts connections.
///
/// # Errors
/// What ends the start: the spool, or an address.
pub async fn run(options: Options, ready: Option<ReadyHandle>) -> anyhow::Result<()> {
    let drain = Drain::on_signals().context("cannot wait for signals")?;
    run_until(drain, options, ready).await
}

/// The same until `drain` starts.
///
/// # Errors
/// As [`run`].
pub async fn run_until(drain: Drain, options: Options, ready: Option<ReadyHandle>) -> anyhow::Result<()> {
    // First, because a start that fails on an address must leave the folder
    // alone; who connects meanwhile waits.
    let sockets = Sockets::bind(&options.addresses, options.port)?;
    let no_socket = "a listening socket cannot be used";
    let health = Health::new(drain.watch());
    let (listening, spool) = (health.check("listening"), health.check("spool"));
    let http = Http::start(options.http_address, &health).await?;
    telemetry::service(&health);
    let site = Arc::new(Site::open(&options)?);
    metrics::watch_spool(&site);
    metrics::tell_limits(options.limits);
    let access = Access::start(options.access).map_err(anyhow::Error::msg)?;
    let acceptor =
        Acceptor::start(options.tls, options.deadline.as_duration()).map_err(anyhow::Error::msg)?;
    if let Some(check) = acceptor.check() {
        health.ask("certificates", check);
    }
    let probed = Arc::clone(&site);
    let probe = move || {
        let site = Arc::clone(&probed);
        async move { site.probe().await.map_err(|error| error.to_string()) }
    };
    let probing = http.is_on().then(|| spool.probe(PROBE_EVERY, PROBE_PATIENCE, probe));
    for address in sockets.addresses().context(no_socket)? {
        tracing::info!(%address, directory = %options.directory.display(), "listening");
    }
    if let Some(ready) = ready {
        ready.ready()?;
    }
    let (patience, most) = (options.deadline.as_duration(), options.max_connections);
    drain.tracker().spawn(quota::keep_counted(Arc::clone(&site), drain.watch()));
    for expiry in options.expiry {
        if let Some(folder) = site.folder_of_filter(&expiry.folder) {
            drain.tracker().spawn(expiry::keep_young(folder.clone(), expiry, drain.watch()));
        }
    }
    let entrance = Entrance::new(access, acceptor, patience, most, options.connections_per_address);
    let listeners = sockets.listeners().context(no_socket)?;
    drop(sockets);
    listening.passes();
    Server::new(site, entrance, &drain).serve(listeners).await;
    listening.fails("the service is ending");
    server::end(drain, options.drain_timeout).await;
    drop(probing);
    http.end().await;
    Ok(())
}

/// How often a file is written to see whether the spool takes it, and how long
/// that may last.
const PROBE_EVERY: Duration = Duration::from_secs(3);
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
