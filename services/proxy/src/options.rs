//! The proxy's options: those of the peers' server with `-b`.

mod tls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Command;
use protocol::Deadline;
use runtime::{
    logs,
    options::{FileFormat, Layers, OptionError, Program, SecretSource, Sets, Token, secret_from, service},
};
use security::{AccessOptions, ClientTls, ServerTls};
use transport::Address;

/// What a proxy does; valid.
#[derive(Debug)]
pub struct Options {
    /// Addresses and names to listen on.
    pub addresses: Vec<String>,
    /// TCP port.
    pub port: u16,
    /// Where to pass connections on to; not empty.
    pub upstreams: Vec<Address>,
    /// What is shown to them, and asked of them; without it, connections to
    /// them are plain.
    pub upstream_tls: Option<ClientTls>,
    /// What is said to them before a client's bytes.
    pub upstream_password: Option<SecretSource>,
    /// Whether each connection is begun with a header that names the client.
    pub send_proxy: bool,
    /// Whether the commands that pass are read; not where they are within TLS.
    pub inspect: Option<Inspect>,
    /// Connections at once; more wait until one ends.
    pub max_connections: usize,
    /// Of one address, none where they are not bounded; more are refused.
    pub connections_per_address: Option<usize>,
    /// Whether to go to the background.
    pub daemon: bool,
    /// How long an upstream is waited for, and a session without a byte.
    pub deadline: Deadline,
    /// A folder that was given, as the peers' proxy wants one, and is not used.
    pub directory: Option<PathBuf>,
    /// What clients must know; without it, what they say passes through.
    pub password: Option<SecretSource>,
    /// Which clients are let in.
    pub access: AccessOptions,
    /// The certificates; without them, what clients speak passes through.
    pub tls: Option<ServerTls>,
    /// How long a drain waits for sessions.
    pub drain_timeout: Duration,
    /// Where HTTP is answered.
    pub http_address: Option<SocketAddr>,
    /// The log.
    pub logs: logs::Settings,
}

/// How sessions are read.
#[derive(Clone, Copy, Debug)]
pub struct Inspect {
    /// Whether one that is not Tentacle is closed.
    pub strict: bool,
}

/// The options that the proxy takes, for a program of this name.
pub fn program(name: &'static str) -> Program {
    let command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Passes Tentacle sessions on to a server, byte for byte.")
        .after_help(AFTER_HELP)
        .args(service::listening())
        .args(service::upstream())
        .arg(service::directory().hide(true))
        .args(security::password_arguments())
        .args(security::server_arguments())
        .args(security::access_arguments())
        .args(service::waiting())
        .arg(service::http_address())
        .args(logs::arguments());
    let program = Program::new(command).secrets(&["password", "upstream-password"]);
    program.file("config", FileFormat::TentacleServer, TOKENS)
}

impl Options {
    /// Takes what the layers say, of this program or of `tentacle_server`, and
    /// the defaults for the rest.
    ///
    /// # Errors
    /// One line that names the option, its value and what is allowed.
    pub fn from_layers(layers: &Layers) -> Result<Self, OptionError> {
        let number = |id, default| layers.get::<u64>(id).copied().unwrap_or(default);
        let time = |id, default| layers.get::<Duration>(id).copied().unwrap_or(Duration::from_secs(default));
        let retries = u32::try_from(number("retries", 3)).unwrap_or(u32::MAX);
        Ok(Self {
            addresses: service::addresses(layers)?,
            port: layers.get("port").copied().unwrap_or(41121),
            upstreams: upstreams(layers)?,
            upstream_tls: tls::to_upstreams(layers)?,
            upstream_password: secret_from(layers, "upstream-password", "upstream-password-file")?,
            send_proxy: layers.switch("send-proxy"),
            inspect: inspect(layers)?,
            max_connections: usize::try_from(number("max-connections", 1024)).unwrap_or(usize::MAX),
            connections_per_address: service::connections_per_address(layers),
            daemon: layers.switch("daemon"),
            deadline: Deadline::new(time("timeout", 1), retries),
            directory: layers.get("directory").cloned(),
            password: secret_from(layers, "password", "password-file")?,
            access: AccessOptions::from_layers(layers, DAEMON)?,
            drain_timeout: time("drain-timeout", 25),
            http_address: layers.get("http-addr").copied(),
            logs: logs::Settings::from_layers(layers),
            // The last, as somebody may be asked.
            tls: ServerTls::from_layers(layers)?,
        })
    }
}

