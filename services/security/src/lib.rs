//! Who may connect, and how: the options of TLS and passwords that the
//! programs share, and what they come to while a program runs.
//!
//! It stands over `transport` (handshakes) and `runtime` (options, files that
//! are read again), which do not know each other.

mod acceptor;
mod access;
mod connector;
mod entrance;
mod expiry;
mod identity;
mod loaded;
mod metrics;
mod password;
mod penalties;
mod turns;

#[doc(hidden)]
pub use crate::access::admits;
pub use crate::{
    acceptor::{Acceptor, ServerTls, server_arguments},
    access::{Access, AccessOptions, Refused, access_arguments},
    connector::{ClientTls, Connector, client_arguments},
    entrance::{Entrance, NotEntered, Place},
    identity::IdentitySource,
    loaded::{CertificateCheck, all_certificates},
    password::{Password, password_arguments},
    penalties::{Penalties, TooManyWait},
    turns::{Permit, TooMany},
};
