//! Follows all objects: what is wanted of them, and what is told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use transport::Address;

use super::{
    entry::{Draft, Entry, Telling},
    events::{self, Events},
    resource::TentacleSourceSpec,
    secrets::{Found, Secrets},
    spec::Reader,
    status::{Refusal, Verdict},
};
use crate::{
    options::{self, Given},
    puller::{Sources, Wanted},
};

/// All objects of the namespace.
pub(crate) struct Follower {
    pub(crate) api: Api<DynamicObject>,
    pub(crate) secrets: Secrets,
    pub(crate) events: Events,
    pub(crate) given: Arc<Given>,
    pub(crate) own: BTreeSet<Address>,
    pub(crate) namespace: String,
    pub(crate) identity: String,
    pub(crate) sources: watch::Sender<Sources>,
    /// By name.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// What a list has shown so far.
    pub(crate) listed: BTreeSet<String>,
    pub(crate) writes: JoinSet<Written>,
    /// Whether other secrets may be needed than before.
    pub(crate) is_naming_others: bool,
    /// Whether what is wanted may be another than was said.
    pub(crate) is_changed: bool,
    /// Why the objects are not seen, as it was said.
    pub(crate) trouble: Option<String>,
}

/// What came of writing a status.
pub(crate) struct Written {
    name: String,
    uid: Option<String>,
    telling: Telling,
    outcome: Result<DynamicObject, Unwritten>,
}

/// Why a status was not written.
enum Unwritten {
    /// The object has changed in between: the watch shows how.
    Overtaken,
    Gone,
    Failed(String),
}

