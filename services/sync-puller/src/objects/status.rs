//! What the status of an object is to say: derived from what it said, and
//! from how it stands.

use std::time::SystemTime;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::resource::TentacleSourceStatus;
use crate::report::{Standing, State};

/// What is to become of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<S> {
    /// It is to be pulled.
    Accepted(S),
    /// It can be, and is not to be.
    Paused,
    /// It cannot be.
    Refused(Refusal),
}

/// Why an object cannot be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// In one word.
    pub(crate) reason: &'static str,
    /// In one line, without any secret.
    pub(crate) why: String,
}

/// What this process has to say of an object.
#[derive(Clone, Debug)]
pub(crate) struct News<'a> {
    /// None where it is for others to say.
    pub(crate) verdict: Option<&'a Verdict<()>>,
    pub(crate) generation: Option<i64>,
    pub(crate) standing: &'a Standing,
    /// Files and bytes that were fetched and not yet told.
    pub(crate) fetched: (u64, u64),
    pub(crate) identity: &'a str,
}

impl TentacleSourceStatus {
    /// The same, with the news.
    pub(crate) fn next(&self, news: &News<'_>, now: Timestamp) -> Self {
        let mut next = self.clone();
        let News { verdict, generation, standing, .. } = news;
        let is_pulled = standing.state != State::Idle;
        if let Some(verdict) = verdict {
            next.say(verdict, standing, *generation, now);
            next.observed_generation = *generation;
        }
        if is_pulled {
            next.holder = Some(news.identity.to_owned());
        } else if next.holder.as_deref() == Some(news.identity) {
            next.holder = None;
        }
        if matches!(standing.state, State::Well | State::Failing(_)) {
            next.backlog = Some(standing.backlog);
        }
        next.last_success = self.last_success.clone().max(standing.last_success.and_then(time));
        let (files, bytes) = news.fetched;
        if is_pulled || files > 0 || bytes > 0 {
            next.files = Some(self.files.unwrap_or_default() + files);
            next.bytes = Some(self.bytes.unwrap_or_default() + bytes);
        }
        next
    }

    fn say(&mut self, verdict: &Verdict<()>, standing: &Standing, generation: Option<i64>, now: Timestamp) {
        let (accepted, ready) = match verdict {
            Verdict::Refused(Refusal { reason, why }) => {
                (("False", *reason, why.as_str()), ("False", NOT_ACCEPTED, why.as_str()))
            }
            Verdict::Paused => (USABLE, ("False", PAUSED, "paused")),
            Verdict::Accepted(()) => match &standing.state {
                State::Well => (USABLE, ("True", PULLED, "the last round ended well")),
                State::Failing(why) => (USABLE, ("False", FAILING, why.as_str())),
                State::Idle | State::Begun => {
                    // What the process before said holds until a round ends.
                    let known = self.reason(READY).is_some_and(|reason| [PULLED, FAILING].contains(&reason));
                    self.set(ACCEPTED, USABLE, generation, now);
                    if !known {
                        self.set(READY, ("Unknown", WAITING, "no round has ended yet"), generation, now);
                        self.message = None;
                    }
                    return;
                }
            },
        };
        self.set(ACCEPTED, accepted, generation, now);
        self.set(READY, ready, generation, now);
        // The list shows what is wrong.
        self.message = (ready.0 != "True").then(|| line(ready.2));
    }

    fn set(
        &mut self,
        kind: &str,
        (status, reason, message): (&str, &str, &str),
        observed_generation: Option<i64>,
        now: Timestamp,
    ) {
        let former = self.condition(kind).filter(|former| former.status == status);
        let since = former.map_or(Time(now), |former| former.last_transition_time.clone());
        let condition = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: line(message),
            last_transition_time: since,
            observed_generation,
        };
        match self.conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(former) => *former = condition,
            None => self.conditions.push(condition),
        }
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Of a condition.
    pub(crate) fn reason(&self, kind: &str) -> Option<&str> {
        self.condition(kind).map(|condition| condition.reason.as_str())
    }

    /// Whether `next` says something that should not wait: another condition,
    /// or another holder.
    pub(crate) fn is_overtaken_by(&self, next: &Self) -> bool {
        let said = |status: &Self, kind| {
            let condition = status.condition(kind)?;
            Some((condition.status.clone(), condition.reason.clone()))
        };
        self.holder != next.holder
            || self.observed_generation != next.observed_generation
            || [ACCEPTED, READY].iter().any(|kind| said(self, kind) != said(next, kind))
    }
}

/// To the second, as the API server keeps it.
fn time(time: SystemTime) -> Option<Time> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok().map(Time)
}

