//! How bytes get in and out: listening sockets, dialling, and HTTP CONNECT.

mod dialer;
mod http_connect;
mod listener;

pub use crate::{
    dialer::{Address, AddressError, DialError, Dialer, dial},
    http_connect::{HttpProxy, TunnelError},
    listener::{ListenError, bind},
};
