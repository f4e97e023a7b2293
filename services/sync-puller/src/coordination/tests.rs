//! Several processes' parts against a server that checks versions as the API
//! server does.

mod server;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use server::{Link, Server};
use tokio::time::sleep;

use super::*;

/// Of a lease: the shortest that can be set.
const DURATION: Duration = Duration::from_secs(3);

const SHARDS: u32 = 8;

/// How long a puller needs to end what is under way.
const WORK: Duration = Duration::from_millis(200);

/// Processes that share the shards. While they are waited for, it is looked
/// all the time whether two pull a shard at once.
#[derive(Default)]
struct Fleet {
    server: Server,
    members: Vec<Member>,
}

/// A process, and what it pulls.
struct Member {
    coordination: Option<Coordination>,
    held: watch::Receiver<Held>,
    link: watch::Sender<Link>,
    /// Each with the end of what is under way, once no more is begun.
    pulled: BTreeMap<u32, (Term, Option<Moment>)>,
}

impl Fleet {
    fn of(members: usize) -> Self {
        let mut fleet = Self::default();
        (0..members).for_each(|_| fleet.join());
        fleet
    }

    fn join(&mut self) {
        let (client, link) = self.server.client();
        let settings = Settings {
            shards: SHARDS,
            name: "pullers".to_owned(),
            identity: format!("puller-{}", self.members.len()),
            duration: DURATION,
        };
        let (coordination, held) = Coordination::start(client, "default", settings);
        let coordination = Some(coordination);
        self.members.push(Member { coordination, held, link, pulled: BTreeMap::new() });
    }

