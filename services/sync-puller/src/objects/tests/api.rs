//! As much of an API server as the objects need, over a real socket.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use kube::{Client, Config};
use serde_json::{Value, json};

/// Ends with the process.
#[derive(Clone)]
pub(super) struct ApiServer {
    held: Arc<(Mutex<Held>, Condvar)>,
    address: String,
}

#[derive(Default)]
pub(super) struct Held {
    version: u64,
    objects: BTreeMap<String, Value>,
    /// What a watch shows, with the version it came with.
    changes: Vec<(u64, Value)>,
    pub(super) secrets: BTreeMap<String, Value>,
    /// Reason and object of each.
    pub(super) events: Vec<(String, String)>,
    /// Statuses that were written, and that were refused as overtaken.
    pub(super) writes: (usize, usize),
}

impl ApiServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { held: Arc::default(), address };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = serving.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub(super) fn client(&self) -> Client {
        Client::try_from(Config::new(self.address.parse().unwrap())).unwrap()
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.0.lock().unwrap()
    }

    /// As `kubectl apply`.
    pub(super) fn apply(&self, name: &str, spec: Value) {
        let mut held = self.held();
        let made = held.version;
        let mut object = held.objects.get(name).cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "tentacle.dev/v1alpha1",
                "kind": "TentacleSource",
                "metadata": {
                    "name": name, "namespace": "ships", "uid": format!("{name}-{made}"), "generation": 0,
                    "creationTimestamp": format!("2026-11-21T00:{:02}:{:02}Z", made / 60, made % 60),
                },
            })
        });
        object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_u64().unwrap() + 1);
        object["spec"] = spec;
        self.put(&mut held, name, object);
    }

    pub(super) fn delete(&self, name: &str) {
        let mut held = self.held();
        let object = held.objects.remove(name).unwrap();
        held.version += 1;
        let version = held.version;
        held.changes.push((version, json!({ "type": "DELETED", "object": object })));
        self.held.1.notify_all();
    }

    pub(super) fn secret(&self, name: &str, data: Value) {
        let secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
        self.held().secrets.insert(name.to_owned(), secret);
    }

    /// Of the object, as it is now.
    pub(super) fn status(&self, name: &str) -> Value {
        self.held().objects.get(name).map_or(Value::Null, |object| object["status"].clone())
    }

    /// Of one of its conditions: status and reason.
    pub(super) fn condition(&self, name: &str, kind: &str) -> String {
        let status = self.status(name);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.map_or(String::new(), |one| format!("{} {}", text(&one["status"]), text(&one["reason"])))
    }

    fn put(&self, held: &mut Held, name: &str, mut object: Value) -> Value {
        held.version += 1;
        let version = held.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let is_new = held.objects.insert(name.to_owned(), object.clone()).is_none();
        let kind = if is_new { "ADDED" } else { "MODIFIED" };
        held.changes.push((version, json!({ "type": kind, "object": object })));
        self.held.1.notify_all();
        object
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (method, target) = (line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            match header.trim().to_lowercase().strip_prefix("content-length:") {
                Some(text) => length = text.trim().parse().ok()?,
                None if header.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let name =
            |from: &str| path.strip_prefix(from).map(|rest| rest.trim_end_matches("/status").to_owned());
        let (code, answer) = match (method.as_str(), path) {
            ("GET", OBJECTS) if query.contains("watch=true") => return self.watch(stream, query),
            ("GET", OBJECTS) => (200, self.list()),
            ("PATCH", _) => self.patch(&name(&format!("{OBJECTS}/"))?, &body),
            ("POST", EVENTS) => {
                let event = (text(&body["reason"]), text(&body["regarding"]["name"]));
                self.held().events.push(event);
                (201, body)
            }
            ("GET", _) => match self.held().secrets.get(&name(&format!("{SECRETS}/"))?) {
                Some(secret) => (200, secret.clone()),
                None => failure(404, "NotFound"),
            },
            _ => failure(405, "MethodNotAllowed"),
        };
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {code} OK\r\nContent-Type: application/json\r\nConnection: close\r\n");
        write!(&stream, "{head}Content-Length: {}\r\n\r\n{answer}", answer.len()).ok()
    }

    fn list(&self) -> Value {
        let held = self.held();
        json!({
            "apiVersion": "tentacle.dev/v1alpha1",
            "kind": "TentacleSourceList",
            "metadata": { "resourceVersion": held.version.to_string() },
            "items": held.objects.values().collect::<Vec<_>>(),
        })
    }

    fn watch(&self, mut stream: TcpStream, query: &str) -> Option<()> {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="))?;
        let mut since: u64 = since.parse().ok()?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut held = self.held();
        loop {
            let new: Vec<_> = held.changes.iter().filter(|(version, _)| *version > since).cloned().collect();
            drop(held);
            for (version, change) in new {
                since = version;
                stream.write_all(format!("{change}\n").as_bytes()).ok()?;
            }
            held = self.held.1.wait_timeout(self.held(), Duration::from_millis(100)).unwrap().0;
        }
    }

    fn patch(&self, name: &str, patch: &Value) -> (u16, Value) {
        let mut held = self.held();
        let Some(mut object) = held.objects.get(name).cloned() else { return failure(404, "NotFound") };
        if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
            held.writes.1 += 1;
            return failure(409, "Conflict");
        }
        // As that of 1.20, which takes an empty message for none.
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        if conditions.iter().any(|condition| text(&condition["message"]).is_empty()) {
            return failure(422, "Invalid");
        }
        held.writes.0 += 1;
        for (key, value) in patch["status"].as_object().unwrap() {
            object["status"][key] = value.clone();
        }
        (200, self.put(&mut held, name, object))
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {} });
    let mut status = status;
    status["message"] = json!(format!("the fake says {reason}"));
    status["reason"] = json!(reason);
    status["code"] = json!(code);
    (code, status)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

const OBJECTS: &str = "/apis/tentacle.dev/v1alpha1/namespaces/ships/tentaclesources";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/ships/events";
const SECRETS: &str = "/api/v1/namespaces/ships/secrets";
