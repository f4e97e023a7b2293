use std::{
    future::pending,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::*;

const WEB: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn turns(served: usize, of_one: Option<usize>, waiting: usize) -> Arc<Turns> {
    Turns::new(Bounds { served, of_one, waiting })
}

fn client(host: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, host])
}

async fn slot(turns: &Arc<Turns>, peer: IpAddr) -> Slot {
    turns.slot(peer, false).await.unwrap()
}

async fn served(turns: &Arc<Turns>, peer: IpAddr) -> Permit {
    slot(turns, peer).await.turn().await.unwrap()
}

/// One that waits for its turn by the time this returns.
async fn waits(turns: &Arc<Turns>, peer: IpAddr) -> JoinHandle<Option<Permit>> {
    let slot = slot(turns, peer).await;
    let waits = tokio::spawn(async move { slot.hold(slot.turn()).await.flatten() });
    yield_now().await;
    waits
}

#[tokio::test]
async fn the_oldest_that_waits_makes_room() {
    let turns = turns(9, None, 2);
    let (first, second) = (slot(&turns, WEB).await, slot(&turns, WEB).await);
    let first = tokio::spawn(async move { first.hold(pending::<()>()).await });
    let second = tokio::spawn(async move {
        let held = second.hold(pending::<()>()).await;
        (second, held)
    });
    yield_now().await;
    let third = slot(&turns, WEB).await;
    assert_eq!(first.await.unwrap(), None);
    assert_eq!(third.hold(async { 3 }).await, Some(3));
    assert!(!second.is_finished());
    let (fourth, (second, held)) =
        tokio::join!(async { timeout(Duration::from_millis(100), slot(&turns, WEB)).await }, async {
            second.await.unwrap()
        });
    assert!(held.is_none());
    // It still held its room while this was asked for.
    assert!(fourth.is_err());
    drop(second);
    slot(&turns, WEB).await;
}

#[tokio::test]
async fn the_address_that_has_most_waiting_makes_room() {
    let ipv6 = |network, host| Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into();
    let turns = turns(9, None, 4);
    // Those that are served are no reason to make room.
    let _served = [served(&turns, ipv6(2, 1)).await, served(&turns, ipv6(2, 1)).await];
    let mut held = JoinSet::new();
    for (peer, name, goes) in [
        (WEB, "the oldest", None),
        (ipv6(1, 1), "a network's first", None),
        (ipv6(2, 1), "a slow one", None),
        (ipv6(1, 2), "a network's second", None),
        (WEB, "the oldest's second", Some("a network's first")),
        (ipv6(3, 1), "another", Some("the oldest")),
        // Each has one.
        (ipv6(4, 1), "one more", Some("a slow one")),
    ] {
        let slot = slot(&turns, peer).await;
        held.spawn(async move { slot.hold(pending::<()>()).await.map_or(name, |()| "nobody") });
        if goes.is_some() {
            assert_eq!(held.join_next().await.map(Result::unwrap), goes);
        }
        yield_now().await;
        assert!(held.try_join_next().is_none());
    }
}

#[tokio::test]
async fn behind_a_proxy_the_client_that_has_most_waiting_makes_room() {
    let turns = turns(9, None, 3);
    let mut held = JoinSet::new();
    for (host, goes) in [(1, None), (2, None), (2, None), (3, Some(2))] {
        let slot = turns.slot(WEB, true).await.unwrap();
        slot.is_of(client(host)).unwrap();
        held.spawn(async move { slot.hold(pending::<()>()).await.map_or(host, |()| 0) });
        if goes.is_some() {
            assert_eq!(held.join_next().await.map(Result::unwrap), goes);
        }
        yield_now().await;
    }
    assert!(held.try_join_next().is_none());
}

