//! The sync-puller: opens every connection, and fetches what remote buffers
//! hold.
//!
//! The way of a file reads top-down: a site is what was named, and stands for
//! one source or several; a source lists what a buffer holds, a taker fetches
//! it over one connection, the destination keeps it.

mod bounds;
mod config;
mod destination;
mod lookup;
mod metrics;
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

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use runtime::{drain::Drain, health::Health, http::Http, logs, telemetry};
use security::all_certificates;

pub use crate::options::Options;
use crate::{
    bounds::Bounds,
    destination::{Destination, Destinations, Kind},
    options::OptionsError,
    puller::Emptied,
    site::Site,
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
    let destinations = Arc::new(Destinations::new(options.http_address.is_some()));
    let asked = Arc::clone(&destinations);
    health.ask("destination", move || asked.standing());
    let http = Http::start(options.http_address, &health).await?;
    telemetry::service(&health);
    let bounds = Bounds::new(options.max_connections);
    let tracker = drain.tracker();
    let mut pulled = Vec::new();
    let mut certificates = Vec::new();
    // Held until the end: a folder is ours alone.
    let mut used: Vec<(options::Destination, Destination, Vec<_>)> = Vec::new();
    for source in options.sources {
        let destination = destinations.open(&source.destination).await?;
        match used.iter_mut().find(|(options, ..)| *options == source.destination) {
            Some((.., named)) => named.extend(source.named()),
            None => {
                certificates.extend(destination.checks());
                let named = source.named().collect();
                used.push((source.destination.clone(), destination.clone(), named));
            }
        }
        let watch = drain.watch();
        let once = options.once;
        let site = Site::new(source, destination, bounds.clone(), lookup::system(), once, watch.clone())?;
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
    for (_, destination, named) in &used {
        if let Kind::Folder(incoming) = destination.kind() {
            incoming.warn_of_orphans(named);
        }
    }
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
    http.end().await;
    drop(used);
    Ok(emptied)
}
