//! Handshakes under way, bounded so that half-open ones keep nobody out.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::penalties::owner;

/// Room for handshakes. When all of it is taken, one ends to make room for the
/// next: of the address that has most of them half-open, the oldest. So who
/// finishes its handshake, at once or over a slow line, is not kept out by
/// others who never do.
#[derive(Debug)]
pub(crate) struct Handshakes {
    slots: Arc<Semaphore>,
    /// Those that are half-open, the oldest first.
    open: Mutex<BTreeMap<u64, HalfOpen>>,
    count: AtomicU64,
}

#[derive(Debug)]
struct HalfOpen {
    owner: IpAddr,
    ends: CancellationToken,
}

/// One handshake's room; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    of: Arc<Handshakes>,
    number: u64,
    ends: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

// === impl Handshakes ===

impl Handshakes {
    /// Room for `most` at once.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(most)),
            open: Mutex::default(),
            count: AtomicU64::new(0),
        })
    }

    /// Room for a connection from `peer` that is there. Waits only while all
    /// who have room have finished their handshakes, and wait for something
    /// else.
    pub(crate) async fn slot(self: &Arc<Self>, peer: IpAddr) -> Slot {
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.make_room();
                Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        let (number, ends) = (self.count.fetch_add(1, Relaxed), CancellationToken::new());
        self.open().insert(number, HalfOpen { owner: owner(peer), ends: ends.clone() });
        Slot { of: Arc::clone(self), number, ends, _permit: permit }
    }

    fn make_room(&self) {
        let mut open = self.open();
        let mut held = HashMap::<_, usize>::new();
        for half_open in open.values() {
            *held.entry(half_open.owner).or_default() += 1;
        }
        let most = held.values().copied().max();
        let goes = open.iter().find(|(_, half_open)| held.get(&half_open.owner).copied() == most);
        if let Some(half_open) = goes.map(|(number, _)| *number).and_then(|number| open.remove(&number)) {
            half_open.ends.cancel();
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, HalfOpen>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slot ===

impl Slot {
    /// From here on, it counts as one of this address: a proxy has said whose
    /// connection it is.
    pub(crate) fn is_of(&self, peer: IpAddr) {
        if let Some(half_open) = self.of.open().get_mut(&self.number) {
            half_open.owner = owner(peer);
        }
    }

    /// The result of `handshake`, during which this is half-open; none where
    /// it had to make room for a newer one. Afterwards it makes room for
    /// nobody.
    pub(crate) async fn hold<H: Future>(&self, handshake: H) -> Option<H::Output> {
        let held = self.ends.run_until_cancelled(handshake).await;
        self.of.open().remove(&self.number);
        held
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.of.open().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        net::{Ipv4Addr, Ipv6Addr},
        time::Duration,
    };

    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    const WEB: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test]
    async fn the_oldest_that_is_half_open_makes_room() {
        let handshakes = Handshakes::new(2);
        let (first, second) = (handshakes.slot(WEB).await, handshakes.slot(WEB).await);
        let first = tokio::spawn(async move { first.hold(pending::<()>()).await });
        let second = tokio::spawn(async move {
            let held = second.hold(pending::<()>()).await;
            (second, held)
        });
        tokio::task::yield_now().await;
        let third = handshakes.slot(WEB).await;
        assert_eq!(first.await.unwrap(), None);
        assert_eq!(third.hold(async { 3 }).await, Some(3));
        assert!(!second.is_finished());
        // Of the second, which is half-open, and the third, which is not, the
        // second goes.
        let (fourth, (second, held)) =
            tokio::join!(async { timeout(Duration::from_millis(100), handshakes.slot(WEB)).await }, async {
                second.await.unwrap()
            });
        assert!(held.is_none());
        // It still held its room while this was asked for.
        assert!(fourth.is_err());
        drop(second);
        handshakes.slot(WEB).await;
    }

    #[tokio::test]
    async fn the_address_that_holds_most_makes_room() {
        let ipv6 = |network, host| Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into();
        let handshakes = Handshakes::new(4);
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
            let slot = handshakes.slot(peer).await;
            held.spawn(async move { slot.hold(pending::<()>()).await.map_or(name, |()| "nobody") });
            if goes.is_some() {
                assert_eq!(held.join_next().await.map(Result::unwrap), goes);
            }
            tokio::task::yield_now().await;
            assert!(held.try_join_next().is_none());
        }
    }

    #[tokio::test]
    async fn behind_a_proxy_the_client_that_holds_most_makes_room() {
        let ipv4 = |host| IpAddr::from([198, 51, 100, host]);
        let handshakes = Handshakes::new(3);
        let mut held = JoinSet::new();
        for (client, goes) in [(1, None), (2, None), (2, None), (3, Some(2))] {
            let slot = handshakes.slot(WEB).await;
            slot.is_of(ipv4(client));
            held.spawn(async move { slot.hold(pending::<()>()).await.map_or(client, |()| 0) });
            if goes.is_some() {
                assert_eq!(held.join_next().await.map(Result::unwrap), goes);
            }
            tokio::task::yield_now().await;
        }
        assert!(held.try_join_next().is_none());
    }

    #[tokio::test]
    async fn who_has_finished_makes_room_for_nobody() {
        let handshakes = Handshakes::new(1);
        let slot = handshakes.slot(WEB).await;
        assert_eq!(slot.hold(async { 1 }).await, Some(1));
        assert!(timeout(Duration::from_millis(50), handshakes.slot(WEB)).await.is_err());
        drop(slot);
        handshakes.slot(WEB).await;
    }
}
