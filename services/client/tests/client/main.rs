//! The built client against servers that keep to a script.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod options;
mod recordings;
mod refusals;
mod session;
mod transfers;
