//! `tentacle-proxy`: see [`proxy`].

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle-proxy";
    runtime::main(NAME, || proxy::start(NAME))
}
