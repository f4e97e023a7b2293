//! Which of several servers may have a file that its source still has.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use protocol::FileName;

/// The files of one source that were offered to a server and that the source
/// has not been seen to forget. They go to no other server: a file that two
/// have is read twice. Cheap to clone; the clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubts(Arc<Mutex<HashMap<FileName, Doubt>>>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// By number.
    pub(super) server: usize,
    pub(super) since: Instant,
}

impl Doubts {
    pub(super) fn of(&self, name: &FileName) -> Option<Doubt> {
        self.all().get(name).copied()
    }

    /// This server may have it from now on.
    pub(super) fn offered(&self, name: &FileName, server: usize) {
        let mut all = self.all();
        if all.len() < MOST || all.contains_key(name) {
            all.insert(name.clone(), Doubt { server, since: Instant::now() });
        }
    }

    /// The source has forgotten it, or the server does not have it.
    pub(crate) fn settled(&self, name: &FileName) {
        self.all().remove(name);
    }

    /// What the source does not list any more is no longer in doubt.
    pub(crate) fn keep<'a>(&self, listed: impl Iterator<Item = &'a FileName>) {
        let mut all = self.all();
        if !all.is_empty() {
            let listed: HashSet<_> = listed.collect();
            all.retain(|name, _| listed.contains(name));
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<FileName, Doubt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two for each connection that was lost, as a rule.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use protocol::NameRules;

    use super::*;

    #[test]
    fn what_is_settled_or_gone_from_the_source_is_forgotten() {
        let [a, b, c] = ["a", "b", "c"].map(|name| NameRules::default().check(name.as_bytes()).unwrap());
        let doubts = Doubts::default();
        for (server, name) in [&a, &b, &c].into_iter().enumerate() {
            doubts.offered(name, server);
        }
        doubts.settled(&b);
        doubts.keep([&a, &b].into_iter());
        assert_eq!(doubts.of(&a).map(|doubt| doubt.server), Some(0));
        assert!(doubts.of(&b).is_none() && doubts.of(&c).is_none());
    }
}
