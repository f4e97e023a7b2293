//! `tentacle-sync-puller`: see [`sync_puller`].

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle-sync-puller";
    runtime::main(NAME, || sync_puller::start(NAME))
}
