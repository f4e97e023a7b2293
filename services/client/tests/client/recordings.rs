//! Each recorded session of the peers' client is what the built client does.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::session::{Session, Step};

#[test]
fn every_recorded_session_is_repeated_to_the_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/client");
    let mut replayed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let recording = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        replay(&recording);
        replayed += 1;
    }
    assert_eq!(replayed, 13);
}

fn replay(recording: &Value) {
    let name = recording["name"].as_str().unwrap();
    let before = files(&recording["files_before"]);
    let session =
        before.iter().fold(Session::new(), |session, (name, content)| session.with_file(name, content));
    let arguments: Vec<_> =
        recording["client_args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let steps = recording["steps"].as_array().unwrap().iter().map(|step| step_of(step, &before)).collect();

    let ended = session.run_against(steps, &arguments);

    assert_eq!(i64::from(ended.status), recording["exit_status"].as_i64().unwrap(), "{name}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), usize::from(ended.status != 0), "{name}: {ended:?}");
    let mut after = before;
    after.extend(files(&recording["files_written"]));
    assert_eq!(ended.files(), after, "{name}");
}

fn files(recorded: &Value) -> BTreeMap<String, Vec<u8>> {
    let files = recorded.as_object().unwrap().iter();
    files.map(|(name, content)| (name.clone(), bytes(content))).collect()
}

fn step_of(step: &Value, files: &BTreeMap<String, Vec<u8>>) -> Step {
    let (kind, value) = step.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "client_sends" => client_sends(bytes(value), files),
        "server_sends" => Step::ServerSends(bytes(value)),
        "client_closes" => Step::ClientCloses,
        "server_closes" => Step::ServerCloses,
        other => panic!("{other} is no step"),
    }
}

/// Archives of the same file are of many forms and sizes.
fn client_sends(sent: Vec<u8>, files: &BTreeMap<String, Vec<u8>>) -> Step {
    if sent.starts_with(b"PK") {
        return Step::ClientSendsArchiveOf(files.values().next().unwrap().clone());
    }
    match sent.strip_prefix(b"ZSEND <") {
        Some(rest) => {
            Step::ClientOffersArchive(rest[..rest.iter().position(|&b| b == b'>').unwrap()].to_vec())
        }
        None => Step::ClientSends(sent),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => BASE64_STANDARD.decode(value["base64"].as_str().unwrap()).unwrap(),
    }
}
