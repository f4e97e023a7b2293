//! How bytes get in and out: listening sockets, dialling, HTTP CONNECT, the
//! header of a proxy, and TLS over either.

mod dialer;
mod http_connect;
mod listener;
mod lookup;
mod net;
pub mod proxy_header;
mod stream;
pub mod tls;

pub use crate::{
    dialer::{Address, AddressError, DialError, Dialer},
    http_connect::{HttpProxy, TunnelError},
    listener::{ListenError, Listeners, Sockets},
    net::TcpStream,
    stream::Stream,
};
