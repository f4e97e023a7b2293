//! Whose turn it is: connections that are served, and those that wait to be,
//! each bounded, so that no address keeps others out.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::yield_now,
};
use tokio_util::sync::CancellationToken;

use crate::penalties::owner;

/// Room for connections that are served, and for those that wait: for a
/// header, a handshake, or their turn.
///
/// Where all who can be served are, the next turn is that of the address with
/// the fewest of them; of several, whose last turn is the longest ago. Where
/// all room to wait is taken, one ends to make room for the next: of the
/// address that has most of them waiting, the oldest. So who is served, at
/// once or over a slow line, is not kept out by others who come more often.
#[derive(Debug)]
pub(crate) struct Turns {
    /// A permit one that waits.
    room: Arc<Semaphore>,
    bounds: Bounds,
    state: Mutex<State>,
}

/// How many there are at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Served at once.
    pub(crate) served: usize,
    /// Of one address, served or waiting; none: as many as there are.
    pub(crate) of_one: Option<usize>,
    /// Waiting at once.
    pub(crate) waiting: usize,
}

#[derive(Debug)]
struct State {
    /// How many more can be served.
    free: usize,
    /// Of connections and of turns.
    count: u64,
    /// The oldest first.
    waiting: BTreeMap<u64, Waiting>,
    /// Those of which there is a connection.
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Waiting {
    owner: IpAddr,
    ends: CancellationToken,
    /// Where it waits for its turn, and for nothing else.
    turn: Option<oneshot::Sender<Permit>>,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct Address {
    served: usize,
    waiting: usize,
    /// When it last had a turn.
    last: u64,
}

/// The room of one that waits; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    of: Arc<Turns>,
    number: u64,
    ends: CancellationToken,
    _room: OwnedSemaphorePermit,
}

/// The room of one that is served; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    of: Arc<Turns>,
    owner: IpAddr,
}

/// An address has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its address has {0} connections already (--max-connections-per-address)")]
pub struct TooMany(usize);

// === impl Turns ===

