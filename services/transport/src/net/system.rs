//! The system's network, through tokio.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
pub(crate) use tokio::net::TcpSocket;
pub use tokio::net::TcpStream;

/// A socket that peers can connect to, and that nobody accepts from yet.
#[derive(Debug)]
pub(crate) struct Bound(TcpListener);

/// A socket that is accepted from.
#[derive(Debug)]
pub(crate) struct Listener(tokio::net::TcpListener);

/// Listens on `address`; port 0 takes a free one.
pub(crate) fn listen(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart does not wait for what the last run left in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // What is accepted has it from here: what comes in small pieces goes out as
    // it comes.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(Bound(socket.into()))
}

/// Has the peer see a reset where the connection is closed, and no end.
pub(crate) fn reset_when_closed(stream: &TcpStream) {
    // One that is gone already needs none.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Bound {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Begins to accept from it in the current tokio runtime.
    pub(crate) fn listener(&self) -> io::Result<Listener> {
        Ok(Listener(tokio::net::TcpListener::from_std(self.0.try_clone()?)?))
    }
}

impl Listener {
    pub(crate) fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.0.poll_accept(context)
    }
}

/// Connections that the system holds until they are accepted; it may bound
/// them lower (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
