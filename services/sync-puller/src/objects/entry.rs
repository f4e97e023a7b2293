//! One object: what it says, what is to become of it, and what was told of it.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use kube::{Resource as _, api::DynamicObject};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use transport::Address;

use super::{
    resource::{TentacleSource, TentacleSourceSpec, TentacleSourceStatus},
    status::{News, Refusal, Verdict},
};
use crate::{
    options,
    report::{Report, Standing, State},
};

/// An object as it was seen last, and what this process makes of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Result<TentacleSourceSpec, String>,
    pub(crate) status: TentacleSourceStatus,
    /// None until the secrets were read.
    pub(crate) verdict: Option<Verdict<options::Source>>,
    /// Another one has its address.
    pub(crate) duplicate: Option<Refusal>,
    /// Whether the verdict is to be found anew.
    pub(crate) is_stale: bool,
    pub(crate) judged: Instant,
    pub(crate) address: Option<Address>,
    pub(crate) report: Report,
    standing: watch::Receiver<Standing>,
    /// What its status tells of the report's files and bytes.
    told: (u64, u64),
    /// What was last said of it without pulling it, and of which generation.
    said: Option<(Option<i64>, Verdict<()>)>,
    /// Whether its status has to be looked at.
    pub(crate) is_unsure: bool,
    /// When its status is to be written.
    pub(crate) due: Option<Instant>,
    pub(crate) is_being_written: bool,
    written: Option<Instant>,
    not_before: Option<Instant>,
    is_hurried: bool,
}

/// A status that is to be written.
pub(crate) struct Draft {
    pub(crate) former: TentacleSourceStatus,
    pub(crate) next: TentacleSourceStatus,
    version: Option<String>,
    pub(crate) whom: ObjectReference,
    pub(crate) telling: Telling,
}

/// What is told once a status is written.
pub(crate) struct Telling {
    counted: (u64, u64),
    said: Option<(Option<i64>, Verdict<()>)>,
}

impl Entry {
    pub(crate) fn new(object: DynamicObject) -> Self {
        let report = Report::default();
        let mut entry = Self {
            metadata: ObjectMeta::default(),
            spec: Err(String::new()),
            status: TentacleSourceStatus::default(),
            verdict: None,
            duplicate: None,
            is_stale: true,
            judged: Instant::now(),
            address: None,
            standing: report.watch(),
            report,
            told: (0, 0),
            said: None,
            is_unsure: true,
            due: None,
            is_being_written: false,
            written: None,
            not_before: None,
            is_hurried: false,
        };
        entry.observe(object);
        entry
    }

    /// Takes the object as it is now; whether its spec is another.
    pub(crate) fn observe(&mut self, mut object: DynamicObject) -> bool {
        let spec =
            part(&mut object.data, "spec").and_then(|spec| spec.ok_or("spec: it is missing".to_owned()));
        let is_other = self.spec != spec;
        self.is_stale |= is_other;
        self.spec = spec;
        // What cannot be read is written anew.
        self.status = part(&mut object.data, "status").ok().flatten().unwrap_or_default();
        // Two thousand of them are held: without what nobody looks at.
        self.metadata =
            ObjectMeta { managed_fields: None, annotations: None, labels: None, ..object.metadata };
        self.is_unsure = true;
        is_other
    }

    /// It listens at another address now: what is told of the one before is not
    /// told of this one.
    pub(crate) fn moved(&mut self, address: Option<Address>) {
        if self.address.is_some() && self.address != address {
            self.report = Report::default();
            self.standing = self.report.watch();
            self.told = (0, 0);
        }
        self.address = address;
    }

    /// What is to become of it, all objects considered.
    pub(crate) fn outcome(&self) -> Option<Verdict<()>> {
        match (&self.verdict, &self.duplicate) {
            (_, Some(refusal)) => Some(Verdict::Refused(refusal.clone())),
            (Some(Verdict::Accepted(_)), None) => Some(Verdict::Accepted(())),
            (Some(Verdict::Paused), None) => Some(Verdict::Paused),
            (Some(Verdict::Refused(refusal)), None) => Some(Verdict::Refused(refusal.clone())),
            (None, None) => None,
        }
    }

