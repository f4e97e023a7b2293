use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use tests::{Process, Receiver, eventually, program_command};

use crate::{page, scraped, value};

/// A puller for good, of these sources, that can be scraped.
fn puller(sources: &str, incoming: &std::path::Path) -> Process {
    let mut command = program_command("tentacle-sync-puller");
    command.args(["--incoming-dir", incoming.to_str().unwrap(), "--sync-address", sources]);
    command.args(["--interval", "1", "--http-addr", "127.0.0.1:0"]);
    Process::spawn(command)
}

/// The names on a page, as they are scraped.
fn names(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_is_in_the_book_and_passes_promtool() {
    let incoming = tempfile::tempdir().unwrap();
    let buffer = scraped().start();
    let proxy =
        Receiver::proxy_to([buffer.address()]).args(["--inspect", "--http-addr", "127.0.0.1:0"]).start();
    let puller = puller(&buffer.address().to_string(), incoming.path());
    let mut peer = proxy.connect();
    peer.store("a.data", b"hello");
    peer.quit();
    eventually("the file is at the centre", || {
        value(&page(&puller), r#"tentacle_files_total{command="MV",outcome="ok"}"#) == Some(1.0)
    });
    eventually("the round has ended", || {
        let source = format!(r#"tentacle_source_backlog_files{{source="{}"}}"#, buffer.address());
        value(&page(&puller), &source) == Some(0.0)
    });
    let pages = [page(buffer.process()), page(proxy.process()), page(&puller)];
    assert_eq!(value(&pages[0], r#"tentacle_files_total{command="SEND",outcome="ok"}"#), Some(1.0));
    assert_eq!(value(&pages[0], r#"tentacle_bytes_total{command="SEND",direction="in"}"#), Some(5.0));
    assert_eq!(value(&pages[1], r#"tentacle_files_total{command="SEND",outcome="ok"}"#), Some(1.0));
    assert_eq!(value(&pages[1], r#"tentacle_ready{check="draining"}"#), Some(1.0));
    let source = buffer.address();
    assert_eq!(value(&pages[2], &format!(r#"tentacle_source_up{{source="{source}"}}"#)), Some(1.0));
    for page in &pages {
        promtool(page);
    }
    let found: BTreeSet<_> = pages.iter().flat_map(|page| names(page)).collect();
    let book = include_str!("../../../docs/operations.md");
    let listed: BTreeSet<_> = book
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(['`', '{']))
        .map(|(name, _)| name.to_owned())
        .filter(|name| ["tentacle_", "tokio_", "process_"].iter().any(|begin| name.starts_with(begin)))
        .collect();
    // With a certificate, a refused client, a lost handshake, limits of the spool, or a cluster only.
    let seldom = [
        "tentacle_certificate_expiry_timestamp_seconds",
        "tentacle_connections_refused_total",
        "tentacle_handshake_failures_total",
        "tentacle_handshake_seconds",
        "tentacle_lease_renewals_total",
        "tentacle_members",
        "tentacle_shards_held",
        "tentacle_spool_expired_total",
        "tentacle_spool_max_bytes",
        "tentacle_spool_max_files",
        "tentacle_spool_refused_total",
    ];
    let listed_here: BTreeSet<_> =
        listed.iter().filter(|name| !seldom.contains(&name.as_str())).cloned().collect();
    assert_eq!(found, listed_here);
    assert!(seldom.iter().all(|name| listed.contains(*name)));
}

/// As Prometheus' own tool reads it.
fn promtool(page: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = started else {
        eprintln!("not checked: promtool is not there (apt-get install prometheus)");
        return;
    };
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let ended = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn many_sources_and_agents_leave_few_series() {
    let sources = (0..2000).fold(String::new(), |mut list, number| {
        let comma = if number > 0 { "," } else { "" };
        // Nobody listens there.
        write!(list, "{comma}127.7.{}.{}:9", number / 250, number % 250 + 1).unwrap();
        list
    });
    let incoming = tempfile::tempdir().unwrap();
    let puller = puller(&sources, incoming.path());
    let failed = |page: &str| page.lines().filter(|line| line.starts_with("tentacle_source_up{")).count();
    eventually("all sources have series", || failed(&page(&puller)) == 2000);
    let buffer = scraped().start();
    let mut peer = buffer.connect();
    for number in 0..50_000 {
        peer.send(format!("RECV <agent{number}.md5>\n"));
        peer.expect("RECV ERR (file does not exist)\n");
    }
    let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    let (centre, site) = (series(&page(&puller)), series(&page(buffer.process())));
    assert!(centre + site < 30_000, "{centre} + {site}");
    assert!(site < 200, "{site}");
}
