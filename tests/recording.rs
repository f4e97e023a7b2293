//! Sessions that were recorded from the peers' server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

/// A session with a server, and what its spool held before and after.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file's name without its ending.
    pub name: String,
    /// Beside those for the address and the spool.
    pub server_args: Vec<String>,
    /// Path to bytes; a path that ends in `/` is a folder.
    pub spool_before: BTreeMap<String, Vec<u8>>,
    /// In turn.
    pub steps: Vec<Step>,
    /// Path to bytes.
    pub spool_after: BTreeMap<String, Vec<u8>>,
}

/// One step of a session.
#[derive(Clone, Debug)]
pub enum Step {
    /// The client sends these pieces, each by its own write.
    Send(Vec<Vec<u8>>),
    /// The server sends this, and nothing more.
    Recv {
        /// All of it.
        bytes: Vec<u8>,
        /// Whether its lines may come in another order.
        any_order: bool,
    },
    /// The server closes.
    Closed,
}

impl Recording {
    /// Every recording of the server, by name.
    pub fn of_server() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/server");
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let recorded: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            server_args: list(&recorded["server_args"])
                .map(|text| text.as_str().unwrap().to_owned())
                .collect(),
            spool_before: files(&recorded["spool_before"]),
            steps: list(&recorded["steps"]).map(step).collect(),
            spool_after: files(&recorded["spool_after"]),
        }
    }

    /// The folders that the filters of its server name.
    pub fn filter_folders(&self) -> Vec<String> {
        let filters = self.server_args.iter().skip_while(|argument| *argument != "-i").nth(1);
        let pairs = filters.iter().flat_map(|filters| filters.split(';'));
        pairs.filter_map(|pair| pair.rsplit_once(':')).map(|(_, folder)| folder.to_owned()).collect()
    }
}

fn step(step: &Value) -> Step {
    if !step["send"].is_null() {
        Step::Send(list(&step["send"]).map(bytes).collect())
    } else if !step["recv"].is_null() {
        let any_order = step["lines_in_any_order"].as_bool().unwrap_or(false);
        Step::Recv { bytes: bytes(&step["recv"]), any_order }
    } else {
        assert_eq!(step["closed"], true, "a step of an unknown kind: {step}");
        Step::Closed
    }
}

fn files(files: &Value) -> BTreeMap<String, Vec<u8>> {
    files.as_object().unwrap().iter().map(|(path, content)| (path.clone(), bytes(content))).collect()
}

/// Text, or `{"base64": …}`.
fn bytes(value: &Value) -> Vec<u8> {
    match value.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => BASE64_STANDARD.decode(value["base64"].as_str().unwrap()).unwrap(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}
