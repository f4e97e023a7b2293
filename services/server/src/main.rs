//! `tentacle_server`: see [`server`].

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle_server";
    runtime::main(NAME, || server::start(NAME))
}
