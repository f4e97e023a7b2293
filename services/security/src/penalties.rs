//! What a wrong password costs.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

/// Delays for addresses that wrong passwords come from, longer each time.
///
/// A right password is never delayed, as many agents may stand behind one
/// address, and it clears nothing: who knows one must not guess another
/// faster.
#[derive(Debug)]
pub struct Penalties {
    failures: Mutex<LruCache<IpAddr, Failures>>,
    /// A permit a connection that is delayed.
    waiting: Arc<Semaphore>,
}

/// A connection's delay; it counts as delayed until this is dropped.
#[derive(Debug)]
pub struct Delay {
    duration: Duration,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

// === impl Penalties ===

impl Penalties {
    /// Counts a wrong password. The delay of the connection that it came by;
    /// none where so many are delayed that this one has to go at once.
    pub fn wrong_password(&self, peer: IpAddr) -> Option<Delay> {
        let (peer, now) = (owner(peer), Instant::now());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failures.get(&peer).filter(|failures| now - failures.last < FORGOTTEN);
        let count = before.map_or(0, |failures| failures.count).saturating_add(1);
        failures.put(peer, Failures { count, last: now });
        let permit = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        let factor = 1_u32 << (count - 1).min(16);
        Some(Delay { duration: FIRST.saturating_mul(factor).min(LONGEST), _permit: permit })
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self { failures: Mutex::new(LruCache::new(ADDRESSES)), waiting: Arc::new(Semaphore::new(WAITING)) }
    }
}

// === impl Delay ===

impl Delay {
    /// Waits.
    pub async fn serve(self) {
        sleep(self.duration).await;
    }
}

/// What counts as one address: a household has all of an IPv6 /64 (RFC 6177).
pub(crate) fn owner(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

const FIRST: Duration = Duration::from_millis(250);

const LONGEST: Duration = Duration::from_secs(8);

/// After so long without a wrong password, an address begins anew.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Addresses that are remembered: those that failed last.
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// Connections that are delayed at once.
const WAITING: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(penalties: &Penalties, peer: &str, count: usize) -> Vec<u128> {
        let delay = |_| penalties.wrong_password(peer.parse().unwrap()).unwrap().duration.as_millis();
        (0..count).map(delay).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wrong_password_of_an_address_costs_more_up_to_a_bound() {
        let penalties = Penalties::default();
        assert_eq!(delays(&penalties, "192.0.2.1", 8), [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(delays(&penalties, "192.0.2.2", 1), [250], "another address begins anew");
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(delays(&penalties, "192.0.2.1", 1), [250]);
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_address() {
        let penalties = Penalties::default();
        assert_eq!(delays(&penalties, "2001:db8::1", 1), [250]);
        assert_eq!(delays(&penalties, "2001:db8::ffff", 1), [500]);
        assert_eq!(delays(&penalties, "2001:db8:0:1::1", 1), [250]);
        assert_eq!(delays(&penalties, "::ffff:192.0.2.1", 1), [250]);
        assert_eq!(delays(&penalties, "192.0.2.1", 1), [500]);
    }

    #[tokio::test]
    async fn memory_and_waiting_are_bounded() {
        let penalties = Penalties::default();
        let mut held = Vec::new();
        for number in 0..10_000_u32 {
            held.extend(penalties.wrong_password(IpAddr::from(number.to_be_bytes())));
        }
        assert_eq!(held.len(), WAITING);
        assert_eq!(penalties.failures.lock().unwrap().len(), 4096);
    }
}
