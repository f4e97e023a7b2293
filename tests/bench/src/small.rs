//! Many small files, and many connections.

use std::{net::SocketAddr, path::Path, thread, time::Instant};

use anyhow::ensure;

use crate::{
    files::{self, SMALL},
    row::{Bound, Row, Stage},
    server::Server,
    wire::Wire,
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "one",
            what: "SEND of 4 kB, a connection each, 8 clients",
            bound: Bound::TimesDisk(0.7),
            measure: one_file_a_connection,
        },
        Row {
            name: "many",
            what: "SEND of 4 kB, many a connection, 8 clients",
            bound: Bound::TimesDisk(1.0),
            measure: many_files_a_connection,
        },
        Row {
            name: "move",
            what: "MV of 4 kB over one connection",
            bound: Bound::FilesPerSecond(3000.0),
            measure: move_over_one_connection,
        },
    ]
}

pub(crate) fn idle_rows() -> Vec<Row> {
    vec![Row {
        name: "idle",
        what: "resident memory with 5000 idle connections",
        bound: Bound::Megabytes(120.0),
        measure: idle_connections,
    }]
}

pub(crate) fn one_file_a_connection(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    send(stage, programs, |server, numbers| {
        for at in numbers {
            let mut wire = Wire::connect(server)?;
            wire.send(&files::name(at), &files::contents(at))?;
            wire.quit()?;
        }
        Ok(())
    })
}

fn many_files_a_connection(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    send(stage, programs, many)
}

/// Sends its files over one connection.
pub(crate) fn many(server: SocketAddr, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let mut wire = Wire::connect(server)?;
    for at in numbers {
        wire.send(&files::name(at), &files::contents(at))?;
    }
    wire.quit()
}

fn send(
    stage: &Stage,
    programs: &Path,
    client: fn(SocketAddr, std::ops::Range<usize>) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let spool = stage.folder()?;
    let server = Server::start(programs, spool.path(), &[])?;
    send_to(&server, stage, spool.path(), &client)
}

/// Files a second by clients beside each other, each of which sends its own.
pub(crate) fn send_to(
    server: &Server,
    stage: &Stage,
    spool: &Path,
    client: &(impl Fn(SocketAddr, std::ops::Range<usize>) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<f64> {
    let each = stage.files(8000) / CLIENTS;
    let address = server.address;
    let began = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|at| scope.spawn(move || client(address, at * each..(at + 1) * each))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("clients do not panic"))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    files::check(spool, 0..CLIENTS * each)?;
    Ok((CLIENTS * each) as f64 / seconds)
}

fn move_over_one_connection(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    let spool = stage.folder()?;
    let count = stage.files(8000);
    files::fill(spool.path(), 0..count)?;
    let server = Server::start(programs, spool.path(), &["-I"])?;
    let mut body = [0; SMALL];
    let began = Instant::now();
    let mut wire = Wire::connect(server.address)?;
    for at in 0..count {
        wire.take(&files::name(at), &mut body)?;
        ensure!(body == files::contents(at), "{} differs", files::name(at));
    }
    wire.quit()?;
    let seconds = began.elapsed().as_secs_f64();
    files::check(spool.path(), 0..0)?;
    Ok(count as f64 / seconds)
}

fn idle_connections(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    let spool = stage.folder()?;
    let server = Server::start(programs, spool.path(), &["-c", "6000"])?;
    let mut idle = Vec::new();
    for _ in 0..5000 {
        let mut wire = Wire::connect(server.address)?;
        // It has been served before it idles.
        wire.ask("RECV <none>\n", "RECV ERR (file does not exist)\n")?;
        idle.push(wire);
    }
    server.memory("VmRSS")
}

const CLIENTS: usize = 8;
