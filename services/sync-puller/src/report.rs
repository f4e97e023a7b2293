//! How it stands with a source, for whoever shows it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

/// What the pulling of a source writes, and who shows it reads. Cheap to
/// clone: the clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Report(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// By buffer, as log lines call them.
    buffers: Mutex<BTreeMap<String, Buffer>>,
    standing: watch::Sender<Standing>,
}

/// How it stands with a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// When the last round of any of its buffers ended well.
    pub(crate) last_success: Option<SystemTime>,
    /// Files that are listed and not fetched.
    pub(crate) backlog: u64,
    /// Fetched since this process pulls it.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// What is being done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not pulled by this process.
    #[default]
    Idle,
    /// It is pulled, and no round has ended yet.
    Begun,
    /// The last round of each of its buffers ended well.
    Well,
    /// The last round of one of its buffers failed, for this reason.
    Failing(String),
}

/// What the last round of a buffer came to.
#[derive(Debug, Default)]
struct Buffer {
    backlog: u64,
    failure: Option<String>,
}

// === impl Report ===

impl Default for Report {
    fn default() -> Self {
        Self(Arc::new(Inner { buffers: Mutex::default(), standing: watch::Sender::default() }))
    }
}

impl Report {
    /// Whether it is the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// To be told of each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }

    /// Its pulling has begun.
    pub(crate) fn begun(&self) {
        self.0.standing.send_modify(|standing| standing.state = State::Begun);
    }

    /// It is pulled here no more.
    pub(crate) fn ended(&self) {
        self.buffers(BTreeMap::clear);
        self.0.standing.send_modify(|standing| standing.state = State::Idle);
    }

    /// It cannot be pulled at all.
    pub(crate) fn failed(&self, why: String) {
        self.0.standing.send_modify(|standing| standing.state = State::Failing(why));
    }

    /// A round of one of its buffers has brought so much, and left so many
    /// names there.
    pub(crate) fn round(&self, buffer: &str, (files, bytes): (u64, u64), left: u64, failure: Option<String>) {
        let well = failure.is_none();
        let (backlog, state) = self.buffers(|buffers| {
            let entry = buffers.entry(buffer.to_owned()).or_default();
            // What is left is not known after a failure.
            entry.backlog = if well { left } else { entry.backlog };
            entry.failure = failure;
            let state = match buffers.values().find_map(|buffer| buffer.failure.clone()) {
                Some(why) => State::Failing(why),
                None => State::Well,
            };
            (buffers.values().map(|buffer| buffer.backlog).sum(), state)
        });
        self.0.standing.send_modify(|standing| {
            standing.state = state;
            standing.backlog = backlog;
            standing.files += files;
            standing.bytes += bytes;
            if well {
                standing.last_success = Some(SystemTime::now());
            }
        });
    }

    /// The source's name does not stand for that buffer any more.
    pub(crate) fn gone(&self, buffer: &str) {
        self.buffers(|buffers| buffers.remove(buffer));
    }

    fn buffers<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Buffer>) -> T) -> T {
        work(&mut self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_buffer_shows_until_it_is_well_or_gone() {
        let report = Report::default();
        let watch = report.watch();
        report.begun();
        report.round("a", (3, 30), 2, None);
        report.round("b", (1, 10), 0, Some("refused".to_owned()));
        report.round("a", (1, 10), 1, None);
        let standing = watch.borrow().clone();
        assert_eq!((standing.files, standing.bytes, standing.backlog), (5, 50, 1));
        assert_eq!(standing.state, State::Failing("refused".to_owned()));
        report.gone("b");
        report.round("a", (0, 0), 0, None);
        assert_eq!(watch.borrow().state, State::Well);
        report.ended();
        assert_eq!(watch.borrow().state, State::Idle);
    }
}