    /// Where it is to be pulled: how.
    pub(crate) fn wanted(&self) -> Option<&options::Source> {
        match (&self.verdict, &self.duplicate) {
            (Some(Verdict::Accepted(source)), None) => Some(source),
            _ => None,
        }
    }

    /// There is no later: counters are written at once too.
    pub(crate) fn hurry(&mut self) {
        (self.is_unsure, self.is_hurried) = (true, true);
    }

    /// Looks whether there is something to write, and by when.
    pub(crate) fn look(&mut self, identity: &str, now: Instant) {
        let changed = self.standing.has_changed().unwrap_or(false);
        if !(changed || self.is_unsure) {
            return;
        }
        self.is_unsure = false;
        self.standing.mark_unchanged();
        let Draft { next, telling, .. } = self.draft(identity);
        if next == self.status {
            // Somebody has said it already.
            self.said = telling.said.or(self.said.take());
            self.due = None;
            return;
        }
        let counters = self.written.map_or(now, |written| written + COUNTERS_EVERY);
        let due = if self.is_hurried || self.status.is_overtaken_by(&next) { now } else { counters };
        self.due = Some(due.max(self.not_before.unwrap_or(now)));
    }

    /// What is to be written now.
    pub(crate) fn draft(&self, identity: &str) -> Draft {
        let standing = self.standing.borrow().clone();
        let generation = self.metadata.generation;
        let outcome = self.outcome();
        // Whoever does not pull it says each thing once: two processes that
        // see a thing differently do not overwrite each other for ever.
        let is_idle = standing.state == State::Idle;
        let saying = outcome.map(|outcome| (generation, outcome));
        let saying = saying.filter(|saying| !is_idle || self.said.as_ref() != Some(saying));
        let (files, bytes) = (standing.files, standing.bytes);
        let news = News {
            verdict: saying.as_ref().map(|(_, outcome)| outcome),
            generation,
            standing: &standing,
            fetched: (files.saturating_sub(self.told.0), bytes.saturating_sub(self.told.1)),
            identity,
        };
        let next = self.status.next(&news, now());
        let whom = ObjectReference {
            api_version: Some(TentacleSource::api_version(&()).into_owned()),
            kind: Some(TentacleSource::kind(&()).into_owned()),
            name: self.metadata.name.clone(),
            namespace: self.metadata.namespace.clone(),
            uid: self.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        Draft {
            former: self.status.clone(),
            next,
            version: self.metadata.resource_version.clone(),
            whom,
            telling: Telling { counted: (files, bytes), said: saying.filter(|_| is_idle) },
        }
    }

    /// A draft was written, and this is the object now.
    pub(crate) fn written(&mut self, telling: Telling, object: DynamicObject, now: Instant) {
        self.told = telling.counted;
        self.said = telling.said.or(self.said.take());
        self.written = Some(now);
        self.observe(object);
    }

    /// A draft could not be written: it is tried again after this time.
    pub(crate) fn not_written(&mut self, pause: Duration, now: Instant) {
        self.not_before = Some(now + pause);
        self.is_unsure = true;
    }
}

impl Draft {
    /// As a merge patch: what is left out of the next is removed. The version
    /// makes sure that nobody has written in between.
    pub(crate) fn patch(&self) -> Value {
        json!({ "metadata": { "resourceVersion": self.version }, "status": self.next })
    }
}

/// A part of an object, if it is there.
fn part<T: DeserializeOwned>(data: &mut Value, key: &str) -> Result<Option<T>, String> {
    match data.get_mut(key).map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value).map(Some).map_err(|error| format!("{key}: {error}")),
    }
}

/// To the second, as the API server keeps it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// How often a status is written that tells nothing but counters.
const COUNTERS_EVERY: Duration = Duration::from_secs(30);
