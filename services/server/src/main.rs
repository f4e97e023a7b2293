//! `tentacle_server`, the documented name of the receiver.

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle_server";
    runtime::main(NAME, || receiver::start(NAME))
}
