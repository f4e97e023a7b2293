//! The sync-puller: opens every connection, and fetches what remote buffers
//! hold.
//!
//! The way of a file reads top-down: a site is what was named, and stands for
//! one source or several; a source lists what a buffer holds, a taker fetches
//! it over one connection, the destination keeps it.

mod bounds;
mod cluster;
mod config;
mod coordination;
mod destination;
mod kubernetes;
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

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use runtime::{drain::Drain, health::Health, http::Http, logs, telemetry};
use tokio::{sync::watch, task::JoinSet};

pub use crate::options::Options;
use crate::{
    bounds::Bounds,
    cluster::{Cluster, Shown},
    coordination::shard_of,
    destination::{Destination, Destinations, Kind, Stagers},
    options::OptionsError,
    puller::{Certificates, Puller, Sources, Wanted},
    report::Report,
    rounds::Emptied,
    term::{Moment, Term},
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
    run_until(drain, options).await
}

/// The same until `drain` starts.
///
/// # Errors
/// As [`run`].
pub async fn run_until(drain: Drain, options: Options) -> anyhow::Result<bool> {
    let health = Health::new(drain.watch());
    let stagers = match options.kubernetes.as_ref().and_then(|cluster| cluster.sharing.as_ref()) {
        Some(_) => Stagers::Several,
        None => Stagers::One,
    };
    let destinations = Arc::new(Destinations::new(stagers, options.http_address.is_some()));
    let asked = Arc::clone(&destinations);
    health.ask("destination", move || asked.standing());
    let http = Http::start(options.http_address, &health).await?;
    telemetry::service(&health);
    // Held until the end: a folder is ours alone, whether it is in use or not.
    let used = open_all(&destinations, &options).await?;
    let bounds = Bounds::new(options.max_connections);
    let sources = options.sources;
    let certificates = Certificates::default();
    let has_objects = options.kubernetes.as_ref().is_some_and(|cluster| cluster.custom_resources);
    if has_objects || sources.iter().any(|source| source.tls.is_some() || source.destination.has_tls()) {
        let (all, onward) = (certificates.clone(), Arc::clone(&destinations));
        health.ask("certificates", move || onward.check_certificates().and_then(|()| all.check()));
    }
    tracing::info!(sources = sources.len(), "pulling");
    let (tenure, term) = Term::new(Moment::NEVER);
    let watch = drain.watch();
    let tracker = drain.tracker();
    let mut cluster = None;
    let emptied = if options.once {
        let once = pull_once(sources, destinations, bounds, certificates, term);
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
        let own: Sources = Arc::new(sources.into_iter().map(wanted).collect());
        let mut shown = Shown::default();
        if let Some(part) = &options.kubernetes {
            let api = kubernetes::client(part).await?;
            let (joined, all) = Cluster::join(part, api, options.given, &own);
            (cluster, shown) = (Some(joined), all);
        }
        // Nothing else: all of the options' sources, as long as we are there.
        let (_own, sources) = watch::channel(own);
        let (_all, held) = watch::channel(Arc::new([(0, term)].into()));
        let (held, shards) = shown.held.unwrap_or((held, 1));
        let puller = Puller {
            sources: shown.sources.unwrap_or(sources),
            held,
            shard_of: Box::new(move |source| shard_of(source, shards)),
            destinations,
            bounds,
            certificates,
        };
        let cut = watch.clone();
        tracker.spawn(async move { cut.clone().unless_cut(puller.run(cut)).await });
        watch.started().await;
        true
    };
    let bound = options.drain_timeout;
    let drained = async { _ = drain.finish(bound).await };
    match cluster {
        Some(cluster) => cluster.leave(drained, bound).await,
        None => drained.await,
    }
    http.end().await;
    drop(used);
    Ok(emptied)
}

/// Opens the destinations of all sources, and warns of what is staged there
/// for others.
async fn open_all(destinations: &Destinations, options: &Options) -> anyhow::Result<Vec<Destination>> {
    // Of sources that objects name: a folder that is missing is to be seen now.
    let objects = options.kubernetes.as_ref().is_some_and(|cluster| cluster.custom_resources);
    let mut used: Vec<&options::Destination> = options.destination.iter().filter(|_| objects).collect();
    for source in &options.sources {
        if !used.contains(&&source.destination) {
            used.push(&source.destination);
        }
    }
    let mut all = Vec::new();
    for wanted in used {
        let destination = destinations.open(wanted).await?;
        // In a cluster, others may well have named it.
        if let (Kind::Folder(incoming), None) = (destination.kind(), &options.kubernetes) {
            let sources = options.sources.iter().filter(|source| source.destination == *wanted);
            incoming.warn_of_orphans(&sources.flat_map(options::Source::named).collect::<Vec<_>>());
        }
        all.push(destination);
    }
    Ok(all)
}

/// Pulls each source until it has nothing more; whether nothing is left.
async fn pull_once(
    sources: Vec<options::Source>,
    destinations: Arc<Destinations>,
    bounds: Bounds,
    certificates: Certificates,
    term: Term,
) -> Emptied {
    let mut pulled = JoinSet::new();
    for options in sources {
        let address = options.address.clone();
        let made =
            puller::make(options, &destinations, bounds.clone(), true, term.clone(), Report::default());
        match made.await {
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
