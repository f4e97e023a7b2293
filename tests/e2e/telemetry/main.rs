//! What the programs tell by OpenTelemetry, and on the page for Prometheus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod collectors;
mod journey;
mod metrics;
mod settings;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use tests::{Process, Receiver};

/// Where a service answers HTTP, with this line in its log.
fn http_address(process: &Process) -> SocketAddr {
    let line = process.wait_for_line("where HTTP is answered", |line| line.contains("answering HTTP"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

/// The answer's head and body.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The page of a service.
fn page(process: &Process) -> String {
    let (head, body) = get(http_address(process), "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body
}

/// The value of one series.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// A buffer that can be scraped.
fn scraped() -> tests::Builder {
    Receiver::builder().args(["-I", "-o", "--http-addr", "127.0.0.1:0"])
}
