use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use tests::{Collector, Form, Key, Kind, Receiver, certificates, eventually};

use crate::{page, scraped, value};

const FAILED: &str = r#"tentacle_telemetry_dropped_total{reason="failed",signal="traces"}"#;
const FULL: &str = r#"tentacle_telemetry_dropped_total{reason="queue_full",signal="traces"}"#;

/// A buffer that tells everything to `endpoint`, in small queues.
fn telling(endpoint: &str, protocol: &str) -> Receiver {
    scraped()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "20")
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .start()
}

fn store(buffer: &Receiver, files: usize) {
    let mut peer = buffer.connect();
    for number in 0..files {
        peer.store(&format!("a{number}.data"), b"hello");
    }
    peer.quit();
}

#[test]
fn a_collector_that_is_down_changes_nothing_but_a_counter() {
    for protocol in ["grpc", "http/protobuf"] {
        // Nobody listens there any more.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let buffer = telling(&format!("http://{address}"), protocol);
        store(&buffer, 30);
        assert_eq!(buffer.files().len(), 30);
        eventually("what was lost is counted", || value(&page(buffer.process()), FAILED).unwrap() > 0.0);
        buffer.wait_for_log("telemetry cannot be sent");
        let said =
            buffer.log().iter().filter(|line| line["message"].to_string().contains("cannot be sent")).count();
        assert!((1..=3).contains(&said), "once for each signal: {said}");
        assert!(buffer.stop().success());
    }
}

#[test]
fn a_collector_that_hangs_holds_up_nobody() {
    for protocol in ["grpc", "http/protobuf"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let buffer = telling(&format!("http://{}", listener.local_addr().unwrap()), protocol);
        let began = Instant::now();
        store(&buffer, 200);
        assert_eq!(buffer.files().len(), 200);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        eventually("what found the queue full is counted", || {
            value(&page(buffer.process()), FULL).unwrap() > 0.0
        });
        eventually("what was not taken is counted", || value(&page(buffer.process()), FAILED).unwrap() > 0.0);
        let began = Instant::now();
        assert!(buffer.stop().success());
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
}

#[test]
fn a_collector_is_spoken_to_over_tls() {
    let (pki, kind) = (certificates(), Kind { form: Form::V3San, key: Key::P256 });
    for (grpc, protocol) in [(true, "grpc"), (false, "http/protobuf")] {
        let collector = Collector::tls(grpc, kind);
        let told_by = |authority: &str| {
            let buffer = scraped()
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
                .env("OTEL_EXPORTER_OTLP_CERTIFICATE", pki.certificate(authority))
                .env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", pki.certificate(&kind.client()))
                .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", pki.key(&kind.client()))
                .env("OTEL_BSP_SCHEDULE_DELAY", "50")
                .start();
            store(&buffer, 1);
            buffer
        };
        let stranger = told_by("other-ca");
        eventually("one that cannot be trusted is told nothing", || {
            value(&page(stranger.process()), FAILED).unwrap() > 0.0
        });
        assert!(collector.spans().is_empty());
        let _buffer = told_by(&kind.servers_authority());
        eventually("spans", || collector.spans().iter().any(|seen| seen.span.name == "file stored"));
    }
}

#[test]
fn logs_go_to_a_collector_on_request() {
    let (asked, unasked) = (Collector::http(), Collector::http());
    let buffer = telling(&asked.endpoint(), "http/protobuf");
    store(&buffer, 1);
    eventually("a line of the log", || asked.logs().iter().any(|line| line == "file stored"));
    let silent = scraped().env("OTEL_EXPORTER_OTLP_ENDPOINT", unasked.endpoint()).start();
    store(&silent, 1);
    assert!(silent.stop().success());
    assert!(!unasked.spans().is_empty() && unasked.logs().is_empty());
}
