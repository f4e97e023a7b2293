//! As much of an API server as leases need.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Cheap to clone: the clones are the same.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<State>);

#[derive(Default)]
struct State {
    leases: Mutex<BTreeMap<String, Value>>,
    /// All changes, for watches. The first one has version 1.
    changes: watch::Sender<Vec<(&'static str, Value)>>,
}

/// How one client reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Nothing comes through, either way.
    Silent,
    /// Each request is answered by 503.
    Refusing,
    /// What is written is written, and its answer never comes.
    Deafening,
}

// === impl Server ===

impl Server {
    /// A client, and its link.
    pub(super) fn client(&self) -> (kube::Client, watch::Sender<Link>) {
        let (sender, link) = watch::channel(Link::Up);
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, link) = (server.clone(), link.clone());
            async move { Ok::<_, Infallible>(server.through(link, request).await) }
        });
        (kube::Client::new(service, "default"), sender)
    }

    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.0.leases.lock().unwrap().get(name).cloned()
    }

    /// Writes as a person would who does not look at versions.
    pub(super) fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut lease = self.get(name).unwrap();
        edit(&mut lease);
        self.store("MODIFIED", name, lease);
    }

    async fn through(&self, mut link: watch::Receiver<Link>, request: Request<Body>) -> Answer {
        let state = *link.borrow();
        match state {
            Link::Up => {}
            Link::Silent => return pending().await,
            Link::Refusing => return failure(StatusCode::SERVICE_UNAVAILABLE),
            Link::Deafening => {
                if request.method() != Method::GET {
                    self.answer(request, link).await;
                }
                return pending().await;
            }
        }
        let answer = self.answer(request, link.clone());
        tokio::select! {
            answer = answer => answer,
            () = becomes(&mut link, Link::Silent) => pending().await,
        }
    }

    async fn answer(&self, request: Request<Body>, link: watch::Receiver<Link>) -> Answer {
        let (parts, body) = request.into_parts();
        let sent: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
        let name = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        let parameter = |key: &str| query.split('&').find_map(|one| one.strip_prefix(key)?.strip_prefix('='));
        match (parts.method, name.as_str()) {
            (Method::GET, "leases") if parameter("watch") == Some("true") => {
                let from = parameter("resourceVersion").unwrap().parse().unwrap();
                let lines = watched(self.0.changes.subscribe(), link, from);
                Response::new(StreamBody::new(lines).boxed_unsync())
            }
            (Method::GET, "leases") => {
                assert_eq!(parameter("labelSelector"), Some("tentacle.dev%2Flease%3Dpullers"), "{query}");
                let items: Vec<_> = self.0.leases.lock().unwrap().values().cloned().collect();
                let version = self.0.changes.borrow().len().to_string();
                success(&json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList",
                    "metadata": {"resourceVersion": version}, "items": items,
                }))
            }
            (Method::GET, name) => {
                self.get(name).map_or(failure(StatusCode::NOT_FOUND), |lease| success(&lease))
            }
            (Method::POST, _) => {
                let name = sent["metadata"]["name"].as_str().unwrap().to_owned();
                match self.get(&name) {
                    Some(_) => failure(StatusCode::CONFLICT),
                    None => success(&self.store("ADDED", &name, sent)),
                }
            }
            (Method::PUT, name) => match self.get(name) {
                None => failure(StatusCode::NOT_FOUND),
                Some(lease) if version(&lease) != version(&sent) => failure(StatusCode::CONFLICT),
                Some(_) => success(&self.store("MODIFIED", name, sent)),
            },
            (Method::DELETE, name) => {
                let wanted = &sent["preconditions"]["resourceVersion"];
                match self.get(name) {
                    None => failure(StatusCode::NOT_FOUND),
                    Some(lease) if !wanted.is_null() && wanted != version(&lease) => {
                        failure(StatusCode::CONFLICT)
                    }
                    Some(lease) => success(&self.store("DELETED", name, lease)),
                }
            }
            (method, name) => panic!("{method} {name} is not what leases need"),
        }
    }

    fn store(&self, what: &'static str, name: &str, mut lease: Value) -> Value {
        let mut leases = self.0.leases.lock().unwrap();
        self.0.changes.send_modify(|changes| {
            lease["metadata"]["resourceVersion"] = json!((changes.len() + 1).to_string());
            changes.push((what, lease.clone()));
        });
        match what {
            "DELETED" => leases.remove(name),
            _ => leases.insert(name.to_owned(), lease.clone()),
        };
        lease
    }
}

/// The changes after a version, as lines, for as long as the link is up.
fn watched(
    changes: watch::Receiver<Vec<(&'static str, Value)>>,
    link: watch::Receiver<Link>,
    from: usize,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::unfold((changes, link, from), |(mut changes, mut link, from)| async move {
        tokio::select! {
            () = async { drop(changes.wait_for(|changes| changes.len() > from).await) } => {}
            () = becomes(&mut link, Link::Refusing) => return None,
        }
        let state = *link.borrow();
        if state == Link::Silent || state == Link::Deafening {
            pending::<()>().await;
        }
        let (what, lease) = changes.borrow()[from].clone();
        let line = json!({"type": what, "object": lease}).to_string() + "\n";
        Some((Ok(Frame::data(Bytes::from(line))), (changes, link, from + 1)))
    })
}

async fn becomes(link: &mut watch::Receiver<Link>, wanted: Link) {
    if link.wait_for(|link| *link == wanted).await.is_err() {
        pending().await
    }
}

fn version(lease: &Value) -> &Value {
    &lease["metadata"]["resourceVersion"]
}

fn success(value: &Value) -> Answer {
    Response::new(Full::from(value.to_string()).boxed_unsync())
}

fn failure(status: StatusCode) -> Answer {
    let text = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": status.to_string(), "reason": "", "code": status.as_u16(),
    });
    let answer = Response::builder().status(status).body(Full::from(text.to_string()).boxed_unsync());
    answer.unwrap()
}
