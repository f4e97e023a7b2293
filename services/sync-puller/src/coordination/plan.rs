//! What is to be done next: which shards this process asks for, and which it
//! gives back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::Event;

use super::{
    Settings,
    observed::{After, Free, Observed},
    shards::assign,
    tenancy::Ended,
};
use crate::term::Moment;

/// Decides from what is observed. Asks nobody, and waits for nothing.
#[derive(Debug)]
pub(super) struct Plan {
    settings: Arc<Settings>,
    observed: Observed,
    began: Moment,
    members: BTreeSet<String>,
    /// Who should hold each shard.
    assigned: Vec<String>,
    /// Members that let a shard run out, and who should hold each without
    /// them: as likely as not they are dead, and their own leases end later.
    failing: (BTreeSet<String>, Vec<String>),
    /// Shards that this process asks for, holds, or has not left yet.
    busy: BTreeSet<u32>,
    /// The one that is being given back.
    leaving: Option<u32>,
    /// When one was given back the last time.
    gave_back: Option<Moment>,
    /// Before when a shard is not asked for again.
    later: BTreeMap<u32, Moment>,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    pub(super) ask: BTreeMap<u32, Free>,
    pub(super) give_back: Option<u32>,
    /// Leases of members that went long ago: names and versions, to delete.
    pub(super) swept: Vec<(String, String)>,
    /// When to decide again, if nothing is shown before.
    pub(super) next: Option<Moment>,
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(settings: Arc<Settings>, now: Moment) -> Self {
        let observed = Observed::new(&settings, now);
        let (members, assigned) = (BTreeSet::new(), Vec::new());
        let (busy, later) = (BTreeSet::new(), BTreeMap::new());
        Self {
            settings,
            observed,
            began: now,
            members,
            assigned,
            failing: Default::default(),
            busy,
            leaving: None,
            gave_back: None,
            later,
        }
    }

    /// The watch has shown something.
    pub(super) fn see(&mut self, event: Event<Lease>, now: Moment) {
        self.observed.see(event, now);
    }

    /// This process has nothing to do with the shard any more.
    pub(super) fn ended(&mut self, shard: u32, ended: &Ended, now: Moment) {
        self.busy.remove(&shard);
        if self.leaving == Some(shard) {
            self.leaving = None;
        }
        let duration = self.settings.duration;
        let pause = match ended {
            // The watch shows who has it now, if it has not yet.
            Ended::Refused => jitter(duration / 50, duration / 10),
            Ended::Failed(_) => jitter(duration / 10, self.settings.pause()),
            Ended::GivenBack | Ended::Lost => return,
        };
        self.later.insert(shard, now.plus(pause));
    }

    /// Whether the watch has shown nothing for too long.
    pub(super) fn is_deaf(&self, now: Moment) -> bool {
        self.observed.is_deaf(now)
    }

    /// The members that are there, this one among them.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Decides, `held` being the shards that this process holds. What is
    /// decided counts as begun.
    pub(super) fn decide(&mut self, held: &BTreeSet<u32>, now: Moment) -> Decisions {
        let mut decisions = Decisions::default();
        if !self.observed.is_whole() {
            return decisions;
        }
        self.count_members(now);
        let mut next: Vec<_> = self.observed.next(now).into_iter().collect();
        let idle = (0..self.settings.shards).filter(|shard| !self.busy.contains(shard));
        let all: Vec<_> = idle.filter_map(|shard| Some((shard, self.observed.free(shard, now)?))).collect();
        self.count_failing(&all);
        for (shard, free) in all {
            // The other may be unable to take it; and one that has just come
            // does not know yet that it has run out.
            let patience = match free.after {
                _ if self.is_for_us(shard) => Duration::ZERO,
                After::Expired => self.settings.duration / 15,
                After::Free | After::Created => self.settings.pause(),
            };
            let from = free.since.plus(patience).max(self.later.get(&shard).copied().unwrap_or(free.since));
            match from <= now {
                true => drop(decisions.ask.insert(shard, free)),
                false => next.push(from),
            }
        }
        self.busy.extend(decisions.ask.keys());
        match self.surplus(held) {
            Some((shard, from)) if from <= now && !self.is_deaf(now) => {
                (self.leaving, self.gave_back) = (Some(shard), Some(now));
                decisions.give_back = Some(shard);
            }
            Some((_, from)) if from > now => next.push(from),
            _ => {}
        }
        decisions.swept = self.sweep(now);
        next.push(self.observed.deaf_at());
        decisions.next = next.into_iter().filter(|&moment| moment > now).min();
        decisions
    }

