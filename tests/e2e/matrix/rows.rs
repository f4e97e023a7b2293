//! What varies from cell to cell.

use std::process::Command;

use libtest_mimic::Trial;
use tests::{KINDS, Kind, NAME, Receiver, certificates, free_port_of, program_command};

/// A row of the table in which the two sides come to terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The server has `-f`.
    pub(crate) asks: bool,
    /// The client has `-e` and `-k`.
    pub(crate) shows: bool,
    /// The client has `-f`.
    pub(crate) checks: bool,
}

/// Of which versions of TLS the other side speaks one alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) name: &'static str,
    /// `openssl`'s option.
    pub(crate) option: &'static str,
}

/// A test of this name.
pub(crate) fn cell(name: String, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        body();
        Ok(())
    })
}

/// One for each row, kind, and with and without a password.
pub(crate) fn each(
    program: &'static str,
    rows: &'static [Row],
    body: fn(Row, Kind, Option<&'static str>),
) -> Vec<Trial> {
    let mut cells = Vec::new();
    for &row in rows {
        for kind in KINDS {
            for password in PASSWORDS {
                let name = format!("{program}/{}/{kind}{}", row.name, suffix(password));
                cells.push(cell(name, move || body(row, kind, password)));
            }
        }
    }
    cells
}

/// One for each row, kind, version, and with and without a password.
pub(crate) fn each_version(
    program: &'static str,
    rows: &'static [Row],
    body: fn(Row, Kind, Version, Option<&'static str>),
) -> Vec<Trial> {
    let mut cells = Vec::new();
    for &row in rows {
        for kind in KINDS {
            for version in VERSIONS {
                for password in PASSWORDS {
                    let name = format!("{program}/{}/{kind}/{}{}", row.name, version.name, suffix(password));
                    cells.push(cell(name, move || body(row, kind, version, password)));
                }
            }
        }
    }
    cells
}

/// `tentacle_server` at the address that the certificates are for.
pub(crate) fn server(row: Row, kind: Kind, password: Option<&str>) -> Receiver {
    let pki = certificates();
    let mut builder = Receiver::builder().at(free_port_of(NAME)).args(["-I"]);
    builder = builder.args(pki.identity(&kind.server())).args(with_password(password));
    if row.asks {
        builder = builder.args(pki.authority(&kind.clients_authority()));
    }
    builder.start()
}

/// `tentacle_client` as this row has it.
pub(crate) fn client(row: Row, kind: Kind, port: u16, password: Option<&str>) -> Command {
    let pki = certificates();
    let mut command = bare_client(port);
    command.args(with_password(password));
    if row.shows {
        command.args(pki.identity(&kind.client()));
    } else {
        command.arg("-c");
    }
    if row.checks {
        command.args(pki.authority(&kind.servers_authority()));
    }
    command
}

/// `tentacle_client` without options of TLS.
pub(crate) fn bare_client(port: u16) -> Command {
    let mut command = program_command("tentacle_client");
    command.args(["-a", &NAME.to_string(), "-p", &port.to_string()]);
    command
}

pub(crate) fn with_password(password: Option<&str>) -> impl Iterator<Item = &str> {
    password.into_iter().flat_map(|password| ["-x", password])
}

/// The end of a cell's name.
fn suffix(password: Option<&str>) -> &'static str {
    if password.is_some() { "/password" } else { "" }
}

const fn row(name: &'static str, asks: bool, shows: bool, checks: bool) -> Row {
    Row { name, asks, shows, checks }
}

/// The client has no certificate.
pub(crate) const ANONYMOUS: Row = row("anonymous", false, false, false);

/// The client has one, and nobody asks for it.
pub(crate) const UNASKED: Row = row("unasked", false, true, false);

/// The same, and the client checks the server's.
pub(crate) const UNASKED_CHECKED: Row = row("unasked-checked", false, true, true);

/// The server asks for the client's.
pub(crate) const ASKED: Row = row("asked", true, true, false);

/// Each side checks the other's.
pub(crate) const ASKED_CHECKED: Row = row("asked-checked", true, true, true);

/// The password on the command line, and what goes over the line for it:
/// `printf secret | openssl md5 -binary | openssl md5`.
pub(crate) const PASSWORD: &str = "secret";
pub(crate) const DIGEST: &str = "9e769017c85f064977fe6a658f207fa6";

const PASSWORDS: [Option<&str>; 2] = [None, Some(PASSWORD)];

pub(crate) const VERSIONS: [Version; 2] =
    [Version { name: "tls1.2", option: "-tls1_2" }, Version { name: "tls1.3", option: "-tls1_3" }];