impl Turns {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(bounds.waiting)),
            bounds,
            state: Mutex::new(State {
                free: bounds.served,
                count: 0,
                waiting: BTreeMap::new(),
                addresses: HashMap::new(),
            }),
        })
    }

    /// A turn at once for a connection from `peer`, where one is free: who
    /// needs nothing else takes no room from those that wait.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn free_turn(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Permit>, TooMany> {
        let (owner, mut state) = (owner(peer), self.state());
        self.check(&state, owner)?;
        if state.free == 0 {
            return Ok(None);
        }
        state.serve(owner);
        Ok(Some(Permit { of: Arc::clone(self), owner }))
    }

    /// Room for a connection from `peer`, until it is served. Where it is
    /// that of a proxy, the bound of an address is not its own.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) async fn slot(self: &Arc<Self>, peer: IpAddr, is_proxy: bool) -> Result<Slot, TooMany> {
        let owner = owner(peer);
        if !is_proxy {
            self.check(&self.state(), owner)?;
        }
        let room = self.take_room().await;
        let ends = CancellationToken::new();
        let mut state = self.state();
        if !is_proxy {
            // Others may have come while this one waited for room.
            self.check(&state, owner)?;
        }
        let number = state.next_number();
        state.waiting.insert(number, Waiting { owner, ends: ends.clone(), turn: None });
        state.addresses.entry(owner).or_default().waiting += 1;
        drop(state);
        Ok(Slot { of: Arc::clone(self), number, ends, _room: room })
    }

    async fn take_room(&self) -> OwnedSemaphorePermit {
        let room = || Arc::clone(&self.room);
        if let Ok(room) = room().try_acquire_owned() {
            return room;
        }
        // Of a burst, some have yet to find out that they need not wait.
        yield_now().await;
        if let Ok(room) = room().try_acquire_owned() {
            return room;
        }
        self.state().make_room();
        room().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// How many are served.
    pub(crate) fn served(&self) -> usize {
        self.bounds.served - self.state().free
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    fn check(&self, state: &State, owner: IpAddr) -> Result<(), TooMany> {
        let Some(most) = self.bounds.of_one else { return Ok(()) };
        let held = state.addresses.get(&owner).map_or(0, |address| address.served + address.waiting);
        if held < most { Ok(()) } else { Err(TooMany(most)) }
    }

    /// Gives what is free to whose turn it is.
    fn give(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let next = state.next_turn();
        drop(state);
        if let Some((owner, turn)) = next {
            // Who waits no more gives it back by the drop.
            let _ = turn.send(Permit { of: Arc::clone(self), owner });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn make_room(&mut self) {
        let most = self.addresses.values().map(|address| address.waiting).max();
        let is_greedy = |owner| self.addresses.get(owner).map(|address| address.waiting) == most;
        let goes = self.waiting.iter().find(|(_, one)| is_greedy(&one.owner)).map(|(number, _)| *number);
        if let Some(one) = goes.and_then(|number| self.leave(number)) {
            one.ends.cancel();
        }
    }

    /// Takes one out of those that wait.
    fn leave(&mut self, number: u64) -> Option<Waiting> {
        let one = self.waiting.remove(&number)?;
        self.change(one.owner, |address| address.waiting -= 1);
        Some(one)
    }

    /// Who is served next, counted as such.
    fn next_turn(&mut self) -> Option<(IpAddr, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        let last = |one: &Waiting| {
            self.addresses.get(&one.owner).map_or((0, 0), |address| (address.served, address.last))
        };
        let wait_for_it = self.waiting.iter().filter(|(_, one)| one.turn.is_some());
        let number = *wait_for_it.min_by_key(|(number, one)| (last(one), **number))?.0;
        // Before it leaves, so that its address is remembered.
        let owner = self.waiting.get(&number)?.owner;
        self.serve(owner);
        self.leave(number).and_then(|one| Some((owner, one.turn?)))
    }

    /// Counts one of this address as served.
    fn serve(&mut self, owner: IpAddr) {
        let now = self.next_number();
        self.free -= 1;
        let address = self.addresses.entry(owner).or_default();
        address.served += 1;
        address.last = now;
    }

    /// Forgets an address without connections.
    fn change(&mut self, owner: IpAddr, change: impl FnOnce(&mut Address)) {
        let Some(address) = self.addresses.get_mut(&owner) else { return };
        change(address);
        if address.served == 0 && address.waiting == 0 {
            self.addresses.remove(&owner);
        }
    }
}

// === impl Slot ===

impl Slot {
    /// From here on, it counts as one of this address: a proxy has said whose
    /// connection it is.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn is_of(&self, peer: IpAddr) -> Result<(), TooMany> {
        let (owner, mut state) = (owner(peer), self.of.state());
        let Some(one) = state.waiting.get(&self.number) else { return Ok(()) };
        let before = one.owner;
        if before == owner {
            return Ok(());
        }
        self.of.check(&state, owner)?;
        state.change(before, |address| address.waiting -= 1);
        state.addresses.entry(owner).or_default().waiting += 1;
        if let Some(one) = state.waiting.get_mut(&self.number) {
            one.owner = owner;
        }
        Ok(())
    }

    /// The result of `work`, during which this waits; none where it had to
    /// make room for a newer one.
    pub(crate) async fn hold<W: Future>(&self, work: W) -> Option<W::Output> {
        self.ends.run_until_cancelled(work).await
    }

    /// Waits for its turn; who has it waits no more. To be called within
    /// [`Slot::hold`]: none comes for one that made room.
    pub(crate) async fn turn(&self) -> Option<Permit> {
        self.ask()?.await.ok()
    }

    fn ask(&self) -> Option<oneshot::Receiver<Permit>> {
        let (turn, comes) = oneshot::channel();
        let mut state = self.of.state();
        if state.free == 0 && !state.waiting.values().any(|one| one.turn.is_some()) {
            tracing::warn!("all connections are in use (-c): those that come wait for their turn");
        }
        state.waiting.get_mut(&self.number)?.turn = Some(turn);
        self.of.give(state);
        Some(comes)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.of.state().leave(self.number);
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.free += 1;
        state.change(self.owner, |address| address.served -= 1);
        self.of.give(state);
    }
}

#[cfg(test)]
mod tests {
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
}
