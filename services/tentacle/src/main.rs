//! `tentacle_client` and `tentacle_server` in one file, whichever it is called
//! by: most of both is the same, and an image has it once.

use std::{env, path::Path, process::ExitCode};

use anyhow::bail;

fn main() -> ExitCode {
    let called = env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some("tentacle_client") => runtime::main("tentacle_client", || client::start("tentacle_client")),
        Some("tentacle_server") => runtime::main("tentacle_server", || server::start("tentacle_server")),
        _ => runtime::main("tentacle", || {
            bail!(
                "called as {}: call it by a link named tentacle_client or tentacle_server",
                called.display()
            )
        }),
    }
}
