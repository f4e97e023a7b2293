//! The sync-puller: opens every connection, and fetches what remote buffers
//! hold.
//!
//! The way of a file reads top-down: a site is what was named, and stands for
//! one source or several; a source lists what a buffer holds, a taker fetches
//! it over one connection, the destination keeps it.

mod config;
mod destination;
mod lookup;
mod metrics;
mod objects;
pub mod options;
mod orphans;
mod puller;
mod report;
mod settle;
mod site;
mod source;
mod suspects;
mod taker;
mod term;
mod upstream;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use protocol::Deadline;
use runtime::{
    drain::Drain,
    health::Health,
    http::Http,
    limits::{Buffers, LEAST},
    logs, telemetry,
};
use security::all_certificates;

pub use crate::options::Options;
use crate::{
    destination::{Central, Destination, Incoming},
    options::OptionsError,
    puller::Emptied,
    site::Site,
    upstream::Upstream,
};

/// The whole program under the name `name`.
///
/// # Errors
/// What ends the start, one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    let Some(layers) = options::program(name).from_process()? else { return Ok(ExitCode::SUCCESS) };
    let options = match Options::from_layers(&layers) {
        Err(OptionsError::Off) => {
            let program = telemetry::Program { name, scraped: false };
            let _telemetry = telemetry::start(program, &logs::Settings::from_layers(&layers))?;
            tracing::info!("switched off (syncserver 0)");
            return Ok(ExitCode::SUCCESS);
        }
        options => options?,
    };
    let program = telemetry::Program { name, scraped: options.http_address.is_some() };
    let _telemetry = telemetry::start(program, &options.logs)?;
    let emptied = runtime::threads().context("cannot start threads")?.block_on(run(options))?;
    Ok(if emptied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Pulls until SIGTERM or SIGINT, or once; whether every source was emptied
/// (when pulling for good, always).
///
/// # Errors
/// What ends the start: the incoming folder.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    let drain = Drain::on_signals().context("cannot wait for signals")?;
    let health = Health::new(drain.watch());
    let reachable = health.check("destination");
    let http = Http::start(options.http_address, &health).await?;
    telemetry::service(&health);
    let destination = match options.destination {
        options::Destination::Server { address, password, tls } => {
            // As the documented sync_timeout and sync_retries.
            let deadline = Deadline::new(Duration::from_secs(10), 3);
            Destination::Server(Central(Upstream::start(address, deadline, tls.map(|tls| *tls), password)?))
        }
        options::Destination::Folder { path, overwrite } => {
            let incoming = Incoming::open(&path, overwrite)?;
            let named = options.sources.iter().flat_map(options::Source::named);
            incoming.warn_of_orphans(&named.collect::<Vec<_>>());
            Destination::Folder(Arc::new(incoming))
        }
    };
    let connections: usize = options.sources.iter().map(|source| source.connections).sum();
    // Two pieces and what is held of a file; small where all at once would be
    // too much.
    let room = Buffers::of_this_process().left() / connections.max(1) / 3;
    let tracker = drain.tracker();
    let mut pulled = Vec::new();
    let mut certificates: Vec<_> = destination.check().into_iter().collect();
    for mut source in options.sources {
        source.block_size = source.block_size.min(room.max(LEAST / 2));
        let watch = drain.watch();
        let once = options.once;
        let site = Site::new(source, destination.clone(), lookup::system(), once, watch.clone())?;
        certificates.extend(site.check());
        pulled.push(tracker.spawn(async move {
            let work = async {
                match once {
                    true => site.pull_once().await,
                    false => {
                        site.pull().await;
                        Emptied::Yes
                    }
                }
            };
            watch.unless_cut(work).await.unwrap_or(Emptied::No)
        }));
    }
    if let Some(check) = all_certificates(certificates) {
        health.ask("certificates", check);
    }
    // The folder is ours alone until the end, whether it is probed or not.
    let probed = destination.clone();
    let probe = move || {
        let destination = probed.clone();
        async move { destination.probe().await.map_err(|error| error.to_string()) }
    };
    let probing = http.is_on().then(|| reachable.probe(PROBE_EVERY, PROBE_PATIENCE, probe));
    tracing::info!(sources = pulled.len(), "pulling");
    let all = async {
        let mut emptied = true;
        for source in &mut pulled {
            emptied &= matches!(source.await, Ok(Emptied::Yes));
        }
        emptied
    };
    let watch = drain.watch();
    let emptied = tokio::select! {
        emptied = all => emptied,
        () = watch.started() => !options.once,
    };
    drain.finish(options.drain_timeout).await;
    drop(probing);
    http.end().await;
    drop(destination);
    Ok(emptied)
}

/// How often the destination is tried, and how long that may last: a folder is
/// written to, a server connected to.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_PATIENCE: Duration = Duration::from_secs(10);
