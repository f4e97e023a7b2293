//! What an operator should see, as events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::{
    resource::TentacleSourceStatus,
    status::{ACCEPTED, FAILING, NOT_ACCEPTED, PAUSED, PULLED, READY},
};

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

/// What happened to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    is_warning: bool,
    reason: &'static str,
    note: String,
}

impl Events {
    /// Told by the process of this name.
    pub(crate) fn new(client: Client, identity: &str) -> Self {
        let instance = Some(identity.chars().take(MOST_OF_A_NAME).collect());
        let controller = "tentacle-sync-puller".to_owned();
        Self(Recorder::new(client, Reporter { controller, instance }))
    }

    /// An event that cannot be written is no reason for anything.
    pub(crate) async fn tell(&self, happened: Vec<Happened>, whom: &ObjectReference) {
        for Happened { is_warning, reason, note } in happened {
            let event = Event {
                type_: if is_warning { EventType::Warning } else { EventType::Normal },
                reason: reason.to_owned(),
                note: Some(note),
                action: "Pulling".to_owned(),
                secondary: None,
            };
            if let Err(error) = self.0.publish(&event, whom).await {
                let source = whom.name.as_deref().unwrap_or_default();
                tracing::debug!(source, reason, %error, "an event cannot be written");
            }
        }
    }
}

/// What is worth telling of the way from one status to the next. Whoever wrote
/// the next tells it, so that it is told once.
pub(crate) fn between(former: &TentacleSourceStatus, next: &TentacleSourceStatus) -> Vec<Happened> {
    let (was, is) = (former.reason(READY), next.reason(READY).unwrap_or_default());
    let note = next.message.clone().unwrap_or_default();
    let tell = |is_warning, reason, note| vec![Happened { is_warning, reason, note }];
    let of = |status: &TentacleSourceStatus| {
        status.condition(ACCEPTED).map(|one| (one.status.clone(), one.reason.clone(), one.message.clone()))
    };
    match (was, is) {
        (_, NOT_ACCEPTED) if of(former) != of(next) => tell(true, "NotAccepted", note),
        (was, FAILING) if was != Some(FAILING) => tell(true, "PullFailed", note),
        (Some(FAILING), PULLED) => tell(false, "Recovered", "a round ended well".to_owned()),
        (was, PAUSED) if was != Some(PAUSED) => tell(false, "Paused", "it is not pulled".to_owned()),
        (Some(PAUSED), is) if ![PAUSED, NOT_ACCEPTED].contains(&is) => {
            tell(false, "Resumed", "it is pulled again".to_owned())
        }
        _ => Vec::new(),
    }
}

/// Characters of the instance that reports an event.
const MOST_OF_A_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        apimachinery::pkg::apis::meta::v1::{Condition, Time},
        jiff::Timestamp,
    };

    use super::{super::status::WAITING, *};

    fn status(accepted: (&str, &str), ready: &str, message: &str) -> TentacleSourceStatus {
        let condition = |kind: &str, status: &str, reason: &str| Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: Some(1),
        };
        TentacleSourceStatus {
            conditions: vec![condition(ACCEPTED, accepted.0, accepted.1), condition(READY, "Unknown", ready)],
            message: Some(message.to_owned()),
            ..TentacleSourceStatus::default()
        }
    }

    #[test]
    fn what_changes_is_told_once() {
        let usable = |ready| status(("True", "Accepted"), ready, "why");
        let refused = |why| status(("False", "SecretNotFound"), NOT_ACCEPTED, why);
        let new = TentacleSourceStatus::default();
        for (former, next, wanted) in [
            (&new, &usable(WAITING), None),
            (&usable(WAITING), &usable(PULLED), None),
            (&usable(PULLED), &usable(FAILING), Some((true, "PullFailed"))),
            (&usable(WAITING), &usable(FAILING), Some((true, "PullFailed"))),
            (&usable(FAILING), &usable(FAILING), None),
            (&usable(FAILING), &usable(PULLED), Some((false, "Recovered"))),
            (&usable(PULLED), &usable(PAUSED), Some((false, "Paused"))),
            (&usable(PAUSED), &usable(PAUSED), None),
            (&usable(PAUSED), &usable(WAITING), Some((false, "Resumed"))),
            (&new, &refused("a"), Some((true, "NotAccepted"))),
            (&refused("a"), &refused("a"), None),
            (&refused("a"), &refused("b"), Some((true, "NotAccepted"))),
            (&refused("a"), &usable(WAITING), None),
        ] {
            let told = between(former, next);
            let told: Vec<_> = told.iter().map(|one| (one.is_warning, one.reason)).collect();
            assert_eq!(told, Vec::from_iter(wanted), "{former:?} {next:?}");
        }
        assert_eq!(between(&usable(PULLED), &usable(FAILING))[0].note, "why");
    }
}
