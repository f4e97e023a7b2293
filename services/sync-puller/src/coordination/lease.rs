//! The leases of this name, as this process writes them.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::Settings;
use crate::term::Moment;

/// Writes leases. Cheap to clone.
#[derive(Clone)]
pub(super) struct Leases {
    api: Api<Lease>,
    settings: Arc<Settings>,
}

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Who holds it pulls the sources of the shard.
    Shard(u32),
    /// Who holds it is there to share shards.
    Member,
}

/// A lease that this process has.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    role: Role,
    version: String,
    /// Tells this tenure from any other.
    acquired: MicroTime,
    transitions: i32,
}

/// What the next writer of a lease must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) version: String,
    pub(super) transitions: i32,
}

/// Why a lease was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("another process has written the lease")]
    Conflict,
    #[error("the lease is not there any more")]
    Gone,
    #[error("{0}")]
    Failed(String),
}

// === impl Leases ===

impl Leases {
    pub(super) fn new(api: Api<Lease>, settings: Arc<Settings>) -> Self {
        Self { api, settings }
    }

    /// Takes a lease as it was seen, or makes the one that is not there; and
    /// when the request was sent, from which on it lasts.
    pub(super) async fn take(&self, role: Role, seen: Option<&Stored>) -> Result<(Taken, Moment), Refusal> {
        let (sent, acquired) = (Moment::now(), now());
        let transitions = seen.map_or(0, |seen| seen.transitions.saturating_add(1));
        let mut taken = Taken { role, version: String::new(), acquired, transitions };
        taken.version = match seen {
            Some(seen) => self.replace(&taken, &seen.version, true).await?,
            None => {
                let lease = self.object(&taken, None, true);
                self.written(self.api.create(&PostParams::default(), &lease)).await?
            }
        };
        Ok((taken, sent))
    }

    /// Takes a lease whoever has it.
    pub(super) async fn seize(&self, role: Role) -> Result<(Taken, Moment), Refusal> {
        match self.get(role).await {
            Ok(lease) => self.take(role, Some(&Stored::of(&lease))).await,
            Err(Refusal::Gone) => self.take(role, None).await,
            Err(refusal) => Err(refusal),
        }
    }

