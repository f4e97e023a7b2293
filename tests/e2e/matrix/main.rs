//! Every row of the table of certificates in docs/protocol.md, by every kind
//! of certificate, TLS version and program that it can be had with. A cell is
//! a test: `receiver/asked/v1-p256/tls1.3/password`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod pair;
mod puller;
mod receiver;
mod refusals;
mod rows;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let cells = [receiver::cells(), client::cells(), pair::cells(), puller::cells(), refusals::cells()];
    libtest_mimic::run(&Arguments::from_args(), cells.into_iter().flatten().collect()).exit_code()
}
