//! What every service process has: options in layers, logs, checks of its health and an HTTP endpoint that tells them,
//! draining on signals, a place in the background, values that follow their files, traces and metrics.
//!
//! A program's `main.rs` is a call of [`main`] with a function that reads its options ([`options::Program`]), starts
//! goes to the background where that is asked for ([`daemon::detach`]), starts its telemetry and its logs
//! ([`telemetry::start`]), makes its threads ([`threads`], or [`thread`] for one) and runs until its [`drain::Drain`] ends.

pub mod daemon;
pub mod drain;
pub mod health;
pub mod http;
pub mod limits;
pub mod logs;
pub mod options;
mod process;
pub mod reload;
pub mod telemetry;
pub mod terminal;

pub use process::{main, thread, threads};
