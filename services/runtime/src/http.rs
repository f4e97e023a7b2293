//! The HTTP endpoint of a service: `/livez` and `/readyz`, for Kubernetes and for people, and `/metrics`, for
//! Prometheus.
//!
//! It answers in plain HTTP/1.1, one request a connection, and runs beside the service: whatever a stranger sends, or
//! does not send, costs one of a few connections for a few seconds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::health::{Health, Standing};
use crate::telemetry::{self, Form};

/// The endpoint, where there is one. It answers until [`Http::end`], or until it is dropped.
#[derive(Debug)]
#[must_use = "it answers for as long as it is held"]
pub struct Http(Option<AbortOnDropHandle<()>>);

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be taken.
    #[error("--http-addr: {address}: cannot be listened on: {error}{}", hint(.error))]
    Listen {
        /// As it was given.
        address: SocketAddr,
        /// The system's.
        error: io::Error,
    },
}

// === impl Http ===

impl Http {
    /// Answers on `address` by what `health` says; without an address, there is no endpoint. Port 0 takes a free one,
    /// which the log names. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be taken.
    pub async fn start(address: Option<SocketAddr>, health: &Health) -> Result<Http, HttpError> {
        let Some(address) = address else { return Ok(Http(None)) };
        let failed = |error| HttpError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "answering HTTP: /livez, /readyz, /metrics");
        Ok(Http(Some(AbortOnDropHandle::new(tokio::spawn(accept(listener, health.clone()))))))
    }

    /// Whether there is one: checks that cost something are made for somebody.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Answers no more: the last that a service does, so that whoever asks during its drain is told.
    pub async fn end(self) {
        if let Some(accepting) = self.0 {
            accepting.abort();
            let _ = accepting.await;
        }
    }
}

async fn accept(listener: TcpListener, health: Health) {
    let mut open = VecDeque::<AbortOnDropHandle<()>>::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == CONNECTIONS {
                    // An honest one needs a moment: the oldest is the one that only holds its place.
                    open.pop_front();
                }
                open.push_back(AbortOnDropHandle::new(tokio::spawn(serve(stream, health.clone()))));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection for HTTP");
                // Out of descriptors, which some may give back.
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, health: Health) {
    let health = &health;
    let service =
        service_fn(move |request| async move { Ok::<_, Infallible>(answer(&request, health).await) });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        // The whole connection has a bound.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(PATIENCE, served).await {
        tracing::debug!(%error, "HTTP connection broken off");
    }
}

async fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    let uri = request.uri();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match uri.path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readyz(&health.standings(), is_verbose(uri.query())),
        "/metrics" => {
            let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            metrics(Form::asked_for(accept)).await
        }
        _ => text(StatusCode::NOT_FOUND, "not here: /livez, /readyz and /metrics are\n"),
    }
}

/// What is asked for the page may read a disk.
async fn metrics(form: Form) -> Response<Full<Bytes>> {
    let Ok(Some(page)) = spawn_blocking(move || telemetry::page(form)).await else {
        return text(StatusCode::NOT_FOUND, "no metrics are made (OTEL_SDK_DISABLED)\n");
    };
    let mut response = text(StatusCode::OK, page);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    response
}

fn is_verbose(query: Option<&str>) -> bool {
    let keys = |query: &str| {
        query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(key, _)| key) == "verbose")
    };
    query.is_some_and(keys)
}

/// In the form of Kubernetes' own components
/// (<https://kubernetes.io/docs/reference/using-api/health-checks/>).
fn readyz(standings: &[Standing], verbose: bool) -> Response<Full<Bytes>> {
    let failed: Vec<_> =
        standings.iter().filter(|standing| standing.result.is_err()).map(|standing| standing.name).collect();
    let status = if failed.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = match (failed.is_empty(), verbose) {
        (true, false) => "ok\n".to_owned(),
        (false, false) => format!("failed: {}\n", failed.join(", ")),
        (passed, true) => {
            let mut lines: String = standings.iter().map(line).collect();
            lines.push_str(if passed { "readyz check passed\n" } else { "readyz check failed\n" });
            lines
        }
    };
    text(status, body)
}

fn line(Standing { name, result }: &Standing) -> String {
    match result {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(why) => format!("[-]{name} failed: {}\n", why.replace(char::is_control, " ")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: stop it, or choose another port)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege: choose another port)",
        io::ErrorKind::AddrNotAvailable => " (it is not an address of this machine)",
        _ => "",
    }
}

/// Connections at once.
const CONNECTIONS: usize = 64;

/// From a connection's beginning to its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a request's line and headers: the least that hyper takes.
const LARGEST_HEAD: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbose_is_a_key_of_the_query() {
        for query in ["verbose", "verbose=1", "a&verbose=", "verbose&a=b"] {
            assert!(is_verbose(Some(query)), "{query}");
        }
        for query in ["", "verbos", "averbose", "a=verbose", "verbose2"] {
            assert!(!is_verbose(Some(query)), "{query}");
        }
        assert!(!is_verbose(None));
    }

    #[test]
    fn a_reason_stays_one_line() {
        let standing = Standing { name: "spool", result: Err("a\nreadyz check passed\r\x1b[2J".to_owned()) };
        assert_eq!(line(&standing), "[-]spool failed: a readyz check passed  [2J\n");
    }
}
