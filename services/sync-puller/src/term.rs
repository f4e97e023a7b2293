//! How long this process may pull a source.
//!
//! Who shares sources with other processes has each for a term, which must be
//! extended before it is over. It may be asked back; then no further file is
//! begun, and who asked waits until nothing is under way.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The right to pull. Cheap to clone: the clones are the same term, and it is
/// vacated when all of them are gone.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    ending: CancellationToken,
    until: Arc<Until>,
    /// Never sent to: its end is what shows.
    _kept: mpsc::Sender<Infallible>,
}

/// The side that gives a term.
#[derive(Debug)]
pub(crate) struct Tenure {
    ending: CancellationToken,
    until: Arc<Until>,
    kept: mpsc::Receiver<Infallible>,
}

/// A time of this machine's clock that goes on while it sleeps, and that
/// nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

/// Nanoseconds of [`Moment`].
#[derive(Debug)]
struct Until(AtomicU64);

// === impl Term ===

impl Term {
    /// A term that lasts until `until`, and the side that extends and ends it.
    pub(crate) fn new(until: Moment) -> (Tenure, Self) {
        let (ending, until) =
            (CancellationToken::new(), Arc::new(Until(AtomicU64::new(until.nanoseconds()))));
        let (_kept, kept) = mpsc::channel(1);
        let tenure = Tenure { ending: ending.clone(), until: Arc::clone(&until), kept };
        (tenure, Self { ending, until, _kept })
    }

    /// The same term for one of its sources, which can be told to end by
    /// itself.
    pub(crate) fn part(&self) -> (CancellationToken, Self) {
        let ending = self.ending.child_token();
        (ending.clone(), Self { ending, ..self.clone() })
    }

    /// Whether it is that term, or a part of it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.until, &other.until)
    }

    /// Whether no further file may be begun.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled() || self.is_over()
    }

    /// Waits until it is asked back.
    pub(crate) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// Whether no further command may be given: somebody else may pull now.
    pub(crate) fn is_over(&self) -> bool {
        Moment::now() >= self.until.get()
    }
}

// === impl Tenure ===

impl Tenure {
    /// Lets the term last until `until`.
    pub(crate) fn extend(&self, until: Moment) {
        self.until.0.store(until.nanoseconds(), Relaxed);
    }

    /// Asks for it back.
    pub(crate) fn end(&self) {
        self.ending.cancel();
    }

    /// Waits until each [`Term`] is gone. May be dropped and called again.
    pub(crate) async fn vacated(&mut self) {
        self.kept.recv().await;
    }
}

// === impl Moment ===

impl Moment {
    /// Later than any that comes.
    pub(crate) const NEVER: Self = Self(Duration::from_nanos(u64::MAX));

    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        Self(Duration::try_from(now).expect("the machine was started before now"))
    }

    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long it is after `earlier`; zero where it is not.
    pub(crate) fn after(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    fn nanoseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Until {
    fn get(&self) -> Moment {
        Moment(Duration::from_nanos(self.0.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    async fn is_ready(future: impl Future<Output = ()>) -> bool {
        let mut future = std::pin::pin!(future);
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[test]
    fn a_term_that_is_not_extended_is_over() {
        let (tenure, term) = Term::new(Moment::now());
        assert!(term.is_over() && term.is_ending());
        tenure.extend(Moment::now().plus(Duration::from_secs(600)));
        assert!(!term.is_over() && !term.is_ending());
        tenure.extend(Moment::now());
        assert!(term.part().1.is_over());
    }

    #[tokio::test]
    async fn a_term_is_vacated_when_all_of_its_parts_are_gone() {
        let (mut tenure, term) = Term::new(Moment::NEVER);
        let (first, of_first) = term.part();
        let (_, of_second) = term.part();
        drop(term);
        first.cancel();
        assert!(of_first.is_ending() && !of_second.is_ending(), "each source ends by itself");
        tenure.end();
        assert!(of_second.is_ending() && !of_second.is_over());
        drop(of_first);
        assert!(!is_ready(tenure.vacated()).await);
        drop(of_second);
        assert!(is_ready(tenure.vacated()).await);
    }
}
