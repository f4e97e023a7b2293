//! Handshakes under way, bounded so that half-open ones keep nobody out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Room for handshakes. When all of it is taken, the one that has been
/// half-open for longest ends, to make room for the next: who finishes its
/// handshake at once is not kept out by others who never do.
#[derive(Debug)]
pub struct Handshakes {
    slots: Arc<Semaphore>,
    /// Those that are half-open, the oldest first.
    open: Mutex<BTreeMap<u64, CancellationToken>>,
    count: AtomicU64,
}

/// One handshake's room; given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Handshakes>,
    number: u64,
    ends: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

// === impl Handshakes ===

impl Handshakes {
    /// Room for `most` at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(most)),
            open: Mutex::default(),
            count: AtomicU64::new(0),
        })
    }

    /// Room for a connection that is there. Waits only while all who have
    /// room have finished their handshakes, and wait for something else.
    pub async fn slot(self: &Arc<Self>) -> Slot {
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if let Some((_, oldest)) = self.open().pop_first() {
                    oldest.cancel();
                }
                Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        let (number, ends) = (self.count.fetch_add(1, Relaxed), CancellationToken::new());
        self.open().insert(number, ends.clone());
        Slot { of: Arc::clone(self), number, ends, _permit: permit }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slot ===

impl Slot {
    /// The result of `handshake`, during which this is half-open; none where
    /// it had to make room for a newer one. Afterwards it makes room for
    /// nobody.
    pub async fn hold<H: Future>(&self, handshake: H) -> Option<H::Output> {
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
    use std::{future::pending, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_oldest_that_is_half_open_makes_room() {
        let handshakes = Handshakes::new(2);
        let (first, second) = (handshakes.slot().await, handshakes.slot().await);
        let first = tokio::spawn(async move { first.hold(pending::<()>()).await });
        let second = tokio::spawn(async move {
            let held = second.hold(pending::<()>()).await;
            (second, held)
        });
        tokio::task::yield_now().await;
        let third = handshakes.slot().await;
        assert_eq!(first.await.unwrap(), None);
        assert_eq!(third.hold(async { 3 }).await, Some(3));
        assert!(!second.is_finished());
        // Of the second, which is half-open, and the third, which is not, the
        // second goes.
        let (fourth, (second, held)) =
            tokio::join!(async { timeout(Duration::from_millis(100), handshakes.slot()).await }, async {
                second.await.unwrap()
            });
        assert!(held.is_none());
        // It still held its room while this was asked for.
        assert!(fourth.is_err());
        drop(second);
        handshakes.slot().await;
    }

    #[tokio::test]
    async fn who_has_finished_makes_room_for_nobody() {
        let handshakes = Handshakes::new(1);
        let slot = handshakes.slot().await;
        assert_eq!(slot.hold(async { 1 }).await, Some(1));
        assert!(timeout(Duration::from_millis(50), handshakes.slot()).await.is_err());
        drop(slot);
        handshakes.slot().await;
    }
}
