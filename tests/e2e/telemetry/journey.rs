use std::{collections::BTreeSet, fs, process::Command};

use sha2::{Digest as _, Sha256};
use tests::{Collector, Receiver, Seen, eventually, program_command, run};

/// The derivation, as docs/operations.md has it and not as the programs have it.
fn derived(name: &str, content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut all = format!("tentacle-journey-v1\0{name}\0").into_bytes();
    all.extend(Sha256::digest(content));
    let digest = Sha256::digest(all);
    (digest[..16].to_vec(), digest[16..24].to_vec())
}

fn told_to(command: &mut Command, collector: &Collector, protocol: &str) {
    command.envs(variables(collector, protocol));
}

fn variables(collector: &Collector, protocol: &str) -> [(String, String); 4] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn steps(spans: &[Seen]) -> BTreeSet<(String, String)> {
    spans.iter().map(|seen| (seen.service.clone(), seen.span.name.clone())).collect()
}

#[test]
fn one_file_is_one_trace_from_the_agent_to_the_centre() {
    let (site, centre) = (Collector::grpc(), Collector::http());
    let with = |builder: tests::Builder| {
        variables(&site, "grpc").into_iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    };
    let buffer = with(Receiver::builder().args(["-I", "-o"])).start();
    let proxy = with(Receiver::proxy_to([buffer.address()]).args(["--inspect"])).start();

    let folder = tempfile::tempdir().unwrap();
    let (name, content) = ("web01.1.data", "<agent_data/>\n".repeat(40_000));
    fs::write(folder.path().join(name), &content).unwrap();
    let mut client = program_command("tentacle_client");
    client.current_dir(folder.path()).args(["-a", &proxy.address().ip().to_string(), name]);
    told_to(&mut client, &site, "grpc");
    let ended = run(client);
    assert!(ended.status.success(), "{}", ended.stderr);

    let incoming = tempfile::tempdir().unwrap();
    let mut puller = program_command("tentacle-sync-puller");
    puller.args(["--once", "--incoming-dir", incoming.path().to_str().unwrap()]);
    puller.args(["--sync-address", &buffer.address().to_string()]);
    told_to(&mut puller, &centre, "http/protobuf");
    let ended = run(puller);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(incoming.path().join(name)).unwrap(), content);

    let (trace, parent) = derived(name, content.as_bytes());
    let of_file = |collector: &Collector| -> Vec<Seen> {
        collector.spans().into_iter().filter(|seen| seen.span.trace_id == trace).collect()
    };
    let wanted = |steps: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        steps.iter().map(|(service, step)| ((*service).to_owned(), (*step).to_owned())).collect()
    };
    let at_site = wanted(&[
        ("tentacle_client", "file sent"),
        ("tentacle-proxy", "file passed on"),
        ("tentacle_server", "file stored"),
        ("tentacle_server", "file handed out"),
    ]);
    let at_centre =
        wanted(&[("tentacle-sync-puller", "file fetched"), ("tentacle-sync-puller", "file published")]);
    eventually("the spans of the site", || steps(&of_file(&site)) == at_site);
    eventually("the spans of the centre", || steps(&of_file(&centre)) == at_centre);
    for seen in of_file(&site).iter().chain(&of_file(&centre)) {
        assert_eq!(seen.span.parent_span_id, parent, "{seen:?}");
        assert_eq!(seen.attribute("file.name"), name);
        let [link] = &seen.span.links[..] else { panic!("{seen:?}") };
        assert!(link.trace_id != trace && seen.span.end_time_unix_nano > seen.span.start_time_unix_nano);
    }

    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let line = buffer.wait_for_log("file stored");
    assert_eq!(line["trace_id"], hex(&trace), "{line}");
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    // A line of a connection carries the connection's.
    let line = buffer.wait_for_log("connection closed: quit");
    assert!(line["trace_id"].is_string() && line["trace_id"] != hex(&trace), "{line}");

    eventually("the spans of connections", || {
        let names: BTreeSet<_> = site.spans().into_iter().map(|seen| seen.span.name).collect();
        ["connection", "session", "dial", "SEND", "MV", "flush"].iter().all(|name| names.contains(*name))
    });
    let spans = site.spans();
    let send = spans.iter().find(|seen| seen.span.name == "SEND").unwrap();
    assert_eq!(send.attribute("tentacle.outcome"), "ok");
    assert_eq!(send.attribute("file.size"), content.len().to_string());
    let connection = spans.iter().find(|seen| seen.span.span_id == send.span.parent_span_id).unwrap();
    assert_eq!(
        (connection.span.name.as_str(), connection.attribute("network.transport").as_str()),
        ("connection", "tcp")
    );
    eventually("pushed metrics", || site.metrics().iter().any(|name| name == "tentacle_files"));
    let rounds = centre.spans();
    let round = rounds.iter().find(|seen| seen.span.name == "round").unwrap();
    assert_eq!(
        (round.attribute("tentacle.files"), round.attribute("tentacle.outcome")),
        ("1".into(), "ok".into())
    );
}

