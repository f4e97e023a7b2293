//! The threads that carry sessions: one for each CPU, each with a runtime of
//! its own. A session stays where it was accepted, so that what comes on one
//! of its sockets wakes no other thread.

use std::{io, sync::Arc, thread, time::Duration};

use runtime::drain::Drain;
use tokio::time::sleep;
use transport::Sockets;

use crate::server::Server;

/// They end with the drain's last session.
#[derive(Debug)]
pub(crate) struct Threads(Vec<thread::JoinHandle<()>>);

// === impl Threads ===

impl Threads {
    /// Has each of them accept from `sockets` until the drain starts.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(server: &Arc<Server>, sockets: &Sockets, drain: &Drain) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, |count| count.get());
        let start = |_| {
            let runtime = runtime::thread()?;
            let (server, sessions) = (Arc::clone(server), drain.tracker());
            // From here on the drain waits for it.
            let accepting = sessions.token();
            let entered = runtime.enter();
            let listeners = sockets.listeners()?;
            drop(entered);
            thread::Builder::new().name("sessions".to_owned()).spawn(move || {
                runtime.block_on(async move {
                    let _beating = tokio::spawn(beat());
                    server.serve(listeners).await;
                    drop(accepting);
                    sessions.wait().await;
                });
            })
        };
        Ok(Self((0..count).map(start).collect::<io::Result<_>>()?))
    }

    /// Waits until all have ended.
    pub(crate) fn join(self) {
        for thread in self.0 {
            // Who panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A timer that is due before all others makes tokio wake its thread once
/// more, by two calls of the system. With one that is always due soon, the
/// timers of sessions cost nothing.
async fn beat() {
    loop {
        sleep(BEAT).await;
    }
}

/// Shorter than what sessions wait for.
const BEAT: Duration = Duration::from_millis(400);
