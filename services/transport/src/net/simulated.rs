//! A simulated network: what is called here must be called on one of its
//! hosts.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use turmoil::net::TcpListener;
pub use turmoil::net::TcpStream;

/// An address that will be listened on.
#[derive(Debug)]
pub(crate) struct Bound(SocketAddr);

/// A socket that is accepted from.
pub(crate) struct Listener {
    listener: Arc<TcpListener>,
    next: Option<Accepting>,
}

type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send>>;

/// What a connection is opened with.
#[derive(Debug)]
pub(crate) struct TcpSocket;

/// As the simulation has no options of sockets, all there is to know.
#[allow(clippy::unnecessary_wraps, reason = "the system's can fail")]
pub(crate) fn listen(address: SocketAddr) -> io::Result<Bound> {
    Ok(Bound(address))
}

/// A simulated connection that is closed with bytes unread is reset anyway.
pub(crate) fn reset_when_closed(_: &TcpStream) {}

#[allow(clippy::unnecessary_wraps, reason = "the system's can fail")]
impl Bound {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }

    pub(crate) fn listener(&self) -> io::Result<Listener> {
        // It waits for nothing: that it is async is for the likeness to tokio.
        let bound = pin!(TcpListener::bind(self.0)).poll(&mut Context::from_waker(Waker::noop()));
        match bound {
            Poll::Ready(listener) => Ok(Listener { listener: Arc::new(listener?), next: None }),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Listener {
    pub(crate) fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let next = self.next.get_or_insert_with(|| {
            let listener = Arc::clone(&self.listener);
            Box::pin(async move { listener.accept().await })
        });
        let accepted = ready!(next.as_mut().poll(context));
        self.next = None;
        Poll::Ready(accepted)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({:?})", self.listener.local_addr())
    }
}

#[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as tokio's")]
impl TcpSocket {
    pub(crate) fn new_v4() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn new_v6() -> io::Result<Self> {
        Ok(Self)
    }

    /// A simulated host has one address.
    pub(crate) fn bind(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) async fn connect(self, remote: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(remote).await
    }
}
