//! Who comes in, and who does not.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Instant,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use runtime::telemetry::METER;
use transport::{
    proxy_header::HeaderError,
    tls::{HandshakeError, Pem, validities},
};

use crate::{NotEntered, Refused, expiry::Certificates, turns::Turns};

/// Counters of connections.
pub(crate) struct Metrics {
    accepted: Counter<u64>,
    refused: Counter<u64>,
    handshake: Histogram<f64>,
    failed: Counter<u64>,
}

/// Made with the first connection, when the program's meter stands.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Tells when the first certificate in each of these files expires. They are read when somebody asks.
pub(crate) fn watch_expiry(files: &Certificates) {
    static WATCHED: LazyLock<Mutex<BTreeSet<PathBuf>>> = LazyLock::new(|| {
        let _ = global::meter(METER)
            .i64_observable_gauge("tentacle_certificate_expiry_timestamp_seconds")
            .with_unit("s")
            .with_description("When the first certificate in a file expires, in seconds since 1970")
            .with_callback(|seen| {
                let files = WATCHED.lock().unwrap_or_else(PoisonError::into_inner).clone();
                for file in files {
                    let ends = validities(&file.clone().into())
                        .unwrap_or_default()
                        .into_iter()
                        .map(|one| one.not_after)
                        .min();
                    if let Some(ends) = ends {
                        seen.observe(ends, &[KeyValue::new("file", file.display().to_string())]);
                    }
                }
            })
            .build();
        Mutex::default()
    });
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    // What is not in a file goes as it comes, and has no series.
    for file in [&files.own, &files.authorities].into_iter().flatten().filter_map(Pem::path) {
        if watched.len() < MOST_FILES {
            watched.insert(file.to_owned());
        }
    }
}

/// Files of certificates with series of their own.
const MOST_FILES: usize = 1000;

/// Tells how many connections are served, and how many wait.
pub(crate) fn watch_turns(turns: &Arc<Turns>) {
    let gauge = |name: &'static str, about: &'static str, of: fn(&Turns) -> usize| {
        let turns = Arc::downgrade(turns);
        let _ = global::meter(METER)
            .u64_observable_gauge(name)
            .with_unit("{connection}")
            .with_description(about)
            .with_callback(move |seen| {
                if let Some(turns) = turns.upgrade() {
                    seen.observe(of(&turns) as u64, &[]);
                }
            })
            .build();
    };
    gauge("tentacle_connections_open", "Connections that are served", Turns::served);
    gauge("tentacle_connections_waiting", "Connections that wait to be served", Turns::waiting);
}

impl Metrics {
    fn new() -> Self {
        let meter = global::meter(METER);
        Self {
            accepted: meter
                .u64_counter("tentacle_connections_accepted")
                .with_description("Connections that came")
                .build(),
            refused: meter
                .u64_counter("tentacle_connections_refused")
                .with_description("Connections that were not let in, by why")
                .build(),
            handshake: meter
                .f64_histogram("tentacle_handshake_seconds")
                .with_unit("s")
                .with_description("How long a TLS handshake with a client took")
                .with_boundaries(vec![
                    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
                ])
                .build(),
            failed: meter
                .u64_counter("tentacle_handshake_failures")
                .with_description("TLS handshakes with clients that failed, by why")
                .build(),
        }
    }

    pub(crate) fn accepted(&self) {
        self.accepted.add(1, &[]);
    }

    pub(crate) fn refused(&self, why: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", why)]);
    }

    pub(crate) fn handshake(&self, began: Instant, failed: Option<&HandshakeError>) {
        match failed {
            None => self.handshake.record(began.elapsed().as_secs_f64(), &[]),
            Some(error) => self.failed.add(1, &[KeyValue::new("reason", of_handshake(error))]),
        }
    }
}

impl Refused {
    /// In one word, for figures.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Network => "address",
            Self::Hosts => "hosts",
            Self::Name(_) => "name",
        }
    }
}

impl NotEntered {
    /// In one word, for figures.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.reason(),
            Self::Header(HeaderError::TimedOut(_)) => "proxy_header_timeout",
            Self::Header(_) => "proxy_header",
            Self::Handshake(_) => "handshake",
            Self::MadeRoom => "made_room",
            Self::Full => "full",
            Self::TooMany(_) => "per_address",
        }
    }
}

/// In one word.
pub(crate) fn of_handshake(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::TimedOut(_) => "timeout",
        HandshakeError::Name(_) => "name",
        HandshakeError::NotTls(_) => "not_tls",
        HandshakeError::Closed(_) => "closed",
        HandshakeError::NoCertificate => "no_certificate",
        HandshakeError::Certificate(..) => "certificate",
        HandshakeError::Refused(..) => "refused_by_client",
        HandshakeError::TooOld(_) => "too_old",
        HandshakeError::OtherProtocol => "other_protocol",
        HandshakeError::Protocol(..) => "protocol",
        HandshakeError::Connection(..) => "connection",
    }
}