    /// Waits until `condition` holds for what each member pulls; how long.
    async fn until(&mut self, within: f32, condition: impl Fn(&[BTreeSet<u32>]) -> bool) -> f32 {
        let began = Moment::now();
        loop {
            let pulled: Vec<_> = self.members.iter_mut().map(Member::pull).collect();
            for shard in 0..SHARDS {
                let by: Vec<_> =
                    (0..pulled.len()).filter(|&member| pulled[member].contains(&shard)).collect();
                assert!(by.len() < 2, "shard {shard} is pulled by {by:?}");
            }
            let after = Moment::now().after(began).as_secs_f32();
            if condition(&pulled) {
                return after;
            }
            assert!(after < within, "not within {within} s: {pulled:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Looks for so long.
    async fn watch(&mut self, seconds: f32) {
        let until = Moment::now().plus(Duration::from_secs_f32(seconds));
        self.until(seconds + 1.0, |_| Moment::now() >= until).await;
    }
}

impl Member {
    fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Begins and ends as the held terms say, and what is pulled now.
    fn pull(&mut self) -> BTreeSet<u32> {
        let now = Moment::now();
        let held = Arc::clone(&self.held.borrow());
        for (shard, term) in held.iter().filter(|(_, term)| !term.is_ending()) {
            self.pulled.entry(*shard).or_insert_with(|| (term.clone(), None));
        }
        for (term, end) in self.pulled.values_mut().filter(|(term, end)| end.is_none() && term.is_ending()) {
            *end = Some(if term.is_over() { now } else { now.plus(WORK) });
        }
        self.pulled.retain(|_, (term, end)| !term.is_over() && end.is_none_or(|end| end > now));
        self.pulled.keys().copied().collect()
    }
}

fn all(pulled: &[BTreeSet<u32>]) -> bool {
    pulled.iter().map(BTreeSet::len).sum::<usize>() == SHARDS as usize
}

fn evenly(pulled: &[BTreeSet<u32>]) -> bool {
    let each = SHARDS as usize / pulled.len();
    all(pulled) && pulled.iter().all(|shards| shards.len() == each || shards.len() == each + 1)
}

fn by_others(than: usize) -> impl Fn(&[BTreeSet<u32>]) -> bool {
    move |pulled| all(pulled) && pulled[than].is_empty()
}

#[tokio::test]
async fn a_single_process_has_all_shards_at_once() {
    let mut fleet = Fleet::of(1);
    fleet.until(0.5, all).await;
    // Each is renewed, and none is lost.
    let until = Moment::now().plus(DURATION * 2);
    fleet.until(10.0, |pulled| !all(pulled) || Moment::now() >= until).await;
    fleet.until(0.1, all).await;
    let lease = fleet.server.get("pullers-shard-0").unwrap();
    assert_eq!(lease["metadata"]["labels"]["tentacle.dev/role"], "shard");
    assert_eq!(lease["metadata"]["labels"]["tentacle.dev/lease"], "pullers");
    assert_eq!(lease["metadata"]["labels"]["app.kubernetes.io/part-of"], "tentacle");
    assert_eq!(lease["spec"]["holderIdentity"], "puller-0");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 3);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
}

#[tokio::test]
async fn shards_end_up_spread_evenly_and_are_taken_from_who_dies() {
    let mut fleet = Fleet::of(3);
    fleet.until(0.5, all).await;
    fleet.until(15.0, evenly).await;
    fleet.members[1].coordination = None;
    let after = fleet.until(DURATION.as_secs_f32() + 1.0, by_others(1)).await;
    assert!(after > 1.0, "a lease that is not released lasts: {after}");
    assert!(fleet.server.get("pullers-member-puller-1").is_some());
}

#[tokio::test]
async fn a_drain_hands_over_at_once() {
    let mut fleet = Fleet::of(2);
    fleet.until(15.0, evenly).await;
    let released = tokio::spawn(fleet.members[0].coordination.take().unwrap().release());
    let after = fleet.until(1.0, by_others(0)).await;
    assert!(after >= WORK.as_secs_f32(), "what is under way ends first: {after}");
    released.await.unwrap();
    assert_eq!(fleet.server.get("pullers-member-puller-0"), None);
    // The last one leaves each of them free.
    let released = tokio::spawn(fleet.members[1].coordination.take().unwrap().release());
    fleet.until(1.0, |pulled| pulled[1].is_empty()).await;
    released.await.unwrap();
    for shard in 0..SHARDS {
        let lease = fleet.server.get(&format!("pullers-shard-{shard}")).unwrap();
        assert_eq!(lease["spec"].get("holderIdentity"), None, "{lease}");
    }
}

#[tokio::test]
async fn who_is_cut_off_stops_before_another_begins() {
    let mut fleet = Fleet::of(3);
    fleet.until(15.0, evenly).await;
    for link in [Link::Silent, Link::Refusing] {
        fleet.members[2].set(link);
        fleet.until(DURATION.as_secs_f32() + 1.0, by_others(2)).await;
        fleet.members[2].set(Link::Up);
        fleet.until(20.0, evenly).await;
    }
}

#[tokio::test]
async fn everybody_stops_while_the_server_is_away_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::of(2);
    fleet.until(15.0, evenly).await;
    let before: Vec<_> = fleet.members.iter_mut().map(Member::pull).collect();
    for link in [Link::Refusing, Link::Silent] {
        fleet.members.iter().for_each(|member| member.set(link));
        fleet.until(DURATION.as_secs_f32(), |pulled| pulled.iter().all(BTreeSet::is_empty)).await;
        fleet.watch(2.0).await;
        fleet.members.iter().for_each(|member| member.set(Link::Up));
        fleet.until(DURATION.as_secs_f32() * 3.0, |pulled| pulled == before).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_no_shard() {
    let mut fleet = Fleet::of(1);
    fleet.until(0.5, all).await;
    for _ in 0..2 {
        fleet.members[0].set(Link::Deafening);
        // A renewal of each is under way, and its answer is not waited for.
        let until = Moment::now().plus(Duration::from_millis(1100));
        fleet.until(2.0, |pulled| !all(pulled) || Moment::now() >= until).await;
        fleet.members[0].set(Link::Up);
        let until = Moment::now().plus(DURATION);
        fleet.until(4.0, |pulled| !all(pulled) || Moment::now() >= until).await;
        fleet.until(0.0, all).await;
    }
}

#[tokio::test]
async fn a_lease_that_somebody_labels_is_not_lost_and_one_that_somebody_takes_is() {
    let mut fleet = Fleet::of(1);
    fleet.until(0.5, all).await;
    fleet.server.edit("pullers-shard-3", |lease| lease["metadata"]["labels"]["seen"] = json!("yes"));
    let until = Moment::now().plus(DURATION);
    fleet.until(4.0, |pulled| !all(pulled) || Moment::now() >= until).await;
    fleet.until(0.0, all).await;
    fleet.server.edit("pullers-shard-3", |lease| lease["spec"]["holderIdentity"] = json!("somebody"));
    fleet.until(1.5, |pulled| !pulled[0].contains(&3)).await;
    // And taken back when that one does not renew it.
    let after = fleet.until(DURATION.as_secs_f32() + 1.0, all).await;
    assert!(after > 1.0, "{after}");
    let transitions = &fleet.server.get("pullers-shard-3").unwrap()["spec"]["leaseTransitions"];
    assert_eq!(*transitions, 1);
}
