//! What a receiver promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ending;
mod moving;
mod sizes;
mod starting;
mod storing;
