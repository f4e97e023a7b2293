//! `tentacle_server`, the documented name of the receiver, and with `-b` of
//! the proxy.

use std::process::ExitCode;

fn main() -> ExitCode {
    const NAME: &str = "tentacle_server";
    runtime::main(NAME, || match receiver::options::program(NAME).from_process()? {
        None => Ok(ExitCode::SUCCESS),
        Some(layers) if layers.source_of("proxy-ip").is_some() => proxy::start_with(NAME, &layers),
        Some(layers) => receiver::start_with(NAME, &layers),
    })
}
