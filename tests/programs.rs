//! Finding the built programs, and addresses for them.

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use socket2::{Domain, Socket, Type};

use crate::receiver::PORT;

/// The path of a built program: it lies beside the tests, debug or release as
/// they are.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(path.is_file(), "no {}; build first: cargo build --workspace", path.display());
    path
}

/// A call of a built program in an environment without options of ours.
pub fn program_command(name: &str) -> Command {
    command(&program(name))
}

/// A call of a program of another build, in such an environment.
pub fn command(program: &Path) -> Command {
    without_options(Command::new(program))
}

/// The same by another program, which runs it with these arguments.
pub fn program_under(under: &[OsString], name: &str) -> Command {
    let Some((first, rest)) = under.split_first() else { return program_command(name) };
    let mut command = without_options(Command::new(first));
    command.args(rest).arg(program(name));
    command
}

/// The same where this hosts file, in place of the machine's, says what names
/// stand for. It may be written anew, in place. Needs root, or user
/// namespaces.
pub fn program_with_hosts(name: &str, hosts: &Path) -> Command {
    let mut command = without_options(Command::new("unshare"));
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(hosts).arg(program(name));
    command
}

/// Takes the variables out that the programs read options from.
pub(crate) fn without_options(mut command: Command) -> Command {
    for (variable, _) in std::env::vars_os() {
        let name = variable.as_encoded_bytes();
        if name.starts_with(b"TENTACLE_") || name.starts_with(b"OTEL_") {
            command.env_remove(variable);
        }
    }
    command
}

/// A loopback address that nobody else has: all of 127.0.0.0/8 is this
/// machine, so that every service can have the documented port.
pub fn free_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes of one run differ in their id, and a process has a range.
        let number = std::process::id().wrapping_mul(509).wrapping_add(COUNT.fetch_add(1, Relaxed));
        let [_, b, c, d] = number.to_be_bytes();
        if (b, c) == (0, 0) || matches!(d, 0 | 255) {
            continue;
        }
        let address = Ipv4Addr::new(127, b, c, d);
        if probe((address, PORT).into()).is_ok() {
            return address;
        }
    }
}

/// A port of 127.0.0.1 that is free now: for addresses that everybody has.
pub fn free_port() -> u16 {
    free_port_of(Ipv4Addr::LOCALHOST).port()
}

/// A port of this address that is free now, below those that the system gives
/// out itself: what another process asks for meanwhile is another one.
pub fn free_port_of(address: Ipv4Addr) -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let free = (0..20_000).find_map(|_| {
        // As with addresses.
        let number = std::process::id().wrapping_mul(37).wrapping_add(COUNT.fetch_add(1, Relaxed));
        let port = 10_000 + u16::try_from(number % 20_000).unwrap();
        probe((address, port).into()).ok()
    });
    free.unwrap()
}

/// Binds and lets go. It does not listen: a child that is being started by
/// another thread holds a copy of the socket for a moment, and a bound one
/// does not stand in the way of a server.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket.local_addr()?.as_socket().expect("an internet socket"))
}