    fn count_members(&mut self, now: Moment) {
        // While it is deaf, nobody is known to have gone or to be there.
        if self.is_deaf(now) && !self.members.is_empty() {
            return;
        }
        let mut members = self.observed.members(now);
        members.insert(self.settings.identity.clone());
        if members != self.members {
            self.assigned = assign(self.settings.shards, &members);
            self.members = members;
            self.failing = Default::default();
        }
    }

    fn count_failing(&mut self, free: &[(u32, Free)]) {
        let expired = free.iter().filter(|(_, free)| free.after == After::Expired);
        let holders = expired.filter_map(|(_, free)| free.was.clone());
        let mut failing: BTreeSet<_> = holders.filter(|holder| self.members.contains(holder)).collect();
        failing.remove(&self.settings.identity);
        if failing != self.failing.0 {
            let assigned = assign(self.settings.shards, &(&self.members - &failing));
            self.failing = (failing, assigned);
        }
    }

    /// Whether we should ask for it.
    fn is_for_us(&self, shard: u32) -> bool {
        let assigned = if self.failing.0.is_empty() { &self.assigned } else { &self.failing.1 };
        assigned.get(shard as usize) == Some(&self.settings.identity)
    }

    /// Whether we should hold it.
    fn is_ours(&self, shard: u32) -> bool {
        self.assigned.get(shard as usize) == Some(&self.settings.identity)
    }

    /// A shard that another member should hold, and when to give it back: one
    /// after the other, as what moves is pulled by nobody for a moment, and not
    /// before the members that started together have seen each other.
    fn surplus(&self, held: &BTreeSet<u32>) -> Option<(u32, Moment)> {
        let duration = self.settings.duration;
        let shard = *held.iter().find(|&&shard| !self.is_ours(shard))?;
        let from = self.gave_back.map_or(self.began, |gave| gave.plus(duration / 5));
        self.leaving.is_none().then_some((shard, from.max(self.began.plus(duration))))
    }

    fn sweep(&mut self, now: Moment) -> Vec<(String, String)> {
        let long = (self.settings.duration * 10).max(LEAST_BEFORE_SWEPT);
        let gone = self.observed.gone_members(now).filter(|(.., since)| now.after(*since) > long);
        let swept: Vec<_> = gone.map(|(name, stored, _)| (name.clone(), stored.version.clone())).collect();
        swept.iter().for_each(|(name, _)| self.observed.forget(name));
        swept
    }
}

/// Not at the same time as others.
fn jitter(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f32(fastrand::f32())
}

