//! Accepts connections and gives each a session, until the service ends.

use std::{convert::Infallible, future::poll_fn, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use runtime::drain::{Drain, DrainWatch, Drained};
use security::Acceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;

use crate::{session::Session, site::Site};

/// What accepts.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    acceptor: Acceptor,
    /// A permit a connection. Without one, the next waits in the system's
    /// queue of the listening socket.
    permits: Arc<Semaphore>,
    drain: DrainWatch,
    sessions: TaskTracker,
}

impl Server {
    pub(crate) fn new(site: Site, acceptor: Acceptor, max_connections: usize, drain: &Drain) -> Arc<Self> {
        Arc::new(Self {
            site: Arc::new(site),
            acceptor,
            permits: Arc::new(Semaphore::new(max_connections)),
            drain: drain.watch(),
            sessions: drain.tracker(),
        })
    }

    /// Serves all of `listeners` until the drain starts.
    pub(crate) async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>) {
        let drain = self.drain.clone();
        tokio::select! {
            () = drain.started() => {}
            never = self.accept(listeners) => match never {},
        }
    }

    /// All listeners in one loop: a loop for each would hold a permit for
    /// each, and leave none for the one where somebody waits.
    async fn accept(self: Arc<Self>, mut listeners: Vec<TcpListener>) -> Infallible {
        loop {
            let permit = match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    tracing::warn!("all connections are in use (-c): the next one waits until one ends");
                    Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
                }
            };
            match next(&mut listeners).await {
                Ok((stream, peer)) => {
                    tracing::info!(%peer, "connection accepted");
                    let server = Arc::clone(&self);
                    self.sessions.spawn(async move {
                        server.session(stream, peer).await;
                        drop(permit);
                    });
                }
                // The peer left while it waited.
                Err(error) if is_the_peers(&error) => {
                    tracing::debug!(%error, "connection gone before it was accepted")
                }
                // Out of descriptors or memory: what runs may end and give some back.
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn session(&self, stream: TcpStream, peer: SocketAddr) {
        // Replies are small and are waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection gone before it was served");
            return;
        }
        let work = async {
            match self.acceptor.accept(stream).await {
                Ok(stream) => {
                    Session::new(stream, peer, Arc::clone(&self.site), self.drain.clone()).run().await
                }
                Err(error) => tracing::warn!(%peer, %error, "connection closed"),
            }
        };
        if self.drain.unless_cut(work).await.is_none() {
            tracing::warn!(%peer, "connection cut: the service ends");
        }
    }
}

/// The next connection of any listener; who gave one comes last the next time.
async fn next(listeners: &mut [TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        for at in 0..listeners.len() {
            if let Poll::Ready(accepted) = listeners[at].poll_accept(context) {
                listeners.rotate_left(at + 1);
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Ends what `drain` holds within `bound`, and says how that went.
pub(crate) async fn end(drain: Drain, bound: Duration) {
    match drain.finish(bound).await {
        Drained::Whole => tracing::info!("ended"),
        Drained::Cut(connections) => tracing::warn!(connections, "ended, with transfers cut"),
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
