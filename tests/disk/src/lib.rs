//! A disk in memory that crashes and fails, behind the spool's seam.
//!
//! What a power cut leaves is what Pillai et al. ("All File Systems Are Not
//! Created Equal", OSDI 2014) found that file systems may leave: of what was
//! not flushed, any part. A name, a removal, a rename (whole, or not at all),
//! a size and each piece of the data come through or do not, each for itself.
//! What was flushed is there.
//!
//! - [`CrashingDisk`] is that disk. It counts the calls, and goes down, or
//!   fails, at the one it was told.
//! - [`Misordered`] does what must not be done, so that a test can show that
//!   it would see it.

mod fault;
mod misordered;
mod model;
mod tree;

pub use crate::{
    fault::{Call, Fault},
    misordered::{Misordered, Wrong},
    model::{CrashingDisk, Handle},
};