/// How long the lease of a member that is gone is kept for who looks for it.
const LEAST_BEFORE_SWEPT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::{
        api::coordination::v1::LeaseSpec,
        apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    };

    use super::*;

    /// A plan of the member "me", in seconds since it began, with leases of
    /// 15 s.
    struct Case {
        plan: Plan,
        began: Moment,
        version: u32,
        held: BTreeSet<u32>,
    }

    impl Case {
        fn new(shards: u32) -> Self {
            let (name, identity) = ("t".to_owned(), "me".to_owned());
            let settings = Settings { shards, name, identity, duration: Duration::from_secs(15) };
            let began = Moment::now();
            let plan = Plan::new(Arc::new(settings), began);
            Self { plan, began, version: 0, held: BTreeSet::new() }
        }

        /// All that there is: shards and their holders, and members.
        fn listed(shards: &[(u32, &str)], members: &[&str], count: u32) -> Self {
            let mut case = Self::new(count);
            case.see(0.0, Event::Init);
            for (shard, holder) in shards {
                let lease = case.lease(&format!("t-shard-{shard}"), holder);
                case.see(0.0, Event::InitApply(lease));
            }
            for member in members {
                let lease = case.lease(&format!("t-member-{member}"), member);
                case.see(0.0, Event::InitApply(lease));
            }
            case.see(0.0, Event::InitDone);
            case
        }

        fn at(&self, seconds: f32) -> Moment {
            self.began.plus(Duration::from_secs_f32(seconds))
        }

        fn lease(&mut self, name: &str, holder: &str) -> Lease {
            self.version += 1;
            Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    resource_version: Some(self.version.to_string()),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(holder.to_owned()),
                    // Of a clock that is wrong by centuries.
                    renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
                    lease_duration_seconds: Some(15),
                    ..LeaseSpec::default()
                }),
            }
        }

        fn see(&mut self, seconds: f32, event: Event<Lease>) {
            self.plan.see(event, self.at(seconds));
        }

        fn renewed(&mut self, seconds: f32, name: &str, holder: &str) {
            let lease = self.lease(name, holder);
            self.see(seconds, Event::Apply(lease));
        }

        /// Renewals of this member's own lease, up to a time.
        fn hear(&mut self, seconds: std::ops::Range<u16>) {
            for second in seconds.step_by(5) {
                self.renewed(f32::from(second), "t-member-me", "me");
            }
        }

        fn decide(&mut self, seconds: f32) -> Decisions {
            self.plan.decide(&self.held, self.at(seconds))
        }

        fn asked(&mut self, seconds: f32) -> Vec<u32> {
            self.decide(seconds).ask.into_keys().collect()
        }

        /// A shard that the other one of two members should hold.
        fn of_the_other(shards: u32) -> u32 {
            let members = ["me", "you"].map(str::to_owned).into();
            let assigned = assign(shards, &members);
            u32::try_from(assigned.iter().position(|member| member == "you").unwrap()).unwrap()
        }
    }

    #[test]
    fn nothing_is_asked_for_before_all_leases_are_known() {
        let mut case = Case::new(2);
        assert_eq!(case.decide(0.0), Decisions::default());
        case.see(0.1, Event::Init);
        assert_eq!(case.decide(0.1), Decisions::default());
        case.see(0.2, Event::InitDone);
        assert_eq!(case.asked(0.2), [0, 1]);
        assert!(case.asked(0.3).is_empty(), "they are being asked for");
    }

    #[test]
    fn a_lease_has_run_out_when_it_was_not_seen_to_change_for_its_duration() {
        let mut case = Case::listed(&[(0, "dead"), (1, "dead")], &["me"], 2);
        assert!(case.asked(0.0).is_empty(), "what its clock says does not count");
        case.hear(0..15);
        case.renewed(14.0, "t-shard-1", "dead");
        assert!(case.asked(14.9).is_empty());
        let decisions = case.decide(15.0);
        assert_eq!(decisions.ask.into_keys().collect::<Vec<_>>(), [0]);
        case.hear(15..29);
        assert!(case.asked(28.9).is_empty());
        assert_eq!(case.asked(29.0), [1]);
    }

    #[test]
    fn a_listing_that_shows_the_same_again_does_not_renew() {
        let mut case = Case::new(1);
        let lease = case.lease("t-shard-0", "dead");
        for seconds in [0.0, 5.0, 10.0] {
            case.see(seconds, Event::Init);
            case.see(seconds, Event::InitApply(lease.clone()));
            case.see(seconds, Event::InitDone);
        }
        let asked = case.decide(15.0).ask.remove(&0).unwrap();
        assert_eq!((asked.after, asked.was.as_deref()), (After::Expired, Some("dead")));
        assert_eq!(asked.stored.unwrap().version, "1");
    }

    #[test]
    fn nothing_runs_out_for_who_hears_nothing() {
        let mut case = Case::listed(&[(0, "you")], &["me", "you"], 1);
        assert!(case.asked(40.0).is_empty());
        assert_eq!(case.plan.members(), 2);
        // What was not shown meanwhile may have been renewed.
        case.hear(41..56);
        assert!(case.asked(55.0).is_empty());
        assert_eq!(case.plan.members(), 2);
        case.hear(56..57);
        assert_eq!(case.asked(56.5), [0]);
        assert_eq!(case.plan.members(), 1);
    }

    #[test]
    fn a_released_shard_is_asked_for_at_once_and_one_of_another_member_s_later() {
        let other = Case::of_the_other(8);
        let shards: Vec<_> = (0..8).map(|shard| (shard, "third")).collect();
        let mut case = Case::listed(&shards, &["me", "you"], 8);
        for shard in 0..8 {
            case.renewed(1.0, &format!("t-shard-{shard}"), "");
        }
        let asked = case.decide(1.0).ask;
        assert_eq!(asked.len(), 4);
        assert!(!asked.contains_key(&other) && asked.values().all(|free| free.after == After::Free));
        assert!(case.asked(5.9).is_empty());
        assert_eq!(case.asked(6.0).len(), 4, "the other may be unable to take them");
    }

    #[test]
    fn what_a_member_leaves_is_asked_for_as_soon_as_the_member_is_gone() {
        let other = Case::of_the_other(8);
        let mut case = Case::listed(&[], &["me", "you"], 8);
        assert!(!case.asked(0.0).contains(&other));
        let lease = case.lease("t-member-you", "you");
        case.see(1.0, Event::Delete(lease));
        assert!(case.asked(1.0).contains(&other));
    }

    #[test]
    fn what_a_dead_member_held_is_not_left_to_it_until_its_own_lease_has_run_out() {
        let mut case = Case::listed(&[(0, "you"), (1, "you")], &["me", "you"], 2);
        case.renewed(4.0, "t-member-you", "you");
        case.hear(5..15);
        assert_eq!(case.asked(15.0), [0, 1]);
        assert_eq!(case.plan.members(), 2);
    }

    #[test]
    fn what_ran_out_is_left_only_shortly_to_a_member_that_may_have_come_too_late_to_know() {
        let other = Case::of_the_other(8);
        let mut case = Case::listed(&[(other, "dead")], &["me", "you"], 8);
        case.hear(5..15);
        case.renewed(10.0, "t-member-you", "you");
        assert!(!case.asked(15.9).contains(&other));
        assert!(case.asked(16.0).contains(&other));
    }

    #[test]
    fn a_lease_that_somebody_deleted_is_its_holder_s_for_its_term() {
        let mut case = Case::listed(&[(0, "you")], &["me"], 1);
        case.hear(0..10);
        let lease = case.lease("t-shard-0", "you");
        case.see(10.0, Event::Delete(lease));
        case.hear(15..25);
        assert!(case.asked(24.9).is_empty());
        assert_eq!(case.decide(25.0).ask[&0].stored, None);
    }

    #[test]
    fn who_was_refused_asks_again_a_little_later() {
        let mut case = Case::listed(&[], &["me"], 1);
        assert_eq!(case.asked(0.0), [0]);
        case.plan.ended(0, &Ended::Refused, case.at(0.1));
        let decisions = case.decide(0.1);
        assert!(decisions.ask.is_empty());
        let next = decisions.next.unwrap().after(case.at(0.1));
        assert!((0.29..=1.51).contains(&next.as_secs_f32()), "{next:?}");
        assert_eq!(case.asked(1.7), [0]);
        case.plan.ended(0, &Ended::Failed("503".to_owned()), case.at(2.0));
        assert!(case.asked(3.4).is_empty());
        assert_eq!(case.asked(7.1), [0]);
    }

    #[test]
    fn surplus_is_given_back_one_at_a_time_and_not_at_first() {
        let mut case = Case::listed(&[], &["me"], 8);
        case.held = case.asked(0.0).into_iter().collect();
        assert_eq!(case.held.len(), 8);
        let mut given = Vec::new();
        for tenth in 1..1200_u16 {
            let seconds = f32::from(tenth) / 10.0;
            if tenth % 50 == 1 {
                case.renewed(seconds, "t-member-me", "me");
                case.renewed(seconds, "t-member-you", "you");
            }
            if let Some(shard) = case.decide(seconds).give_back {
                assert!(case.held.remove(&shard));
                assert!(case.decide(seconds + 0.05).give_back.is_none(), "one at a time");
                given.push(seconds);
                case.plan.ended(shard, &Ended::GivenBack, case.at(seconds));
                case.renewed(seconds, &format!("t-shard-{shard}"), "you");
            }
        }
        assert_eq!(given.len(), 4, "{given:?}");
        assert!((14.9..15.2).contains(&given[0]), "{given:?}");
        assert!(given.windows(2).all(|pair| (2.9..3.2).contains(&(pair[1] - pair[0]))), "{given:?}");
    }

    #[test]
    fn the_lease_of_a_member_that_went_long_ago_is_deleted() {
        let mut case = Case::listed(&[], &["me", "dead"], 1);
        case.hear(0..160);
        assert!(case.decide(160.0).swept.is_empty());
        case.hear(160..166);
        assert_eq!(case.decide(165.1).swept, [("t-member-dead".to_owned(), "2".to_owned())]);
        assert!(case.decide(165.2).swept.is_empty());
    }

    #[test]
    fn leases_of_others_and_of_shards_that_are_not_are_passed_over() {
        let mut case = Case::listed(&[(0, "you")], &[], 1);
        for name in ["t-shard-1", "t-shard-x", "u-shard-0", "t"] {
            case.renewed(0.1, name, "");
        }
        assert_eq!(case.decide(0.2).ask, BTreeMap::new());
    }
}