impl Follower {
    /// Until `stop`, and then until the last statuses are written.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut objects = pin!(watcher(self.api.clone(), watcher::Config::default()).default_backoff());
        let mut step = interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_last = false;
        loop {
            tokio::select! {
                Some(event) = objects.next() => self.observe(event),
                secret = self.secrets.changed() => {
                    self.judge_users_of(&secret);
                    self.secrets.read_what_is_new(Instant::now());
                }
                Some(Ok(written)) = self.writes.join_next() => self.written(written),
                _ = step.tick() => self.step(is_last).await,
                () = stop.cancelled(), if !is_last => {
                    is_last = true;
                    self.entries.values_mut().for_each(Entry::hurry);
                }
            }
            if is_last {
                self.write(WRITES_AT_ONCE);
                if self.writes.is_empty() && self.entries.values().all(|entry| entry.due.is_none()) {
                    return;
                }
            }
        }
    }

    async fn step(&mut self, is_last: bool) {
        if !is_last {
            self.secrets.read_what_is_due(Instant::now());
            self.judge().await;
            self.write(1);
        }
    }

    fn observe(&mut self, event: watcher::Result<watcher::Event<DynamicObject>>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.say(error),
        };
        if self.trouble.take().is_some() {
            tracing::info!(namespace = self.namespace, "the TentacleSource objects are seen again");
        }
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(object) => {
                self.listed.extend(object.metadata.name.clone());
                self.put(object);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.entries.retain(|name, _| listed.contains(name));
                (self.is_changed, self.is_naming_others) = (true, true);
            }
            watcher::Event::Apply(object) => self.put(object),
            watcher::Event::Delete(object) => {
                let name = object.metadata.name.unwrap_or_default();
                self.entries.remove(&name);
                (self.is_changed, self.is_naming_others) = (true, true);
            }
        }
    }

    fn put(&mut self, object: DynamicObject) {
        let name = object.metadata.name.clone().unwrap_or_default();
        match self.entries.get_mut(&name) {
            Some(entry) if entry.metadata.uid == object.metadata.uid => {
                if entry.observe(object) {
                    self.is_naming_others = true;
                    // A password may come with the spec that names it.
                    let named = entry.spec.iter().flat_map(|spec| spec.secrets());
                    named.for_each(|secret| self.secrets.ask_again(secret));
                }
            }
            // One that was made anew under its name is another.
            _ => {
                self.entries.insert(name, Entry::new(object));
                (self.is_changed, self.is_naming_others) = (true, true);
            }
        }
    }

    fn say(&mut self, error: watcher::Error) {
        let status = match &error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status),
            _ => None,
        };
        let advice = match status {
            // As it happens: the watch begins anew.
            Some(status) if status.code == 410 => return,
            Some(status) if status.is_not_found() => {
                " (install their definition: kubectl apply -f charts/tentacle/crds/tentaclesources.yaml)"
            }
            Some(status) if status.is_forbidden() => {
                " (let this process's role list and watch tentaclesources)"
            }
            _ => "",
        };
        let why = match status {
            Some(status) => format!("{}{advice}", status.message),
            None => error.to_string(),
        };
        if self.trouble.as_ref() != Some(&why) {
            let namespace = &self.namespace;
            tracing::warn!(namespace, error = why, "the TentacleSource objects cannot be seen: tried again");
            self.trouble = Some(why);
        }
    }

    fn judge_users_of(&mut self, secret: &String) {
        for entry in self.entries.values_mut() {
            entry.is_stale |= entry.spec.iter().any(|spec| spec.secrets().any(|name| name == secret));
        }
    }

    /// Finds out what is to become of the objects, and says what is wanted.
    async fn judge(&mut self) {
        let now = Instant::now();
        let named =
            |entry: &Entry| entry.spec.iter().flat_map(|spec| spec.secrets().cloned()).collect::<Vec<_>>();
        if std::mem::take(&mut self.is_naming_others) {
            self.secrets.need(self.entries.values().flat_map(named).collect());
            self.secrets.read_what_is_new(now);
        }
        let mut asked = Vec::new();
        for (name, entry) in &mut self.entries {
            // A file of the defaults may be in order by now.
            let refused = matches!(entry.verdict, Some(Verdict::Refused(_)));
            entry.is_stale |= refused && now - entry.judged >= AGAIN_AFTER;
            if !entry.is_stale {
                continue;
            }
            let found = |secret: &String| Some((secret.clone(), self.secrets.get(secret)?.clone()));
            let secrets: Option<Vec<_>> = named(entry).iter().map(found).collect();
            // The others are being read.
            let Some(secrets) = secrets else { continue };
            (entry.is_stale, entry.judged) = (false, now);
            asked.push((name.clone(), entry.spec.clone(), secrets));
        }
        if !asked.is_empty() {
            let (given, namespace) = (Arc::clone(&self.given), self.namespace.clone());
            let judging = move || {
                let judged = asked.into_iter().map(|(name, spec, secrets)| {
                    let (address, verdict) = judge(&spec, &secrets, &given, &namespace);
                    (name, address, verdict)
                });
                judged.collect::<Vec<_>>()
            };
            for (name, address, verdict) in spawn_blocking(judging).await.unwrap_or_default() {
                let Some(entry) = self.entries.get_mut(&name) else { continue };
                if entry.address != address || entry.verdict.as_ref() != Some(&verdict) {
                    (self.is_changed, entry.is_unsure) = (true, true);
                }
                entry.moved(address);
                entry.verdict = Some(verdict);
            }
        }
        if std::mem::take(&mut self.is_changed) {
            self.find_duplicates();
            self.publish();
        }
    }

    /// Of several objects with one address, the oldest has it.
    fn find_duplicates(&mut self) {
        let mut holders: BTreeMap<Address, String> = BTreeMap::new();
        let mut names: Vec<_> = self.entries.keys().cloned().collect();
        names.sort_by_cached_key(|name| {
            (self.entries[name].metadata.creation_timestamp.clone(), name.clone())
        });
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let why = entry.address.as_ref().and_then(|address| {
                if self.own.contains(address) {
                    return Some(format!("{address} is a source of the sync-puller's own options"));
                }
                let holder = holders.entry(address.clone()).or_insert_with(|| name.clone());
                let older =
                    format!("{address} is the address of the TentacleSource {holder}, which is older");
                (*holder != name).then_some(older)
            });
            let duplicate = why.map(|why| Refusal { reason: "Duplicate", why });
            entry.is_unsure |= entry.duplicate != duplicate;
            entry.duplicate = duplicate;
        }
    }

    fn publish(&self) {
        let wanted = self.entries.values().filter_map(|entry| {
            let options = entry.wanted()?.clone();
            Some((options.address.clone(), Wanted { options, report: entry.report.clone() }))
        });
        self.sources.send_replace(Arc::new(wanted.collect()));
    }

    /// Begins to write so many of those that are due.
    fn write(&mut self, most: usize) {
        let now = Instant::now();
        for entry in self.entries.values_mut().filter(|entry| !entry.is_being_written) {
            entry.look(&self.identity, now);
        }
        for _ in 0..most {
            let due = |entry: &Entry| entry.due.filter(|due| *due <= now && !entry.is_being_written);
            let first = self.entries.iter_mut().filter_map(|(name, entry)| Some((due(entry)?, name, entry)));
            let Some((_, name, entry)) = first.min_by_key(|(due, name, _)| (*due, *name)) else { return };
            if self.writes.len() >= WRITES_AT_ONCE {
                return;
            }
            entry.due = None;
            let draft = entry.draft(&self.identity);
            entry.is_being_written = true;
            let (name, uid) = (name.clone(), entry.metadata.uid.clone());
            let (api, events) = (self.api.clone(), self.events.clone());
            self.writes.spawn(async move {
                let outcome = write(&api, &name, &draft).await;
                if outcome.is_ok() {
                    let happened = events::between(&draft.former, &draft.next);
                    let _ = timeout(PATIENCE, events.tell(happened, &draft.whom)).await;
                }
                Written { name, uid, telling: draft.telling, outcome }
            });
        }
    }

    fn written(&mut self, written: Written) {
        let Written { name, uid, telling, outcome } = written;
        let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.metadata.uid == uid) else {
            return;
        };
        let now = Instant::now();
        entry.is_being_written = false;
        match outcome {
            Ok(object) => entry.written(telling, object, now),
            Err(Unwritten::Overtaken) => entry.not_written(SOON, now),
            Err(Unwritten::Gone) => entry.not_written(AGAIN_AFTER, now),
            Err(Unwritten::Failed(error)) => {
                tracing::warn!(source = name, error, "the status of a TentacleSource cannot be written");
                entry.not_written(AGAIN_AFTER, now);
            }
        }
    }
}

