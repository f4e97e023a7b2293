//! Ending without losing what is under way: a signal starts the drain, work ends by itself or is cut at a bound.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The owner's side of a drain: it starts it and waits for the tasks.
#[derive(Debug, Default)]
pub struct Drain {
    watch: DrainWatch,

    /// Everything that a drain waits for.
    tasks: TaskTracker,

    /// The task that waits to be asked; none where only [`Drain::start`] starts the drain.
    asking: Option<JoinHandle<()>>,
}

/// The workers' side of a drain. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DrainWatch {
    started: CancellationToken,
    cut: CancellationToken,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drained {
    /// All tasks ended by themselves.
    Whole,

    /// This many tasks were still at work at the bound, and were told to end at once.
    Cut(usize),
}

// === impl Drain ===

impl Drain {
    /// A drain that only [`Drain::start`] or [`Drain::finish`] starts.
    pub fn new() -> Drain {
        Drain::default()
    }

    /// A drain that starts when `asked` is done. Must be called within a tokio runtime.
    pub fn when(asked: impl Future<Output = ()> + Send + 'static) -> Drain {
        let watch = DrainWatch::default();
        let started = watch.started.clone();
        let asking = tokio::spawn(async move {
            asked.await;
            started.cancel();
        });
        Drain { watch, tasks: TaskTracker::new(), asking: Some(asking) }
    }

    /// A drain that SIGTERM or SIGINT starts; a second one ends the process at once with status 128 + signal.
    /// SIGHUP drains a program that runs on a terminal, as the terminal goes away then, and is ignored elsewhere.
    ///
    /// Must be called within a tokio runtime. Fails where a signal handler cannot be installed.
    pub fn on_signals() -> io::Result<Drain> {
        let watch = DrainWatch::default();
        let mut signals = Signals::install()?;
        let started = watch.started.clone();
        let signals = tokio::spawn(async move {
            let first = signals.next().await;
            tracing::info!(signal = first.name, "draining; a second signal ends at once");
            started.cancel();
            let second = signals.next().await;
            tracing::warn!(signal = second.name, "ended at once");
            std::process::exit(128 + second.kind.as_raw_value());
        });
        Ok(Drain { watch, tasks: TaskTracker::new(), asking: Some(signals) })
    }

    /// What a worker watches.
    pub fn watch(&self) -> DrainWatch {
        self.watch.clone()
    }

    /// Where tasks are spawned that a drain waits for. A task that never ends by itself must watch
    /// [`DrainWatch::cut`].
    pub fn tracker(&self) -> TaskTracker {
        self.tasks.clone()
    }

    /// Starts the drain, as a signal would.
    pub fn start(&self) {
        self.watch.started.cancel();
    }

    /// Starts the drain if no signal has, waits at most `bound` for the tracked tasks, then cuts the rest short and
    /// waits until they have ended. A second signal ends the wait together with the process.
    pub async fn finish(self, bound: Duration) -> Drained {
        self.start();
        self.tasks.close();
        let drained = match tokio::time::timeout(bound, self.tasks.wait()).await {
            Ok(()) => Drained::Whole,
            Err(_) => {
                let left = self.tasks.len();
                self.watch.cut.cancel();
                self.tasks.wait().await;
                Drained::Cut(left)
            }
        };
        if let Some(asking) = self.asking {
            asking.abort();
        }
        drained
    }
}

// === impl DrainWatch ===

impl DrainWatch {
    /// Waits until the drain has started: accept nothing new, bring to an end what is under way.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Whether the drain has started.
    pub fn is_started(&self) -> bool {
        self.started.is_cancelled()
    }

    /// Waits until the drain's bound is reached: end at once.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// `work`'s result, or none when the drain's bound is reached first; `work` is dropped then.
    pub async fn unless_cut<W: Future>(&self, work: W) -> Option<W::Output> {
        self.cut.run_until_cancelled(pin!(work)).await
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,

    /// Whether SIGHUP means that the program's terminal went away.
    on_terminal: bool,
}

struct Received {
    name: &'static str,
    kind: SignalKind,
}

// === impl Signals ===

impl Signals {
    fn install() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            on_terminal: io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Received {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Received { name: "SIGTERM", kind: SignalKind::terminate() },
                _ = self.interrupt.recv() => return Received { name: "SIGINT", kind: SignalKind::interrupt() },
                _ = self.hangup.recv() => {
                    if self.on_terminal {
                        return Received { name: "SIGHUP", kind: SignalKind::hangup() };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_starts_the_drain() {
        let drain = Drain::on_signals().unwrap();
        let watch = drain.watch();
        assert!(!watch.is_started());
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        watch.started().await;
        assert!(watch.is_started());
        assert_eq!(drain.finish(Duration::from_secs(1)).await, Drained::Whole);
    }

    #[tokio::test]
    async fn what_was_waited_for_starts_the_drain() {
        let (ask, asked) = tokio::sync::oneshot::channel::<()>();
        let drain = Drain::when(async { _ = asked.await });
        let watch = drain.watch();
        assert!(!watch.is_started());
        drop(ask);
        watch.started().await;
        assert_eq!(drain.finish(Duration::from_secs(1)).await, Drained::Whole);
    }

    #[tokio::test]
    async fn work_that_ends_within_the_bound_is_not_cut() {
        let drain = Drain::new();
        let watch = drain.watch();
        let task = drain.tracker().spawn(async move {
            watch.started().await;
            "done"
        });
        assert_eq!(drain.finish(Duration::from_secs(60)).await, Drained::Whole);
        assert_eq!(task.await.unwrap(), "done");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_goes_on_is_cut_at_the_bound() {
        let drain = Drain::new();
        let watch = drain.watch();
        let task = drain.tracker().spawn(async move { watch.unless_cut(std::future::pending::<()>()).await });
        assert_eq!(drain.finish(Duration::from_secs(60)).await, Drained::Cut(1));
        assert_eq!(task.await.unwrap(), None);
    }
}
