use std::fs;

use tests::{Collector, PORT, Process, Receiver, program_command, run};

use crate::{get, http_address, scraped};

#[test]
fn disabled_is_off() {
    let collector = Collector::grpc();
    let buffer = scraped()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_SDK_DISABLED", "true")
        .start();
    let mut peer = buffer.connect();
    peer.store("a.data", b"hello");
    peer.quit();
    assert!(buffer.wait_for_log("file stored")["trace_id"].is_null());
    let (head, body) = get(http_address(buffer.process()), "/metrics");
    assert!(head.starts_with("HTTP/1.1 404") && body.contains("OTEL_SDK_DISABLED"), "{head} {body}");
    assert!(buffer.stop().success());
    assert!(collector.spans().is_empty() && collector.metrics().is_empty());
}

#[test]
fn without_an_endpoint_there_is_no_trace_of_it() {
    let buffer = Receiver::start(["-I"]);
    let mut peer = buffer.connect();
    peer.store("a.data", b"hello");
    peer.quit();
    assert!(buffer.wait_for_log("file stored")["trace_id"].is_null());
    let threads = fs::read_dir(format!("/proc/{}/task", buffer.process().id())).unwrap();
    let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).unwrap());
    assert!(!names.into_iter().any(|name| name.contains("telemetry") || name.contains("OpenTel")));
}

#[test]
fn a_value_of_no_use_ends_the_start_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("ca.pem");
    fs::write(&text, "no certificate").unwrap();
    let text = text.to_str().unwrap();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4317");
    for (protocol, variables, said) in [
        (
            "grpc",
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")],
            "is no URL of a collector (write http://HOST:PORT",
        ),
        ("grpc", vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://x")], "is no URL of a collector"),
        (
            "grpc",
            vec![endpoint, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem")],
            "No such file or directory",
        ),
        ("grpc", vec![endpoint, ("OTEL_EXPORTER_OTLP_CERTIFICATE", text)], "there is no certificate in it"),
        (
            "http/protobuf",
            vec![endpoint, ("OTEL_EXPORTER_OTLP_CERTIFICATE", text)],
            "there is no certificate in it",
        ),
        (
            "grpc",
            vec![endpoint, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", text)],
            "go together (name both, or neither)",
        ),
    ] {
        for (program, arguments) in [
            ("tentacle-receiver", vec!["-s", "/tmp"]),
            ("tentacle-proxy", vec!["-b", "127.0.0.1"]),
            ("tentacle-sync-puller", vec!["--sync-address", "127.0.0.1", "--incoming-dir", "/tmp"]),
            ("tentacle_client", vec!["-a", "127.0.0.1", text]),
        ] {
            let mut command = program_command(program);
            command.args(arguments).env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).envs(variables.clone());
            let ended = run(command);
            assert_eq!(ended.status.code(), Some(1), "{program} {variables:?}");
            let name = variables.last().unwrap().0;
            assert!(ended.stderr.starts_with(&format!("{program}: error: {name}=")), "{}", ended.stderr);
            assert!(ended.stderr.contains(said) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
        }
    }
}

#[test]
fn any_other_wrong_value_is_said_and_passed_over() {
    let buffer = Receiver::builder().env("OTEL_TRACES_SAMPLER", "sometimes").start();
    let line = buffer.wait_for_log("OTEL_TRACES_SAMPLER");
    assert_eq!(line["level"], "WARN");
    assert!(
        line["message"].as_str().unwrap().contains("\"sometimes\" is passed over: allowed are always_on")
    );
}

/// A puller ends within its bound, though its collector hangs.
#[test]
fn a_program_that_ends_gives_its_last_words_three_seconds() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let buffer = Receiver::start(["-I"]);
    let mut client = program_command("tentacle_client");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.data"), "hello").unwrap();
    client.current_dir(folder.path());
    client.args(["-a", &buffer.address().ip().to_string(), "-p", &PORT.to_string(), "a.data"]);
    client.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", listener.local_addr().unwrap()));
    let began = std::time::Instant::now();
    let mut process = Process::spawn(client);
    assert!(process.wait().success());
    assert!(began.elapsed() < std::time::Duration::from_secs(6), "{:?}", began.elapsed());
}