    /// Renews a lease, and when the request was sent.
    pub(super) async fn renew(&self, taken: &Taken) -> Result<(Taken, Moment), Refusal> {
        let sent = Moment::now();
        match self.replace(taken, &taken.version, true).await {
            Ok(version) => Ok((Taken { version, ..taken.clone() }, sent)),
            Err(Refusal::Conflict) => {
                let version = self.confirm(taken).await?;
                let sent = Moment::now();
                let version = self.replace(taken, &version, true).await?;
                Ok((Taken { version, ..taken.clone() }, sent))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Gives a lease back: it is free at once.
    pub(super) async fn release(&self, taken: &Taken) -> Result<(), Refusal> {
        match self.replace(taken, &taken.version, false).await {
            Err(Refusal::Conflict) => {
                let version = self.confirm(taken).await?;
                self.replace(taken, &version, false).await.map(drop)
            }
            released => released.map(drop),
        }
    }

    /// Deletes the lease of this name, if it is as it was seen.
    pub(super) async fn delete(&self, name: &str, version: Option<String>) -> Result<(), Refusal> {
        let preconditions =
            version.map(|version| Preconditions { resource_version: Some(version), uid: None });
        let how = DeleteParams { preconditions, ..DeleteParams::default() };
        self.answer(self.api.delete(name, &how)).await.map(drop)
    }

    pub(super) fn name(&self, role: Role) -> String {
        let Settings { name, identity, .. } = &*self.settings;
        match role {
            Role::Shard(shard) => format!("{name}-shard-{shard}"),
            Role::Member => format!("{name}-member-{}", part_of_name(identity)),
        }
    }

    /// Until when what was written by a request of that time may be relied on:
    /// others wait for the whole duration since they saw it, which is later.
    pub(super) fn until(&self, sent: Moment) -> Moment {
        let duration = self.settings.duration;
        let margin = (duration / 10).max(LEAST_MARGIN);
        sent.plus(duration.saturating_sub(margin))
    }

    /// The version of a lease that is still of this tenure, though somebody
    /// wrote it: this process with a request whose answer never came, or a
    /// person who labelled it.
    async fn confirm(&self, taken: &Taken) -> Result<String, Refusal> {
        let lease = self.get(taken.role).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        let is_ours = spec.holder_identity.as_ref() == Some(&self.settings.identity)
            && spec.acquire_time.as_ref() == Some(&taken.acquired);
        if is_ours { Ok(Stored::of(&lease).version) } else { Err(Refusal::Conflict) }
    }

    async fn get(&self, role: Role) -> Result<Lease, Refusal> {
        self.answer(self.api.get(&self.name(role))).await
    }

    async fn replace(&self, taken: &Taken, version: &str, held: bool) -> Result<String, Refusal> {
        let (name, lease) = (self.name(taken.role), self.object(taken, Some(version), held));
        self.written(self.api.replace(&name, &PostParams::default(), &lease)).await
    }

    async fn written(&self, request: impl Future<Output = kube::Result<Lease>>) -> Result<String, Refusal> {
        let lease = self.answer(request).await?;
        lease.metadata.resource_version.ok_or_else(|| Refusal::Failed("a lease without a version".to_owned()))
    }

    /// A server that is silent must not hold up anything else.
    async fn answer<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
        let patience = self.settings.pause();
        match timeout(patience, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Refusal::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Refusal::Gone),
            Ok(Err(kube::Error::Api(status))) => Err(Refusal::Failed(status.message.clone())),
            Ok(Err(error)) => Err(Refusal::Failed(format!("{:#}", anyhow::Error::from(error)))),
            Err(_) => Err(Refusal::Failed(format!("no answer within {} s", patience.as_secs_f32()))),
        }
    }

    fn object(&self, taken: &Taken, version: Option<&str>, held: bool) -> Lease {
        let Settings { name, identity, duration, .. } = &*self.settings;
        let role = match taken.role {
            Role::Shard(_) => "shard",
            Role::Member => "member",
        };
        let labels =
            [("app.kubernetes.io/part-of", "tentacle"), (LEASE_LABEL, name), ("tentacle.dev/role", role)];
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name(taken.role)),
                resource_version: version.map(str::to_owned),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: held.then(|| identity.clone()),
                acquire_time: held.then(|| taken.acquired.clone()),
                renew_time: Some(now()),
                lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
                lease_transitions: Some(taken.transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

// === impl Stored ===

impl Stored {
    pub(super) fn of(lease: &Lease) -> Self {
        Self {
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            transitions: lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default(),
        }
    }
}

/// The identity as the end of a lease's name. What a name cannot hold is told
/// apart by its hash.
fn part_of_name(identity: &str) -> String {
    let may_be = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|&byte| may_be(byte) || byte == b'-')
            && bytes.first().is_some_and(|&byte| may_be(byte))
            && bytes.last().is_some_and(|&byte| may_be(byte))
    };
    if identity.len() <= LONGEST_PART && identity.split('.').all(is_label) {
        return identity.to_owned();
    }
    let kept: String = identity
        .bytes()
        .map(|byte| byte.to_ascii_lowercase())
        .map(|byte| if may_be(byte) { char::from(byte) } else { '-' })
        .take(LONGEST_PART - 20)
        .collect();
    let hash: String = Sha256::digest(identity).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", kept.trim_start_matches('-')).trim_start_matches('-').to_owned()
}

/// With the microseconds that a lease can hold, so that it compares.
fn now() -> MicroTime {
    let now = Timestamp::now();
    MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
}

/// Has the name that a puller's leases begin with.
pub(super) const LEASE_LABEL: &str = "tentacle.dev/lease";

/// How much sooner a holder stops than another may begin, at least.
const LEAST_MARGIN: Duration = Duration::from_millis(500);

/// A name has at most 253 characters, of which `<63>-member-` are taken.
const LONGEST_PART: usize = 180;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_in_its_lease_s_name_as_far_as_it_can_be() {
        assert_eq!(part_of_name("puller-0"), "puller-0");
        assert_eq!(part_of_name("host.example.org"), "host.example.org");
        for wrong in ["Host", "a_b", "-a", "a-", "a..b", "ä", "a b", "_", &"x".repeat(181), &"X".repeat(253)]
        {
            let part = part_of_name(wrong);
            assert!(part.len() <= LONGEST_PART && part == part_of_name(&part), "{wrong:?}: {part}");
        }
        assert_ne!(part_of_name("Host"), part_of_name("hOST"));
    }
}