/// One line that a terminal can show.
fn line(text: &str) -> String {
    let cut = if text.chars().nth(MOST_CHARACTERS).is_some() { "…" } else { "" };
    let shown: String =
        text.chars().take(MOST_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    shown + cut
}

/// The conditions.
pub(crate) const ACCEPTED: &str = "Accepted";
pub(crate) const READY: &str = "Ready";

/// The reasons of `Ready`.
pub(crate) const PULLED: &str = "Pulled";
pub(crate) const FAILING: &str = "Failing";
pub(crate) const PAUSED: &str = "Paused";
pub(crate) const NOT_ACCEPTED: &str = "NotAccepted";
pub(crate) const WAITING: &str = "Waiting";

/// No message is empty: API servers of 1.20 take that for none at all.
const USABLE: (&str, &str, &str) = ("True", "Accepted", "the spec can be used");

/// Of a message, which an event repeats with at most 1024 bytes.
const MOST_CHARACTERS: usize = 240;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn next(
        former: &TentacleSourceStatus,
        verdict: Option<Verdict<()>>,
        state: State,
        second: i64,
    ) -> TentacleSourceStatus {
        let success = (state == State::Well).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(77_900));
        let standing = Standing { state, last_success: success, backlog: 5, files: 9, bytes: 90 };
        let news = News {
            verdict: verdict.as_ref(),
            generation: Some(2),
            standing: &standing,
            fetched: (3, 30),
            identity: "a",
        };
        former.next(&news, at(second))
    }

    fn refused() -> Verdict<()> {
        Verdict::Refused(Refusal { reason: "SecretNotFound", why: "secret s\nis not there".to_owned() })
    }

    fn shown(status: &TentacleSourceStatus) -> (String, String, Option<&str>) {
        let of = |kind| status.condition(kind).map(|one| format!("{} {}", one.status, one.reason));
        (of(ACCEPTED).unwrap_or_default(), of(READY).unwrap_or_default(), status.message.as_deref())
    }

    fn text(accepted: &str, ready: &str) -> (String, String) {
        (accepted.to_owned(), ready.to_owned())
    }

    #[test]
    fn a_source_that_is_pulled_says_what_came_of_it() {
        let new = TentacleSourceStatus::default();
        let begun = next(&new, Some(Verdict::Accepted(())), State::Begun, 100);
        let (accepted, ready) = text("True Accepted", "Unknown Waiting");
        assert_eq!(shown(&begun), (accepted.clone(), ready, None));
        assert_eq!((begun.holder.as_deref(), begun.backlog, begun.files), (Some("a"), None, Some(3)));
        assert_eq!(begun.observed_generation, Some(2));

        let well = next(&begun, Some(Verdict::Accepted(())), State::Well, 101);
        assert_eq!(shown(&well), (accepted.clone(), "True Pulled".to_owned(), None));
        assert_eq!((well.backlog, well.files, well.bytes), (Some(5), Some(6), Some(60)));
        assert_eq!(well.last_success, Some(Time(at(77))));
        let again = next(&well, Some(Verdict::Accepted(())), State::Well, 102);
        assert_eq!(again.condition(READY).unwrap().last_transition_time, Time(at(101)));
        assert!(!well.is_overtaken_by(&again) && begun.is_overtaken_by(&well));

        let failing = next(&again, Some(Verdict::Accepted(())), State::Failing("refused".to_owned()), 103);
        assert_eq!(shown(&failing), (accepted, "False Failing".to_owned(), Some("refused")));
        assert_eq!(failing.last_success, Some(Time(at(77))));
        assert_eq!(failing.condition(READY).unwrap().last_transition_time, Time(at(103)));
    }

    #[test]
    fn what_is_not_pulled_says_why() {
        let new = TentacleSourceStatus::default();
        let status = next(&new, Some(refused()), State::Idle, 100);
        let (accepted, ready) = text("False SecretNotFound", "False NotAccepted");
        assert_eq!(shown(&status), (accepted, ready, Some("secret s is not there")));
        assert_eq!(status.holder, None);
        let status = next(&status, Some(Verdict::Paused), State::Idle, 101);
        let (accepted, ready) = text("True Accepted", "False Paused");
        assert_eq!(shown(&status), (accepted.clone(), ready, Some("paused")));
        let status = next(&status, Some(Verdict::Accepted(())), State::Idle, 102);
        assert_eq!(shown(&status), (accepted, "Unknown Waiting".to_owned(), None));
    }

    #[test]
    fn the_next_holder_goes_on_where_the_one_before_stopped() {
        let former = TentacleSourceStatus {
            holder: Some("b".to_owned()),
            files: Some(1000),
            bytes: Some(5000),
            backlog: Some(7),
            ..next(&TentacleSourceStatus::default(), Some(Verdict::Accepted(())), State::Well, 100)
        };
        let begun = next(&former, Some(Verdict::Accepted(())), State::Begun, 200);
        assert_eq!(shown(&begun), shown(&former));
        assert_eq!((begun.holder.as_deref(), begun.backlog), (Some("a"), Some(7)));
        assert_eq!((begun.files, begun.bytes), (Some(1003), Some(5030)));
        // The one before leaves what is the new one's, and adds what it has.
        let late = next(&former, None, State::Idle, 201);
        assert_eq!((late.holder.as_deref(), late.files), (Some("b"), Some(1003)));
        assert_eq!(late.conditions, former.conditions);
        let gone = next(&begun, None, State::Idle, 202);
        assert_eq!(gone.holder, None);
    }

    #[test]
    fn a_message_is_one_line_and_bounded() {
        let long = State::Failing(format!("a\u{1b}[31m\r\n{}", "é".repeat(5000)));
        let status = next(&TentacleSourceStatus::default(), Some(Verdict::Accepted(())), long, 100);
        let message = status.message.unwrap();
        assert!(message.starts_with("a [31m  é") && message.len() < 1024, "{message}");
    }
}
