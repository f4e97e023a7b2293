//! Options that every service has which listens.

use std::path::PathBuf;

use clap::{Arg, value_parser};

use super::values::{self, port, seconds};
use super::{Layers, OptionError, switch, value};

/// Where and how a service listens: `addresses`, `port`, `max-connections`, `max-connections-per-address`,
/// `daemon` and `config`.
pub fn listening() -> Vec<Arg> {
    vec![
        value(
            "addresses",
            'a',
            "ADDRESS",
            "Listen on these addresses or host names of IPv4 or IPv6, with commas between [default: 0.0.0.0]",
        ),
        value("port", 'p', "PORT", "Listen on this TCP port [default: 41121]").value_parser(port),
        value(
            "max-connections",
            'c',
            "NUMBER",
            "Serve so many connections at once; more wait, and addresses take turns [default: 1024]",
        )
        .value_parser(values::count(1..=1_000_000)),
        value(
            "max-connections-per-address",
            None,
            "NUMBER",
            "Of one address (of IPv6: a network of /64), refuse more than so many connections; 0 for no bound [default: 0]",
        )
        .value_parser(values::count(0..=1_000_000)),
        switch("daemon", 'd', "Go to the background, and return once connections are accepted"),
        value("config", 'F', "FILE", "Read the tokens of this tentacle_server.conf")
            .value_parser(values::existing_file()),
    ]
}

/// `http-addr`, where a service tells how it is.
pub fn http_address() -> Arg {
    value(
        "http-addr",
        None,
        "ADDRESS:PORT",
        "Answer HTTP there: /livez, /readyz with the checks by name (?verbose), and /metrics for Prometheus [default: off]",
    )
    .value_parser(values::socket_address)
}

/// How long a service waits: `timeout`, `retries` and `drain-timeout`.
pub fn waiting() -> Vec<Arg> {
    vec![
        value("timeout", 't', "SECONDS", "Wait so long for a client, each try [default: 1]")
            .value_parser(seconds),
        value(
            "retries",
            'r',
            "NUMBER",
            "Try again so many times: a client has (retries + 1) x timeout seconds [default: 3]",
        )
        .value_parser(values::count(0..=1000)),
        value(
            "drain-timeout",
            None,
            "SECONDS",
            "On SIGTERM, give transfers under way so long to end [default: 25]",
        )
        .value_parser(seconds),
    ]
}

/// What makes a service a proxy, and what only a proxy has: `proxy-ip` and `proxy-port`, where it passes connections
/// on to, `upstream-…`, how it is let in there, `send-proxy`, and `inspect` and `strict`, how it looks at sessions.
pub fn upstream() -> Vec<Arg> {
    vec![
        value(
            "proxy-ip",
            'b',
            "HOST",
            "Keep no files: pass connections on to a server on these hosts, with commas between, each HOST or HOST:PORT",
        ),
        value(
            "proxy-port",
            'g',
            "PORT",
            "Pass connections on to this TCP port of the hosts of -b [default: 41121]",
        )
        .value_parser(port),
        switch("upstream-tls", None, "Speak TLS to the servers of -b, whatever clients speak"),
        file("upstream-ca", "The certificates of the servers of -b must be of an authority in this PEM file, and for their names"),
        value("upstream-name", None, "NAME", "They must be for this name or address [default: the one of -b]"),
        file("upstream-cert", "Show the certificate in this PEM file to the servers of -b"),
        file("upstream-key", "That certificate's key is in this PEM file [default: in that of --upstream-cert]"),
        file("upstream-key-password-file", "The password of that key is in this file"),
        value("upstream-password", None, "PASSWORD", "Say this password to the servers of -b (others can read a command line: --upstream-password-file keeps it from them)")
            .value_parser(values::secret()),
        file("upstream-password-file", "Say the password in this file to the servers of -b"),
        switch(
            "send-proxy",
            None,
            "Tell the servers the clients' addresses, by a PROXY header (version 2): they need --accept-proxy",
        ),
        switch("inspect", None, "With -b: read the commands that pass, and log each file (not within TLS)"),
        switch(
            "strict",
            None,
            "With --inspect: close a session that cannot be read, instead of passing it on",
        ),
    ]
}

fn file(id: &'static str, help: &'static str) -> Arg {
    value(id, None, "FILE", help).value_parser(values::existing_file())
}

/// `directory`, the folder of files.
pub fn directory() -> Arg {
    value("directory", 's', "DIR", "Keep the files in this folder").value_parser(value_parser!(PathBuf))
}

/// Connections at once of one address; none where `max-connections-per-address` says 0, or nothing.
pub fn connections_per_address(layers: &Layers) -> Option<usize> {
    let most = *layers.get::<u64>("max-connections-per-address")?;
    usize::try_from(most).ok().filter(|&most| most > 0)
}

/// The list of `addresses`; all of IPv4 where none is given.
///
/// # Errors
/// An address of the list is empty.
pub fn addresses(layers: &Layers) -> Result<Vec<String>, OptionError> {
    let Some(list) = layers.get::<String>("addresses") else { return Ok(vec!["0.0.0.0".to_owned()]) };
    let addresses: Vec<_> = list.split(',').map(|address| address.trim().to_owned()).collect();
    if addresses.iter().any(String::is_empty) {
        let why = format!("{list:?}: an address is empty (write one, or several with commas between)");
        return Err(layers.refuse("addresses", why));
    }
    Ok(addresses)
}
