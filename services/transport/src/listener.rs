//! Sockets that wait for peers.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    task::Poll,
    time::Duration,
};

use crate::net::{Bound, Listener, TcpStream, listen};

/// Sockets that peers can connect to, and that nobody accepts from yet.
#[derive(Debug)]
pub struct Sockets(Vec<Bound>);

/// Sockets that wait for peers, as one.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

/// Why a socket cannot wait.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name stands for no address.
    #[error(
        "address {host}: cannot be resolved: {error} (give an address of this machine, or 0.0.0.0 for all)"
    )]
    Resolve {
        /// As it was given.
        host: String,
        /// The resolver's.
        error: io::Error,
    },
    /// The address cannot be taken.
    #[error("address {address}: cannot be listened on: {error}{}", hint(.error))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's.
        error: io::Error,
    },
}

// === impl Sockets ===

impl Sockets {
    /// Listens on `port` of every address that each of `hosts` (addresses of
    /// IPv4 or IPv6, or names) stands for. Port 0 takes a free one. Blocks
    /// while names are resolved.
    ///
    /// An IPv6 address does not take IPv4 along, so that `0.0.0.0` and `::`
    /// can both be given.
    ///
    /// # Errors
    /// [`ListenError`]; then none of the sockets is left.
    pub fn bind(hosts: &[String], port: u16) -> Result<Self, ListenError> {
        let mut addresses = Vec::new();
        for host in hosts {
            // `[::1]` is how an address with a port is written elsewhere.
            let bare = host.trim().trim_start_matches('[').trim_end_matches(']');
            let found = (bare, port).to_socket_addrs();
            addresses.extend(found.map_err(|error| ListenError::Resolve { host: host.clone(), error })?);
        }
        addresses.sort_unstable();
        addresses.dedup();
        let sockets = addresses
            .into_iter()
            .map(|address| listen(address).map_err(|error| ListenError::Bind { address, error }));
        Ok(Self(sockets.collect::<Result<_, _>>()?))
    }

    /// Where they listen.
    ///
    /// # Errors
    /// The system's.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(Bound::local_addr).collect()
    }

    /// Begins to accept from them in the current tokio runtime; each of
    /// several that do has a part of the connections.
    ///
    /// # Errors
    /// The system's.
    pub fn listeners(&self) -> io::Result<Listeners> {
        Ok(Listeners(self.0.iter().map(Bound::listener).collect::<io::Result<_>>()?))
    }
}

// === impl Listeners ===

impl Listeners {
    /// The next connection of any of them; where one came from has the last
    /// turn the next time. What cannot be accepted is logged: out of
    /// descriptors or memory, it is tried again a little later, as what runs
    /// may end and give some back.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.next().await {
                Ok(accepted) => return accepted,
                // The peer left while it waited.
                Err(error) if is_the_peers(&error) => {
                    tracing::debug!(%error, "connection gone before it was accepted");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            for at in 0..self.0.len() {
                if let Poll::Ready(accepted) = self.0[at].poll_accept(context) {
                    self.0.rotate_left(at + 1);
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: stop it, or choose another port)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege: choose another port)",
        io::ErrorKind::AddrNotAvailable => " (it is not an address of this machine)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_list_is_listened_on_once() {
        let hosts = ["127.0.0.1", "localhost", "127.0.0.2"].map(String::from);
        let sockets = Sockets::bind(&hosts, 0).unwrap();
        let mut hosts: Vec<_> =
            sockets.addresses().unwrap().iter().map(|address| address.ip().to_string()).collect();
        hosts.retain(|host| host.starts_with("127"));
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2"]);
    }

    #[test]
    fn what_cannot_be_listened_on_is_said_clearly() {
        let taken = Sockets::bind(&["127.0.0.1".into()], 0).unwrap();
        let port = taken.addresses().unwrap()[0].port();
        let error = Sockets::bind(&["127.0.0.1".into()], port).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        let error = Sockets::bind(&["192.0.2.1".into()], 0).unwrap_err().to_string();
        assert!(error.contains("not an address of this machine"), "{error}");
        let error = Sockets::bind(&["no such host".into()], 0).unwrap_err().to_string();
        assert!(error.starts_with("address no such host: cannot be resolved"), "{error}");
    }
}
