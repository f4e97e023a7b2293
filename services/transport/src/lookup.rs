//! What the name of a host stands for.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    thread,
};

use tokio::sync::oneshot;

use crate::Address;

impl Address {
    /// Asks the system's resolver: the hosts file, and the DNS. An address
    /// stands for itself.
    ///
    /// The resolver cannot be interrupted, and may be silent for a minute: it
    /// is asked on a thread of its own, which does not keep the program from
    /// ending, as one of the runtime's would. Whoever gives up before there is
    /// an answer leaves that thread behind until there is.
    ///
    /// # Errors
    /// The name stands for nothing, nobody can tell, or there is no thread.
    pub async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let (host, port) = (self.host.clone(), self.port);
        let (answer, answered) = oneshot::channel();
        thread::Builder::new().name("lookup".into()).spawn(move || {
            // Who asked may have gone.
            let _ = answer.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
        })?;
        answered.await.map_err(io::Error::other)?
    }
}
