//! `tentacle-receiver`: see [`receiver`].

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle-receiver";
    runtime::main(NAME, || receiver::start(NAME))
}
