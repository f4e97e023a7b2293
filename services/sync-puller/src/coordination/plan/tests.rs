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
