//! Driving the built programs from tests.
//!
//! [`Receiver`] starts a receiver on a spool and an address of its own,
//! [`Peer`] speaks raw bytes to it, [`Openssl`] the same over TLS, with the
//! certificates of [`Pki`]; [`Recording`] is a session that was recorded from
//! a peer's program, [`replay_all`] plays them all again. [`Trace`] is what a program asked of the
//! system. Everything panics where a test cannot go on, and waits
//! for conditions, at most [`PATIENCE`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;
mod collector;
mod contents;
mod openssl;
mod peer;
mod process;
mod programs;
mod receiver;
mod recording;
mod replay;
mod trace;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use crate::{
    certificates::{Form, KINDS, Key, Kind, NAME, Pki, certificates},
    collector::{Collector, Seen},
    contents::{files_below, folders_below, left_aside},
    openssl::Openssl,
    peer::Peer,
    process::{Ended, Process, run},
    programs::{
        command, free_address, free_port, free_port_of, program, program_command, program_under,
        program_with_hosts,
    },
    receiver::{Builder, PORT, Receiver},
    recording::{Recording, Step},
    replay::{Delivery, replay_all},
    trace::{Call, Injection, Trace, injected, traced},
};

/// Waits until `condition` holds, and fails by the name of `what` if it never
/// does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How long a test waits for what must come: long enough for a loaded
/// machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
