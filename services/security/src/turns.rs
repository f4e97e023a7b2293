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
mod tests;