#[tokio::test]
async fn the_next_turn_is_that_of_the_address_with_the_fewest_served() {
    let turns = turns(2, None, 99);
    let (one, two) = (served(&turns, WEB).await, served(&turns, WEB).await);
    let mut noisy = Vec::new();
    for _ in 0..50 {
        noisy.push(waits(&turns, WEB).await);
    }
    let another = waits(&turns, client(1)).await;
    assert_eq!((turns.served(), turns.waiting()), (2, 51));
    drop(one);
    let another = another.await.unwrap().unwrap();
    assert!(noisy.iter().all(|one| !one.is_finished()));
    drop(two);
    let first = noisy.remove(0).await.unwrap().unwrap();
    assert!(noisy.iter().all(|one| !one.is_finished()));
    drop((first, another));
    yield_now().await;
    assert_eq!(noisy.iter().filter(|one| one.is_finished()).count(), 2);
}

#[tokio::test]
async fn addresses_with_as_many_take_turns() {
    let turns = turns(1, None, 99);
    let first = served(&turns, WEB).await;
    let (mut order, mut waiting) = (Vec::new(), Vec::new());
    for host in [1, 1, 1, 2, 2, 3] {
        waiting.push((host, waits(&turns, client(host)).await));
    }
    let mut last = Some(first);
    while !waiting.is_empty() {
        drop(last.take());
        yield_now().await;
        let next = waiting.iter().position(|(_, one)| one.is_finished()).unwrap();
        let (host, permit) = waiting.remove(next);
        order.push(host);
        last = permit.await.unwrap();
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 1]);
}

#[tokio::test]
async fn a_turn_that_nobody_takes_goes_to_the_next() {
    let turns = turns(1, None, 99);
    let first = served(&turns, WEB).await;
    let gone = waits(&turns, client(1)).await;
    let next = waits(&turns, client(2)).await;
    gone.abort();
    drop(first);
    let permit = timeout(Duration::from_secs(9), next).await.unwrap().unwrap();
    assert!(permit.is_some());
    drop(permit);
    assert_eq!((turns.served(), turns.waiting()), (0, 0));
    assert!(turns.state().addresses.is_empty(), "no address without connections is remembered");
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let turns = turns(9, Some(2), 99);
    let (one, two) = (served(&turns, WEB).await, slot(&turns, WEB).await);
    assert_eq!(turns.slot(WEB, false).await.unwrap_err(), TooMany(2));
    slot(&turns, client(1)).await;
    drop(two);
    let two = served(&turns, WEB).await;
    assert!(turns.slot(WEB, false).await.is_err());
    drop((one, two));
    slot(&turns, WEB).await;
}

#[tokio::test]
async fn a_turn_that_is_free_takes_no_room_from_those_that_wait() {
    let turns = turns(2, Some(2), 1);
    let waits = slot(&turns, client(1)).await;
    let one = turns.free_turn(WEB).unwrap().unwrap();
    let two = turns.free_turn(WEB).unwrap().unwrap();
    assert!(turns.free_turn(WEB).is_err(), "an address has so many and no more");
    assert!(turns.free_turn(client(2)).unwrap().is_none());
    drop(one);
    assert!(waits.turn().await.is_some());
    drop(two);
    assert_eq!((turns.served(), turns.waiting()), (0, 0));
}

#[tokio::test]
async fn of_a_burst_none_makes_room_while_there_are_turns() {
    let turns = turns(99, None, 4);
    let mut burst = JoinSet::new();
    for _ in 0..99 {
        let slot = slot(&turns, WEB).await;
        burst.spawn(async move { slot.hold(slot.turn()).await.flatten() });
    }
    assert!(burst.join_all().await.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_proxy_is_not_bounded_and_its_clients_are() {
    let turns = turns(9, Some(1), 99);
    let mut slots = Vec::new();
    for host in 1..=3 {
        let slot = turns.slot(WEB, true).await.unwrap();
        slot.is_of(client(host)).unwrap();
        slots.push(slot);
    }
    let fourth = turns.slot(WEB, true).await.unwrap();
    assert_eq!(fourth.is_of(client(1)), Err(TooMany(1)));
    // What the proxy asks for itself.
    assert_eq!(fourth.is_of(WEB), Ok(()));
}
