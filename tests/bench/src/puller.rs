//! Three sites, emptied by the sync-puller.

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{
    files, relay,
    row::{Bound, Row, Stage},
    server::{Server, program},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "pull",
            what: "three sites emptied, 10 000 files of 4 kB",
            bound: Bound::TimesDisk(0.7),
            measure: |stage, programs| {
                let pulled = pull(stage, programs, &[], Ok)?;
                Ok(pulled.files as f64 / pulled.seconds)
            },
        },
        Row {
            name: "pull-far",
            what: "the same 20 ms away, 16 connections a site",
            bound: Bound::Seconds(40.0),
            measure: pull_from_afar,
        },
    ]
}

fn pull_from_afar(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let relayed = |address| Ok(runtime.block_on(relay::start(address, DELAY))?);
    Ok(pull(stage, programs, &["--connections", "16"], relayed)?.seconds)
}

struct Pulled {
    files: usize,
    seconds: f64,
}

/// Empties three full receivers, each reached by what `way` makes of its
/// address, and checks every file at the centre.
fn pull(
    stage: &Stage,
    programs: &Path,
    options: &[&str],
    way: impl Fn(SocketAddr) -> anyhow::Result<SocketAddr>,
) -> anyhow::Result<Pulled> {
    let mut puller = program(programs, "tentacle-sync-puller")?;
    let folder = stage.folder()?;
    let incoming = folder.path().join("incoming");
    std::fs::create_dir(&incoming)?;
    let files = stage.files(10_000);
    let spools: Vec<_> = (0..SITES).map(|site| folder.path().join(format!("site{site}"))).collect();
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for (site, spool) in spools.iter().enumerate() {
        files::fill(spool, files * site / SITES..files * (site + 1) / SITES)?;
        let server = Server::start(programs, spool, &["-I", "-o"])?;
        addresses.push(way(server.address)?.to_string());
        servers.push(server);
    }
    puller
        .arg("--once")
        .args(["--sync-address", &addresses.join(",")])
        .arg("--incoming-dir")
        .arg(&incoming)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let began = Instant::now();
    let status = puller.status()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "tentacle-sync-puller ended with {status}");
    files::check(&incoming, 0..files)?;
    for spool in &spools {
        files::check(spool, 0..0)?;
    }
    Ok(Pulled { files, seconds })
}

const SITES: usize = 3;

/// A link of 40 ms there and back.
const DELAY: Duration = Duration::from_millis(20);
