//! The proxy: passes Tentacle sessions on to a receiver, byte for byte, so
//! that passwords and TLS are between the ends; or, where it is told to, are
//! its own with either side. Where it is asked to, it reads along.
//!
//! The way of a session reads top-down: [`run`] accepts a stream, its client
//! is let in, an upstream is chosen and dialled, and the bytes are carried in
//! both directions until each has ended.

mod carry;
mod entrance;
mod inspect;
pub mod options;
mod relay;
mod server;
#[cfg_attr(feature = "simulation", path = "threads/none.rs")]
mod threads;
mod upstreams;
mod watch;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use runtime::{
    daemon::{self, Detached, ReadyHandle},
    drain::{Drain, Drained},
    health::Health,
    http::Http,
    options::Layers,
    telemetry,
};
use security::{Acceptor, Access, Connector, Password, all_certificates};
use transport::Sockets;

pub use crate::options::Options;
use crate::{
    entrance::Entrance,
    server::Server,
    threads::Threads,
    upstreams::{Reach, Upstreams},
};

/// The whole program under the name `name`: reads the options of this
/// process, goes to the background where that is asked for, and runs.
///
/// # Errors
/// What ends the start, one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    let Some(layers) = options::program(name).from_process()? else { return Ok(ExitCode::SUCCESS) };
    start_with(name, &layers)
}

/// The whole program under the name `name`, with options that were read: its own, or those of
/// `tentacle_server`.
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
    runtime::thread().context("cannot start")?.block_on(run(options, ready))?;
    Ok(ExitCode::SUCCESS)
}

/// Passes connections on until SIGTERM or SIGINT, then waits for those under
/// way. Says on `ready` that it accepts connections.
///
/// # Errors
/// What ends the start: an address, or files that changed meanwhile.
pub async fn run(options: Options, ready: Option<ReadyHandle>) -> anyhow::Result<()> {
    let drain = Drain::on_signals().context("cannot wait for signals")?;
    run_until(drain, options, ready).await
}

/// The same until `drain` starts.
///
/// # Errors
/// As [`run`].
pub async fn run_until(drain: Drain, options: Options, ready: Option<ReadyHandle>) -> anyhow::Result<()> {
    let sockets = Sockets::bind(&options.addresses, options.port)?;
    let health = Health::new(drain.watch());
    let (listening, upstream) = (health.check("listening"), health.check("upstream"));
    let http = Http::start(options.http_address, &health).await?;
    telemetry::service(&health);
    let addresses = sockets.addresses().context("a listening socket has no address")?;
    let read = anyhow::Error::msg::<String>;
    let access = Access::start(options.access).map_err(read)?;
    let acceptor = Acceptor::start(options.tls, options.deadline.as_duration()).map_err(read)?;
    let password = options.password.map(Password::start).transpose().map_err(read)?;
    if options.upstream_tls.as_ref().is_some_and(|tls| tls.authorities.is_none()) {
        tracing::warn!(
            "TLS to the servers encrypts, and whoever answers is believed: no --upstream-ca is given to check their certificates"
        );
    }
    let connector = Connector::start(options.upstream_tls).map_err(read)?;
    if let Some(check) = all_certificates(acceptor.check().into_iter().chain(connector.check())) {
        health.ask("certificates", check);
    }
    let upstream_password = options.upstream_password.map(Password::start).transpose().map_err(read)?;
    if let Some(directory) = &options.directory {
        tracing::warn!(directory = %directory.display(), "a proxy keeps no files: the folder is not used");
    }
    let reach = Reach {
        own: addresses.clone(),
        send_proxy: options.send_proxy,
        connector,
        password: upstream_password,
        deadline: options.deadline,
    };
    let upstreams = Arc::new(Upstreams::start(options.upstreams, reach)?);
    upstreams.watch();
    let looked = Arc::clone(&upstreams);
    let look = move || {
        let upstreams = Arc::clone(&looked);
        async move { upstreams.look().await }
    };
    let looking = http.is_on().then(|| upstream.probe(LOOK_EVERY, LOOK_PATIENCE, look));
    for address in addresses {
        tracing::info!(%address, upstreams = %upstreams, "listening");
    }
    if let Some(ready) = ready {
        ready.ready()?;
    }
    let patience = options.deadline.as_duration();
    let (most, of_one) = (options.max_connections, options.connections_per_address);
    let entrance = security::Entrance::new(access, acceptor, patience, most, of_one);
    let entrance = Entrance::new(entrance, password, options.deadline);
    let server = Server::new(entrance, upstreams, options.inspect, options.deadline, &drain);
    let sums = server.sums();
    sums.watch();
    let threads = Threads::start(&server, &sockets, &drain).context("cannot start threads")?;
    // They alone accept.
    drop(sockets);
    listening.passes();
    drain.watch().started().await;
    listening.fails("the service is ending");
    let drained = drain.finish(options.drain_timeout).await;
    threads.join();
    sums.log(options.inspect.is_some());
    match drained {
        Drained::Whole => tracing::info!("ended"),
        Drained::Cut(connections) => tracing::warn!(connections, "ended, with sessions cut"),
    }
    drop(looking);
    http.end().await;
    Ok(())
}

/// How often it is looked whether there is a server, and how long that may
/// last.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_PATIENCE: Duration = Duration::from_secs(30);
