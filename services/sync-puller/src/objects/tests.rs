//! Objects at an API server.

mod api;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};

use self::api::ApiServer;
use super::*;
use crate::{options, report::Report};

/// A process that follows them.
struct Process {
    objects: Objects,
    sources: watch::Receiver<Sources>,
}

impl Process {
    fn start(server: &ApiServer, identity: &str) -> Self {
        let needed = ["--incoming-dir", "/tmp", "--sync-address", "own"];
        let parsed = options::program("puller").parse(needed.map(Into::into), []).unwrap();
        let runtime::options::Given::Layers(layers) = parsed else { panic!("a text was asked for") };
        let options = options::Options::from_layers(&layers).unwrap();
        let own = options.sources.iter().map(|source| source.address.clone()).collect::<BTreeSet<_>>();
        let (client, given) = (server.client(), Arc::new(options.given));
        let (objects, sources) = Objects::start(client, "ships".to_owned(), identity.to_owned(), given, own);
        Self { objects, sources }
    }

    fn wanted(&self) -> Vec<String> {
        self.sources.borrow().keys().map(ToString::to_string).collect()
    }

    fn report(&self, address: &str) -> Report {
        self.sources.borrow()[&address.parse().unwrap()].report.clone()
    }
}

#[track_caller]
fn eventually(what: &str, is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let (what, mut is_so) = (what.to_owned(), is_so);
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(20), "{caller}: never so: {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_followed_and_a_wrong_one_disturbs_no_other() {
    let server = ApiServer::start();
    server.apply("good", json!({ "address": "ship1" }));
    server.apply("bad", json!({ "address": "ship 2" }));
    server.apply("keyless", json!({ "address": "ship3", "passwordSecret": { "name": "word" } }));
    server.apply("odd", json!({ "address": 7 }));
    server.apply("again", json!({ "address": "ship1:41121" }));
    server.apply("taken", json!({ "address": "own" }));
    let process = Process::start(&server, "me");
    eventually("one is wanted", || process.wanted() == ["ship1:41121"]).await;
    for (name, wanted) in [
        ("good", "True Accepted"),
        ("bad", "False InvalidAddress"),
        ("keyless", "False SecretNotFound"),
        ("odd", "False InvalidSpec"),
        ("again", "False Duplicate"),
        ("taken", "False Duplicate"),
    ] {
        eventually(name, || server.condition(name, "Accepted") == wanted).await;
    }
    assert_eq!(server.condition("good", "Ready"), "Unknown Waiting");
    assert_eq!(server.condition("bad", "Ready"), "False NotAccepted");
    let why = server.status("again")["message"].to_string();
    assert!(why.contains("ship1:41121 is the address of the TentacleSource good, which is older"), "{why}");
    eventually("each is told once", || {
        let mut told = server.held().events.clone();
        told.sort();
        told == ["again", "bad", "keyless", "odd", "taken"]
            .map(|name| ("NotAccepted".to_owned(), name.to_owned()))
    })
    .await;

    // What is set right is followed.
    server.secret("word", json!({ "password": "Z2VoZWlt" }));
    server
        .apply("keyless", json!({ "address": "ship3", "passwordSecret": { "name": "word" }, "interval": 5 }));
    server.apply("bad", json!({ "address": "ship2" }));
    eventually("three are wanted", || process.wanted() == ["ship1:41121", "ship2:41121", "ship3:41121"])
        .await;
    // The next of the name takes over.
    let former = process.report("ship1");
    server.delete("good");
    eventually("the other has the address", || server.condition("again", "Accepted") == "True Accepted")
        .await;
    assert!(!process.report("ship1").is_same(&former));
    server.apply("bad", json!({ "address": "ship2", "paused": true }));
    eventually("one rests", || server.condition("bad", "Ready") == "False Paused").await;
    assert_eq!(process.wanted(), ["ship1:41121", "ship3:41121"]);
    let writes = server.held().writes;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.held().writes, writes, "nothing is written when nothing happens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_tells_what_comes_of_it_from_one_process_to_the_next() {
    let server = ApiServer::start();
    server.apply("ship", json!({ "address": "ship" }));
    let (first, second) = (Process::start(&server, "first"), Process::start(&server, "second"));
    for process in [&first, &second] {
        eventually("it is wanted", || process.wanted() == ["ship:41121"]).await;
    }
    let report = first.report("ship");
    report.begun();
    eventually("it is held", || server.status("ship")["holder"] == "first").await;
    report.round("ship", (5, 500), 2, None);
    eventually("it is well", || server.condition("ship", "Ready") == "True Pulled").await;
    let status = server.status("ship");
    assert_eq!((&status["files"], &status["bytes"], &status["backlog"]), (&json!(5), &json!(500), &json!(2)));
    assert!(status["lastSuccess"].is_string() && status["message"].is_null(), "{status}");
    report.round("ship", (1, 100), 0, Some("cannot connect".to_owned()));
    eventually("it fails", || server.condition("ship", "Ready") == "False Failing").await;
    assert_eq!(server.status("ship")["message"], "cannot connect");

    // Counters alone wait, and come with the last words.
    report.round("ship", (2, 200), 0, Some("cannot connect".to_owned()));
    report.ended();
    first.objects.end().await;
    assert_eq!(
        (&server.status("ship")["holder"], &server.status("ship")["files"]),
        (&json!(null), &json!(8))
    );

    let report = second.report("ship");
    report.begun();
    eventually("the next has it", || server.status("ship")["holder"] == "second").await;
    assert_eq!(server.condition("ship", "Ready"), "False Failing");
    report.round("ship", (1, 10), 0, None);
    eventually("it is well again", || server.condition("ship", "Ready") == "True Pulled").await;
    assert_eq!((&server.status("ship")["files"], &server.status("ship")["bytes"]), (&json!(9), &json!(810)));
    eventually("both turns are told, and once", || {
        let told: Vec<_> = server.held().events.iter().map(|(reason, _)| reason.clone()).collect();
        told == ["PullFailed", "Recovered"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_statuses_are_written_one_after_the_other() {
    let server = ApiServer::start();
    for number in 0..40 {
        server.apply(&format!("ship{number}"), json!({ "address": format!("ship {number}") }));
    }
    let began = Instant::now();
    let process = Process::start(&server, "me");
    let written = || server.held().writes.0;
    eventually("all are written", || written() == 40).await;
    assert!(began.elapsed() > Duration::from_millis(3500), "no more than ten a second");
    process.objects.end().await;
    assert_eq!(written(), 40, "nothing is left to say");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_again_after_its_time_and_followed() {
    let server = ApiServer::start();
    let mut secrets = Secrets::new(Api::namespaced(server.client(), "ships"));
    secrets.need(["word".to_owned()].into());
    let began = Instant::now();
    secrets.read_what_is_due(began);
    assert_eq!(secrets.changed().await, "word");
    assert_eq!(secrets.get("word"), Some(&secrets::Found::Absent));
    server.secret("word", json!({ "password": "Z2VoZWlt" }));
    secrets.read_what_is_due(began + Duration::from_secs(29));
    let early = timeout(Duration::from_millis(300), secrets.changed()).await;
    assert!(early.is_err(), "it is not asked for all the time");
    secrets.read_what_is_due(began + Duration::from_secs(31));
    assert_eq!(secrets.changed().await, "word");
    let Some(secrets::Found::Here(keys)) = secrets.get("word") else { panic!("not there") };
    assert_eq!(keys["password"].expose(), b"geheim");
    assert!(!format!("{keys:?}").contains("geheim"));
    secrets.need(BTreeSet::new());
    assert_eq!(secrets.get("word"), None);
}
