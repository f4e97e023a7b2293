//! Sockets that wait for peers.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

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

/// Listens on `port` of every address that each of `hosts` (addresses of IPv4
/// or IPv6, or names) stands for. Port 0 takes a free one. Must be called
/// within a tokio runtime; blocks while names are resolved.
///
/// An IPv6 address does not take IPv4 along, so that `0.0.0.0` and `::` can
/// both be given.
///
/// # Errors
/// [`ListenError`]; then none of the sockets is left.
pub fn bind(hosts: &[String], port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let mut addresses = Vec::new();
    for host in hosts {
        // `[::1]` is how an address with a port is written elsewhere.
        let bare = host.trim().trim_start_matches('[').trim_end_matches(']');
        let found = (bare, port).to_socket_addrs();
        addresses.extend(found.map_err(|error| ListenError::Resolve { host: host.clone(), error })?);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
        .into_iter()
        .map(|address| listen(address).map_err(|error| ListenError::Bind { address, error }))
        .collect()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart does not wait for what the last run left in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: stop it, or choose another port)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege: choose another port)",
        io::ErrorKind::AddrNotAvailable => " (it is not an address of this machine)",
        _ => "",
    }
}

/// Connections that the system holds until they are accepted; it may bound
/// them lower (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_of_a_list_is_listened_on_once() {
        let hosts = ["127.0.0.1", "localhost", "127.0.0.2"].map(String::from);
        let listeners = bind(&hosts, 0).unwrap();
        let mut hosts: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().ip().to_string()).collect();
        hosts.retain(|host| host.starts_with("127"));
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2"]);
    }

    #[tokio::test]
    async fn what_cannot_be_listened_on_is_said_clearly() {
        let taken = bind(&["127.0.0.1".into()], 0).unwrap();
        let port = taken[0].local_addr().unwrap().port();
        let error = bind(&["127.0.0.1".into()], port).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        let error = bind(&["192.0.2.1".into()], 0).unwrap_err().to_string();
        assert!(error.contains("not an address of this machine"), "{error}");
        let error = bind(&["no such host".into()], 0).unwrap_err().to_string();
        assert!(error.starts_with("address no such host: cannot be resolved"), "{error}");
    }
}