/// Where an object's source listens, and what is to become of it. Blocks.
fn judge(
    spec: &Result<TentacleSourceSpec, String>,
    secrets: &[(String, Found)],
    given: &Given,
    namespace: &str,
) -> (Option<Address>, Verdict<options::Source>) {
    let spec = match spec {
        Ok(spec) => spec,
        Err(why) => {
            return (None, Verdict::Refused(Refusal { reason: "InvalidSpec", why: why.clone() }));
        }
    };
    let verdict = match (Reader { namespace, secrets, given }).source(spec) {
        Err(refusal) => Verdict::Refused(refusal),
        Ok(_) if spec.paused == Some(true) => Verdict::Paused,
        Ok(source) => Verdict::Accepted(source),
    };
    (spec.address(given).ok(), verdict)
}

async fn write(api: &Api<DynamicObject>, name: &str, draft: &Draft) -> Result<DynamicObject, Unwritten> {
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(draft.patch()));
    match timeout(PATIENCE, api.patch_status(name, &parameters, &patch)).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Err(Unwritten::Overtaken),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Err(Unwritten::Gone),
        Ok(Err(kube::Error::Api(status))) => Err(Unwritten::Failed(status.message.clone())),
        Ok(Err(error)) => Err(Unwritten::Failed(error.to_string())),
        Err(_) => Err(Unwritten::Failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// How often there is something to do. One status is written with each, so ten
/// a second; only the last ones are written faster.
const STEP: Duration = Duration::from_millis(100);

/// Statuses that are being written.
const WRITES_AT_ONCE: usize = 10;

/// Of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until a watch has shown what came in between.
const SOON: Duration = Duration::from_millis(500);

/// After what only somebody else can set right.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
