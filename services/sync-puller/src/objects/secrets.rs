//! The secrets that objects name, read again as they may change.
//!
//! Each is asked for by its name: a watch would need the right to list all of
//! the namespace's.

use std::{
    collections::{BTreeMap, BTreeSet},
    future,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1;
use kube::Api;
use runtime::options::Secret;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// The keys of a secret, and what they hold.
pub(crate) type Keys = BTreeMap<String, Secret>;

/// What came of reading a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Here(Arc<Keys>),
    Absent,
    /// This process may not read it, as the API server says.
    Forbidden(String),
}

/// Those that are needed, kept in memory.
pub(crate) struct Secrets {
    api: Api<v1::Secret>,
    known: BTreeMap<String, Known>,
    reading: JoinSet<(String, Result<Found, String>)>,
}

#[derive(Default)]
struct Known {
    found: Option<Found>,
    /// When it was asked for the last time; none: at once.
    asked: Option<Instant>,
    is_being_read: bool,
}

impl Secrets {
    pub(crate) fn new(api: Api<v1::Secret>) -> Self {
        Self { api, known: BTreeMap::new(), reading: JoinSet::new() }
    }

    /// Those of these names are needed, and no others.
    pub(crate) fn need(&mut self, names: BTreeSet<String>) {
        self.known.retain(|name, _| names.contains(name));
        for name in names {
            self.known.entry(name).or_default();
        }
    }

    /// What is known of it; none before it was read.
    pub(crate) fn get(&self, name: &str) -> Option<&Found> {
        self.known.get(name)?.found.as_ref()
    }

    /// It is read anew at once.
    pub(crate) fn ask_again(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.asked = None;
        }
    }

    /// Begins to read again what is due, not all in one moment.
    pub(crate) fn read_what_is_due(&mut self, now: Instant) {
        let pause = |known: &Known| if known.found.is_some() { AGAIN_AFTER } else { SOON };
        let due = |known: &Known| known.asked.is_some_and(|asked| now - asked >= pause(known));
        self.read(AGAIN_AT_ONCE, now, due);
        self.read_what_is_new(now);
    }

    /// Begins to read what nobody has asked for yet.
    pub(crate) fn read_what_is_new(&mut self, now: Instant) {
        self.read(READ_AT_ONCE, now, |known| known.asked.is_none());
    }

    fn read(&mut self, most: usize, now: Instant, is_due: impl Fn(&Known) -> bool) {
        let room = READ_AT_ONCE.saturating_sub(self.reading.len()).min(most);
        let due = self.known.iter_mut().filter(|(_, known)| !known.is_being_read && is_due(known));
        for (name, known) in due.take(room) {
            (known.asked, known.is_being_read) = (Some(now), true);
            let (api, name) = (self.api.clone(), name.clone());
            self.reading.spawn(async move {
                let found = read(&api, &name).await;
                (name, found)
            });
        }
    }

    /// Waits until one is not what it was; its name. May be dropped and called
    /// again.
    pub(crate) async fn changed(&mut self) -> String {
        loop {
            let Some(read) = self.reading.join_next().await else { return future::pending().await };
            let Ok((name, found)) = read else { continue };
            let Some(known) = self.known.get_mut(&name) else { continue };
            known.is_being_read = false;
            match found {
                Ok(found) if known.found.as_ref() == Some(&found) => {}
                Ok(found) => {
                    known.found = Some(found);
                    return name;
                }
                // What is known of it still holds.
                Err(error) => tracing::warn!(secret = name, error, "cannot be read: tried again"),
            }
        }
    }
}

async fn read(api: &Api<v1::Secret>, name: &str) -> Result<Found, String> {
    match timeout(PATIENCE, api.get_opt(name)).await {
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Ok(None)) => Ok(Found::Absent),
        Ok(Ok(Some(secret))) => {
            let keys = secret.data.unwrap_or_default().into_iter();
            Ok(Found::Here(Arc::new(keys.map(|(key, bytes)| (key, Secret::from(bytes.0))).collect())))
        }
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            Ok(Found::Forbidden(status.message.clone()))
        }
        Ok(Err(error)) => Err(error.to_string()),
    }
}

/// How old what is known of a secret may be.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The same where it could not be read yet.
const SOON: Duration = Duration::from_secs(3);

/// Requests at once.
const READ_AT_ONCE: usize = 8;

/// How many that are known are read again at once, each tenth of a second: so
/// 600 are followed within [`AGAIN_AFTER`], and more take longer.
const AGAIN_AT_ONCE: usize = 2;

/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);
