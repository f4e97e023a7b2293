//! What traces cost.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    thread,
};

use crate::{
    row::{Bound, Row, Stage},
    server::Server,
    small,
};

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "telemetry",
        what: "as many, with 10 % of the files traced, and scraped",
        bound: Bound::TimesUntraced(0.95, |stage, programs| send(stage, programs, &[])),
        measure: traced,
    }]
}

fn traced(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    // It lasts as long as this process, with nothing to do.
    thread::spawn(move || collect(&listener));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
    ];
    send(stage, programs, &variables)
}

fn send(stage: &Stage, programs: &Path, variables: &[(&str, &str)]) -> anyhow::Result<f64> {
    let spool = stage.folder()?;
    let options = ["--http-addr", "127.0.0.1:0"];
    let server = Server::start_with(programs, spool.path(), &options, variables)?;
    small::send_to(&server, stage, spool.path(), &small::many)
}

/// A collector that takes everything and keeps nothing.
fn collect(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || while take(&stream).is_some() {});
    }
}

/// One request.
fn take(stream: &TcpStream) -> Option<()> {
    let (mut reader, mut size) = (BufReader::new(stream), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            size = length.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    std::io::copy(&mut reader.take(size), &mut std::io::sink()).ok()?;
    (&mut &*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
}
