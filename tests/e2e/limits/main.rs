//! Limits that hold: of the spool, of the age of its files, and of what one
//! address may take.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod addresses;
mod expiry;
mod quota;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Ends the others with this one, even where this one failed.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
