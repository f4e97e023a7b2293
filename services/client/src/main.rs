//! `tentacle_client`: see [`client`].

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle_client";
    runtime::main(NAME, || client::start(NAME))
}