#[test]
fn a_packed_file_is_on_the_journey_of_what_it_unpacks_to() {
    let site = Collector::http();
    let buffer = variables(&site, "http/protobuf")
        .into_iter()
        .fold(Receiver::builder(), |builder, (name, value)| builder.env(name, value))
        .start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.data"), "hello").unwrap();
    for arguments in [&["-z"][..], &["-g", "-z"]] {
        let mut client = program_command("tentacle_client");
        client.current_dir(folder.path()).args(["-a", &buffer.address().ip().to_string()]);
        client.args(arguments).arg("a.data");
        told_to(&mut client, &site, "http/protobuf");
        let ended = run(client);
        assert!(ended.status.success(), "{}", ended.stderr);
    }
    let (trace, _) = derived("a.data", b"hello");
    let all = [
        ("tentacle_client", "file sent"),
        ("tentacle_client", "file fetched"),
        ("tentacle_server", "file stored"),
        ("tentacle_server", "file fetched"),
    ];
    eventually("all four steps", || {
        let spans: Vec<_> = site.spans().into_iter().filter(|seen| seen.span.trace_id == trace).collect();
        steps(&spans) == all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    });
}

#[test]
fn both_ends_sample_the_same_files() {
    let (site, centre) = (Collector::grpc(), Collector::grpc());
    let sampled = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.5")];
    let mut builder = Receiver::builder().args(["-I"]);
    for (name, value) in variables(&site, "grpc") {
        builder = builder.env(name, value);
    }
    for (name, value) in sampled {
        builder = builder.env(name, value);
    }
    let buffer = builder.start();
    let mut peer = buffer.connect();
    for number in 0..60 {
        peer.store(&format!("a{number}.data"), b"hello");
    }
    peer.quit();
    let incoming = tempfile::tempdir().unwrap();
    let mut puller = program_command("tentacle-sync-puller");
    puller.args(["--once", "--incoming-dir", incoming.path().to_str().unwrap()]);
    puller.args(["--sync-address", &buffer.address().to_string()]).envs(sampled);
    told_to(&mut puller, &centre, "grpc");
    assert!(run(puller).status.success());
    assert!(buffer.stop().success());
    let names = |collector: &Collector, step: &str| -> BTreeSet<String> {
        let spans = collector.spans().into_iter().filter(|seen| seen.span.name == step);
        spans.map(|seen| seen.attribute("file.name")).collect()
    };
    let stored = names(&site, "file stored");
    assert!((5..56).contains(&stored.len()), "{}", stored.len());
    assert_eq!(stored, names(&site, "file handed out"));
    assert_eq!(stored, names(&centre, "file fetched"));
    assert_eq!(stored, names(&centre, "file published"));
}
