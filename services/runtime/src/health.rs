//! What a service says of itself: named checks, each answered by who knows.
//!
//! There is one place for it, [`Health`]: the HTTP endpoint, metrics and whatever else asks read the same state.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::drain::DrainWatch;

/// The checks of a service, of which `draining` is always the last. Cheap to clone; the clones have the same checks.
#[derive(Clone)]
pub struct Health {
    checks: Arc<Mutex<Vec<Named>>>,
    drain: DrainWatch,
}

/// One check, in the hands of who knows: red until [`Check::passes`] is called. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Check(Arc<State>);

/// What one check says. A reason is one line, without secrets: whoever reaches the endpoint can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The name of the check.
    pub name: &'static str,

    /// Whether it passes, and why not.
    pub result: Result<(), String>,
}

struct Named {
    name: &'static str,
    ask: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

#[derive(Debug)]
struct State {
    name: &'static str,

    /// None until something is known.
    result: Mutex<Option<Result<(), String>>>,

    /// Once it has started, changes are no news.
    drain: DrainWatch,
}

// === impl Health ===

impl Health {
    /// Without checks but `draining`, which turns red when the drain starts.
    pub fn new(drain: DrainWatch) -> Health {
        Health { checks: Arc::default(), drain }
    }

    /// A check that is told what it says.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check(Arc::new(State { name, result: Mutex::default(), drain: self.drain.clone() }));
        let state = Arc::clone(&check.0);
        self.ask(name, move || state.result().clone().unwrap_or_else(|| Err("not known yet".to_owned())));
        check
    }

    /// A check that asks who knows, each time. `ask` must not block.
    pub fn ask(&self, name: &'static str, ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.checks().push(Named { name, ask: Box::new(ask) });
    }

    /// What all checks say now.
    pub fn standings(&self) -> Vec<Standing> {
        let standing = |check: &Named| Standing { name: check.name, result: (check.ask)() };
        let mut standings: Vec<_> = self.checks().iter().map(standing).collect();
        let ending = self.drain.is_started().then(|| "the service is ending".to_owned());
        standings.push(Standing { name: "draining", result: ending.map_or(Ok(()), Err) });
        standings
    }

    fn checks(&self) -> MutexGuard<'_, Vec<Named>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.checks().iter().map(|check| check.name)).finish()
    }
}

// === impl Check ===

impl Check {
    /// It is well from now on.
    pub fn passes(&self) {
        self.says(Ok(()));
    }

    /// It is not, for this reason.
    pub fn fails(&self, why: impl Into<String>) {
        self.says(Err(why.into()));
    }

    /// What was found out. A change is logged.
    pub fn says(&self, result: Result<(), String>) {
        let mut known = self.0.result();
        match (&*known, &result) {
            _ if self.0.drain.is_started() => {}
            (Some(Ok(())) | None, Err(why)) => tracing::warn!(check = self.0.name, "not ready: {why}"),
            (Some(Err(_)), Ok(())) => tracing::info!(check = self.0.name, "ready again"),
            _ => {}
        }
        *known = Some(result);
    }

    /// Finds out by `probe`, again `every` so often, for as long as the returned handle is held. A probe that does not
    /// end within `patience` fails the check, and is not begun again until it has ended: one that hangs holds one
    /// thread at most. Must be called within a tokio runtime.
    pub fn probe<P>(
        self,
        every: Duration,
        patience: Duration,
        probe: impl Fn() -> P + Send + 'static,
    ) -> AbortOnDropHandle<()>
    where
        P: Future<Output = Result<(), String>> + Send,
    {
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let mut probing = pin!(probe());
                let result = match timeout(patience, &mut probing).await {
                    Ok(result) => result,
                    Err(_) => {
                        self.fails(format!("does not answer within {} s", patience.as_secs()));
                        probing.await
                    }
                };
                self.says(result);
                sleep(every).await;
            }
        }))
    }
}

impl State {
    fn result(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::*;
    use crate::drain::Drain;

    const SECOND: Duration = Duration::from_secs(1);

    fn said(health: &Health) -> Vec<(&'static str, Result<(), String>)> {
        health.standings().into_iter().map(|standing| (standing.name, standing.result)).collect()
    }

    #[test]
    fn a_check_is_red_until_something_is_known() {
        let drain = Drain::new();
        let health = Health::new(drain.watch());
        let spool = health.check("spool");
        health.ask("certificates", || Ok(()));
        let last = ("draining", Ok(()));
        let rest = [("certificates", Ok(())), last.clone()];
        assert_eq!(said(&health)[0], ("spool", Err("not known yet".to_owned())));
        assert_eq!(said(&health)[1..], rest);
        spool.passes();
        assert_eq!(said(&health)[0], ("spool", Ok(())));
        spool.clone().fails("full");
        assert_eq!(said(&health)[0], ("spool", Err("full".to_owned())));
        drain.start();
        assert_eq!(said(&health)[2], ("draining", Err("the service is ending".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_is_red_and_is_not_begun_again() {
        let health = Health::new(DrainWatch::default());
        let (begun, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let counted = (Arc::clone(&begun), Arc::clone(&goes_on));
        let _probing = health.check("spool").probe(SECOND, 5 * SECOND, move || {
            let (begun, goes_on) = counted.clone();
            async move {
                if begun.fetch_add(1, Relaxed) == 1 {
                    goes_on.notified().await;
                }
                Ok(())
            }
        });
        sleep(SECOND / 2).await;
        assert_eq!(said(&health)[0].1, Ok(()));
        sleep(60 * SECOND).await;
        assert_eq!(said(&health)[0].1, Err("does not answer within 5 s".to_owned()));
        assert_eq!(begun.load(Relaxed), 2);
        goes_on.notify_one();
        sleep(2 * SECOND).await;
        assert_eq!(said(&health)[0].1, Ok(()));
        assert!(begun.load(Relaxed) > 2);
    }
}
