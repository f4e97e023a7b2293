//! What a receiver must not take, and that it goes on afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archives;
mod commands;
mod disks;
mod options;
mod secrets;
mod tls;
