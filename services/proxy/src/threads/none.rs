//! In a simulation, sessions are carried on its one thread.

use std::{io, sync::Arc};

use runtime::drain::Drain;
use transport::Sockets;

use crate::server::Server;

/// There are none.
#[derive(Debug)]
pub(crate) struct Threads;

impl Threads {
    /// Accepts from `sockets` until the drain starts.
    ///
    /// # Errors
    /// The network's.
    pub(crate) fn start(server: &Arc<Server>, sockets: &Sockets, drain: &Drain) -> io::Result<Self> {
        let listeners = sockets.listeners()?;
        let server = Arc::clone(server);
        // The drain waits for it.
        drain.tracker().spawn(server.serve(listeners));
        Ok(Self)
    }

    #[allow(clippy::unused_self, reason = "as with threads")]
    pub(crate) fn join(self) {}
}
