//! What wrong passwords cost.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

/// Delays the answers to passwords from addresses that wrong ones come from.
///
/// The delay is before the answer and the same for a right password and a
/// wrong one, so that who guesses gains nothing by leaving early. Few wait at
/// once, so that he gains nothing by more connections. Right passwords undo
/// wrong ones, as many agents may stand behind one address.
#[derive(Debug)]
pub struct Penalties {
    failures: Mutex<LruCache<IpAddr, Failures>>,
    longest: Duration,
}

/// A password gets no answer.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("wrong passwords came from its address, and others from there wait for their answers already")]
pub struct TooManyWait;

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// A permit an answer that is delayed.
    waiting: Arc<Semaphore>,
}

// === impl Penalties ===

impl Penalties {
    /// For a server with this deadline. A client is likely to have the same
    /// one, so that an answer has to come well within it.
    pub fn new(deadline: Duration) -> Self {
        Self { failures: Mutex::new(LruCache::new(ADDRESSES)), longest: LONGEST.min(deadline / 4) }
    }

    /// Waits for as long as a password from `peer` has to, at most 1 s and a
    /// quarter of the deadline. To be called before the password is looked
    /// at.
    ///
    /// # Errors
    /// [`TooManyWait`], at once: the password must not be looked at.
    pub async fn wait(&self, peer: IpAddr) -> Result<(), TooManyWait> {
        let Some((delay, waiting)) = self.due(peer) else { return Ok(()) };
        let _permit = waiting.try_acquire().map_err(|_| TooManyWait)?;
        sleep(delay).await;
        Ok(())
    }

    fn due(&self, peer: IpAddr) -> Option<(Duration, Arc<Semaphore>)> {
        let mut failures = self.failures();
        let failures = failures.get(&owner(peer))?;
        let factor = 1 << failures.recent().checked_sub(FREE)?;
        Some((FIRST.saturating_mul(factor).min(self.longest), Arc::clone(&failures.waiting)))
    }

    /// Counts a wrong password.
    pub fn wrong_password(&self, peer: IpAddr) {
        let mut failures = self.failures();
        let failures = failures.get_or_insert_mut(owner(peer), Failures::none);
        failures.count = (failures.recent() + 1).min(COUNTED);
        failures.last = Instant::now();
    }

    /// Halves the count.
    pub fn right_password(&self, peer: IpAddr) {
        if let Some(failures) = self.failures().get_mut(&owner(peer)) {
            failures.count /= 2;
        }
    }

    fn failures(&self) -> MutexGuard<'_, LruCache<IpAddr, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Failures ===

impl Failures {
    fn none() -> Self {
        Self { count: 0, last: Instant::now(), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    fn recent(&self) -> u32 {
        if self.last.elapsed() < FORGOTTEN { self.count } else { 0 }
    }
}

/// What counts as one address: a household has all of an IPv6 /64 (RFC 6177).
pub(crate) fn owner(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Wrong passwords that cost nothing: people mistype.
const FREE: u32 = 3;

const FIRST: Duration = Duration::from_millis(250);

const LONGEST: Duration = Duration::from_secs(1);

/// Wrong passwords that are counted: few enough that two right ones end the
/// delays.
const COUNTED: u32 = 6;

/// After so long without a wrong password, an address begins anew.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Addresses that are remembered: those that failed last.
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// Answers that are delayed at once, for each address.
const WAITING: usize = 4;

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How long a password from there waits, in milliseconds.
    async fn waits(penalties: &Penalties, peer: &str) -> u128 {
        let began = Instant::now();
        penalties.wait(address(peer)).await.unwrap();
        began.elapsed().as_millis()
    }

    async fn guesses(penalties: &Penalties, peer: &str, count: usize) -> Vec<u128> {
        let mut delays = Vec::new();
        for _ in 0..count {
            delays.push(waits(penalties, peer).await);
            penalties.wrong_password(address(peer));
        }
        delays
    }

    fn penalties() -> Penalties {
        Penalties::new(Duration::from_secs(4))
    }

    #[tokio::test(start_paused = true)]
    async fn each_wrong_password_of_an_address_costs_more_up_to_a_bound() {
        let penalties = penalties();
        assert_eq!(guesses(&penalties, "192.0.2.1", 8).await, [0, 0, 0, 250, 500, 1000, 1000, 1000]);
        assert_eq!(waits(&penalties, "192.0.2.2").await, 0, "another address");
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(guesses(&penalties, "192.0.2.1", 4).await, [0, 0, 0, 250]);
        // A client with the same deadline must see its answer.
        let short = Penalties::new(Duration::from_secs(1));
        assert_eq!(guesses(&short, "192.0.2.1", 6).await, [0, 0, 0, 250, 250, 250]);
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_undo_wrong_ones() {
        let penalties = penalties();
        guesses(&penalties, "192.0.2.1", 100).await;
        let mut delays = Vec::new();
        for _ in 0..3 {
            delays.push(waits(&penalties, "192.0.2.1").await);
            penalties.right_password(address("192.0.2.1"));
        }
        assert_eq!(delays, [1000, 250, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_address() {
        let penalties = penalties();
        guesses(&penalties, "2001:db8::1", 3).await;
        assert_eq!(waits(&penalties, "2001:db8::ffff").await, 250);
        assert_eq!(waits(&penalties, "2001:db8:0:1::1").await, 0);
        guesses(&penalties, "::ffff:192.0.2.1", 3).await;
        assert_eq!(waits(&penalties, "192.0.2.1").await, 250);
    }

    #[tokio::test(start_paused = true)]
    async fn more_connections_are_no_faster_and_hold_up_nobody_else() {
        let penalties = Arc::new(penalties());
        guesses(&penalties, "192.0.2.1", 10).await;
        let mut waiting = JoinSet::new();
        for _ in 0..100 {
            let penalties = Arc::clone(&penalties);
            waiting.spawn(async move { penalties.wait(address("192.0.2.1")).await });
        }
        tokio::task::yield_now().await;
        guesses(&penalties, "192.0.2.2", 3).await;
        assert_eq!(waits(&penalties, "192.0.2.2").await, 250, "another address has room of its own");
        let answered = waiting.join_all().await.into_iter().filter(Result::is_ok).count();
        assert_eq!(answered, 4);
        // The room comes back.
        assert_eq!(waits(&penalties, "192.0.2.1").await, 1000);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let penalties = penalties();
        for number in 0..10_000_u32 {
            penalties.wrong_password(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(penalties.failures().len(), 4096);
    }
}
