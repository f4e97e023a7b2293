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
mod rounds;
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
use tokio::{sync::watch, task::JoinSet};
use transport::Address;

pub use crate::options::Options;
use crate::{
    destination::{Central, Destination, Incoming, Stagers},
    options::OptionsError,
    puller::{Certificates, Puller, Wanted},
    report::Report,
    rounds::Emptied,
    site::Site,
    term::{Moment, Term},
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
            let incoming = Incoming::open(&path, overwrite, Stagers::One)?;
            let named = options.sources.iter().flat_map(options::Source::named);
            incoming.warn_of_orphans(&named.collect::<Vec<_>>());
            Destination::Folder(Arc::new(incoming))
        }
    };
    let connections: usize = options.sources.iter().map(|source| source.connections).sum();
    // Two pieces and what is held of a file; small where all at once would be
    // too much.
    let room = Buffers::of_this_process().left() / connections.max(1) / 3;
    let mut sources = options.sources;
    for source in &mut sources {
        source.block_size = source.block_size.min(room.max(LEAST / 2));
    }
    let certificates = Certificates::default();
    if let Some(check) = destination.check() {
        let (all, own) = (certificates.clone(), check);
        health.ask("certificates", Box::new(move || own().and_then(|()| all.check())));
    } else if sources.iter().any(|source| source.tls.is_some()) {
        let all = certificates.clone();
        health.ask("certificates", Box::new(move || all.check()));
    }
    // The folder is ours alone until the end, whether it is probed or not.
    let probed = destination.clone();
    let probe = move || {
        let destination = probed.clone();
        async move { destination.probe().await.map_err(|error| error.to_string()) }
    };
    let probing = http.is_on().then(|| reachable.probe(PROBE_EVERY, PROBE_PATIENCE, probe));
    tracing::info!(sources = sources.len(), "pulling");
    let (tenure, term) = Term::new(Moment::NEVER);
    let watch = drain.watch();
    let tracker = drain.tracker();
    let emptied = if options.once {
        let once = pull_once(sources, destination.clone(), certificates, term);
        let cut = watch.clone();
        let mut once = tracker.spawn(async move { cut.unless_cut(once).await.unwrap_or(Emptied::No) });
        tokio::select! {
            emptied = &mut once => matches!(emptied, Ok(Emptied::Yes)),
            () = watch.started() => {
                tenure.end();
                false
            }
        }
    } else {
        let wanted = |options: options::Source| {
            (options.address.clone(), Wanted { options, report: Report::default() })
        };
        let (_sources, sources) = watch::channel(Arc::new(sources.into_iter().map(wanted).collect()));
        let (_held, held) = watch::channel(Arc::new([(0, term)].into()));
        let shard_of = Box::new(|_: &Address| 0);
        let puller = Puller { sources, held, shard_of, destination: destination.clone(), certificates };
        let cut = watch.clone();
        tracker.spawn(async move { cut.clone().unless_cut(puller.run(cut)).await });
        watch.started().await;
        true
    };
    drain.finish(options.drain_timeout).await;
    drop(probing);
    http.end().await;
    drop(destination);
    Ok(emptied)
}

/// Pulls each source until it has nothing more; whether nothing is left.
async fn pull_once(
    sources: Vec<options::Source>,
    destination: Destination,
    certificates: Certificates,
    term: Term,
) -> Emptied {
    let mut pulled = JoinSet::new();
    for options in sources {
        let (destination, term, report) = (destination.clone(), term.clone(), Report::default());
        let address = options.address.clone();
        match Site::new(options, destination, lookup::system(), true, term, report) {
            Ok(site) => {
                certificates.put(&address, site.check());
                pulled.spawn(site.pull_once());
            }
            Err(error) => {
                tracing::error!(source = %address, error = format!("{error:#}"), "cannot be pulled");
                pulled.spawn(async { Emptied::No });
            }
        }
    }
    let mut all = Emptied::Yes;
    while let Some(one) = pulled.join_next().await {
        if !matches!(one, Ok(Emptied::Yes)) {
            all = Emptied::No;
        }
    }
    all
}

/// How often the destination is tried, and how long that may last: a folder is
/// written to, a server connected to.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_PATIENCE: Duration = Duration::from_secs(10);
