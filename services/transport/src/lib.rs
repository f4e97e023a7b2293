//! How bytes get in and out: listening sockets, dialling, HTTP CONNECT, and
//! TLS over either.

mod dialer;
mod http_connect;
mod listener;
mod stream;
pub mod tls;

pub use crate::{
    dialer::{Address, AddressError, DialError, Dialer, dial},
    http_connect::{HttpProxy, TunnelError},
    listener::{ListenError, Listeners},
    stream::Stream,
};