fn upstreams(layers: &Layers) -> Result<Vec<Address>, OptionError> {
    let Some(list) = layers.get::<String>("proxy-ip") else {
        let why = "where to pass connections on to must be named: -b HOST";
        return Err(layers.refuse("proxy-ip", why));
    };
    let port = layers.get("proxy-port").copied().unwrap_or(41121);
    let parse = |host: &str| {
        Address::parse(host, port).map_err(|why| layers.refuse("proxy-ip", format!("{host:?}: {why}")))
    };
    list.split(',').map(parse).collect()
}

fn inspect(layers: &Layers) -> Result<Option<Inspect>, OptionError> {
    match (layers.switch("inspect"), layers.switch("strict")) {
        (true, strict) => Ok(Some(Inspect { strict })),
        (false, false) => Ok(None),
        (false, true) => {
            Err(layers.refuse("strict", "it only goes with --inspect, which reads the sessions"))
        }
    }
}

/// What hosts.allow and hosts.deny call this program, whatever its name.
const DAEMON: &str = "tentacle_server";

const TOKENS: &[Token] = &[
    Token { name: "addresses", sets: Sets::Value("addresses") },
    Token { name: "port", sets: Sets::Value("port") },
    Token { name: "proxy_ip", sets: Sets::Value("proxy-ip") },
    Token { name: "proxy_port", sets: Sets::Value("proxy-port") },
    Token { name: "upstream_tls", sets: Sets::Switch("upstream-tls") },
    Token { name: "upstream_ca", sets: Sets::Value("upstream-ca") },
    Token { name: "upstream_name", sets: Sets::Value("upstream-name") },
    Token { name: "upstream_cert", sets: Sets::Value("upstream-cert") },
    Token { name: "upstream_key", sets: Sets::Value("upstream-key") },
    Token { name: "upstream_password", sets: Sets::Value("upstream-password") },
    Token { name: "inspect", sets: Sets::Switch("inspect") },
    Token { name: "strict", sets: Sets::Switch("strict") },
    Token { name: "max_connections", sets: Sets::Value("max-connections") },
    Token { name: "max_connections_per_address", sets: Sets::Value("max-connections-per-address") },
    Token { name: "daemon", sets: Sets::Switch("daemon") },
    Token { name: "quiet", sets: Sets::Switch("quiet") },
    Token { name: "retries", sets: Sets::Value("retries") },
    Token { name: "directory", sets: Sets::Value("directory") },
    Token { name: "timeout", sets: Sets::Value("timeout") },
    Token { name: "verbose", sets: Sets::By(logs::verbose_token) },
    Token { name: "log_file", sets: Sets::Value("log-file") },
    Token { name: "http_addr", sets: Sets::Value("http-addr") },
    Token { name: "password", sets: Sets::Value("password") },
    Token { name: "ssl_cert", sets: Sets::Value("ssl-cert") },
    Token { name: "ssl_ca", sets: Sets::Value("ssl-ca") },
    Token { name: "ssl_key", sets: Sets::Value("ssl-key") },
    Token { name: "ssl_password", sets: Sets::Switch("ssl-password") },
    Token { name: "use_libwrap", sets: Sets::Switch("use-libwrap") },
    Token { name: "allow", sets: Sets::Value("allow") },
    Token { name: "allow_name", sets: Sets::Value("allow-name") },
    Token { name: "accept_proxy", sets: Sets::Switch("accept-proxy") },
    Token { name: "send_proxy", sets: Sets::Switch("send-proxy") },
];

const AFTER_HELP: &str = "\
Each option is also read from TENTACLE_EXT_OPTS (a piece of command line), from a variable
such as TENTACLE_PROXY_IP, and from the file of -F, in this order.

Passwords and TLS are between the client and the server: both pass through as they are,
unless -e or -x ends them here, and --upstream-tls or --upstream-password begins them.
--inspect reads what passes in sessions that are not encrypted here, and changes nothing;
it logs no password.

Examples:
  tentacle-proxy -b 192.0.2.1
        pass connections on to the server there
  tentacle-proxy -a 10.0.0.5 -b buffers.example,192.0.2.2:41122
        to the one with the fewest connections of several; a name may stand for many
  tentacle-proxy -b buffer.example --upstream-tls --upstream-ca ca.pem --upstream-password-file secret
        take plain sessions of a site, and pass them on by TLS, with the password of the server";
