//! The documented name of the receiver, and with `-b` of the proxy; the
//! `tentacle_server` of the guides.

use std::process::ExitCode;

/// The whole program under the name `name`: reads the options of this
/// process, and serves until it is told to stop.
///
/// # Errors
/// What is wrong with the options, or ended the service; one line each.
pub fn start(name: &'static str) -> anyhow::Result<ExitCode> {
    match receiver::options::program(name).from_process()? {
        None => Ok(ExitCode::SUCCESS),
        Some(layers) if layers.source_of("proxy-ip").is_some() => proxy::start_with(name, &layers),
        Some(layers) => receiver::start_with(name, &layers),
    }
}
