//! The proxy, beside haproxy.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::{
    row::{Bound, Row, Stage},
    server::{self, Server},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "proxy-bulk",
            what: "bytes over one session of the proxy",
            bound: Bound::TimesHaproxy(1.0, "MB/s", |stage, _| Ok(bulk(stage, haproxy)?.rate)),
            measure: |stage, programs| Ok(bulk(stage, |stage, to| ours(stage, programs, to))?.rate),
        },
        Row {
            name: "proxy-cpu",
            what: "bytes for a second of the proxy's processor",
            bound: Bound::TimesHaproxy(1.0, "MB/cpu-s", |stage, _| Ok(bulk(stage, haproxy)?.per_processor)),
            measure: |stage, programs| Ok(bulk(stage, |stage, to| ours(stage, programs, to))?.per_processor),
        },
        Row {
            name: "proxy-new",
            what: "sessions of a byte each way, 8 clients",
            bound: Bound::TimesHaproxy(0.9, "a second", |stage, _| new_sessions(stage, haproxy)),
            measure: |stage, programs| new_sessions(stage, |stage, to| ours(stage, programs, to)),
        },
        Row {
            name: "proxy-idle",
            what: "idle sessions for a MB of resident memory",
            bound: Bound::TimesHaproxy(1.0, "/MB", |stage, _| idle(stage, haproxy)),
            measure: |stage, programs| idle(stage, |stage, to| ours(stage, programs, to)),
        },
    ]
}

/// A proxy to the address, and a folder that it needs for as long as it runs.
type Proxy = (Server, Option<TempDir>);

fn ours(_: &Stage, programs: &Path, to: SocketAddr) -> anyhow::Result<Proxy> {
    let address = server::free_address()?;
    let mut command = server::program(programs, "tentacle-proxy")?;
    command.args(["-a", "127.0.0.1", "-t", "60", "-c", "6000", "-p"]).arg(address.port().to_string());
    Ok((Server::spawn(command.arg("-b").arg(to.to_string()), address)?, None))
}

fn haproxy(stage: &Stage, to: SocketAddr) -> anyhow::Result<Proxy> {
    let (address, folder) = (server::free_address()?, stage.folder()?);
    let file = folder.path().join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "global\n    maxconn 6000\n\
             defaults\n    mode tcp\n    timeout connect 60s\n    timeout client 60s\n    timeout server 60s\n\
             listen tentacle\n    bind {address}\n    server one {to}\n"
        ),
    )?;
    let server = Server::spawn(Command::new("haproxy").arg("-db").arg("-f").arg(&file), address)?;
    Ok((server, Some(folder)))
}

/// What much over one session tells.
struct Bulk {
    /// MB a second.
    rate: f64,
    /// MB for a second of the proxy's processor time.
    per_processor: f64,
}

fn bulk(stage: &Stage, start: impl Fn(&Stage, SocketAddr) -> anyhow::Result<Proxy>) -> anyhow::Result<Bulk> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (proxy, _folder) = start(stage, listener.local_addr()?)?;
    let size = stage.files(4000) << 20;
    thread::scope(|scope| {
        let sink = scope.spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let mut stream = listener.accept()?.0;
                let mut came = 0;
                loop {
                    match stream.read(&mut buffer)? {
                        0 => break,
                        count => came += count,
                    }
                }
                if came == size {
                    return Ok(stream.write_all(b"x")?);
                }
                // Who looked whether the proxy listens.
                ensure!(came == 0, "{came} bytes came of {size}");
            }
        });
        let before = proxy.processor_seconds()?;
        let began = Instant::now();
        let mut stream = TcpStream::connect(proxy.address)?;
        let piece = vec![0; PIECE];
        for _ in 0..size / PIECE {
            stream.write_all(&piece)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut [0])?;
        let (seconds, megabytes) = (began.elapsed().as_secs_f64(), size as f64 / 1e6);
        let processor = proxy.processor_seconds()? - before;
        sink.join().expect("the sink does not panic")?;
        Ok(Bulk { rate: megabytes / seconds, per_processor: megabytes / processor.max(0.01) })
    })
}

fn new_sessions(
    stage: &Stage,
    start: impl Fn(&Stage, SocketAddr) -> anyhow::Result<Proxy>,
) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (proxy, _folder) = start(stage, listener.local_addr()?)?;
    let each = stage.files(16_000) / CLIENTS;
    let address = proxy.address;
    // One for each client, so that none waits for another.
    for _ in 0..CLIENTS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_ok() {
                    let _ = stream.write_all(&byte);
                }
            }
        });
    }
    let began = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..each {
                        let mut stream = TcpStream::connect(address)?;
                        stream.write_all(b"x")?;
                        stream.read_exact(&mut [0])?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().expect("clients do not panic"))
    })
    .map_err(|error: std::io::Error| error)
    .context("a session failed")?;
    Ok((CLIENTS * each) as f64 / began.elapsed().as_secs_f64())
}

fn idle(stage: &Stage, start: impl Fn(&Stage, SocketAddr) -> anyhow::Result<Proxy>) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (proxy, _folder) = start(stage, listener.local_addr()?)?;
    // Who looked whether the proxy listens.
    let mut far = vec![listener.accept()?.0];
    let mut near = Vec::new();
    let before = proxy.memory("VmRSS")?;
    for _ in 0..IDLE {
        let mut client = TcpStream::connect(proxy.address)?;
        let mut server = listener.accept()?.0;
        // It has been served before it idles.
        client.write_all(b"x")?;
        server.read_exact(&mut [0])?;
        server.write_all(b"x")?;
        client.read_exact(&mut [0])?;
        near.push(client);
        far.push(server);
    }
    Ok(IDLE as f64 / (proxy.memory("VmRSS")? - before))
}

const CLIENTS: usize = 8;

/// Sessions that idle.
const IDLE: usize = 4000;

const PIECE: usize = 1 << 20;
