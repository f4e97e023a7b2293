//! The receiver's options: the whole set of the peers' server.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Arg, Command};
use protocol::{Deadline, Filters, NameRules};
use runtime::{
    logs,
    options::{
        FileFormat, Layers, NotYet, OptionError, Program, SecretSource, Sets, Token, secret_from, service,
        switch, value, values,
    },
};
use security::{AccessOptions, ServerTls};

use crate::expiry::Expiry;

/// What a receiver does; valid.
#[derive(Debug)]
pub struct Options {
    /// Addresses and names to listen on.
    pub addresses: Vec<String>,
    /// TCP port.
    pub port: u16,
    /// Connections at once; more wait until one ends.
    pub max_connections: usize,
    /// Of one address, none where they are not bounded; more are refused.
    pub connections_per_address: Option<usize>,
    /// Whether to go to the background.
    pub daemon: bool,
    /// Whether `LS` and `MV` are served.
    pub insecure: bool,
    /// Which folder of the spool a name belongs to.
    pub filters: Filters,
    /// Bytes of a file.
    pub max_size: u64,
    /// Whether a file that is there is replaced.
    pub overwrite: bool,
    /// How long a client is waited for.
    pub deadline: Deadline,
    /// The spool.
    pub directory: PathBuf,
    /// Bytes of its file system that stay free; where none are given, a share.
    pub reserve_space: Option<u64>,
    /// What it holds at most.
    pub limits: spool::Limits,
    /// Which of its folders lose their old files.
    pub expiry: Vec<Expiry>,
    /// What clients must know.
    pub password: Option<SecretSource>,
    /// Which clients are let in.
    pub access: AccessOptions,
    /// The certificates; without them, connections are plain.
    pub tls: Option<ServerTls>,
    /// Bytes of a command.
    pub block_size: usize,
    /// What names may not hold.
    pub name_rules: NameRules,
    /// How long a drain waits for transfers.
    pub drain_timeout: Duration,
    /// Where HTTP is answered.
    pub http_address: Option<SocketAddr>,
    /// The log.
    pub logs: logs::Settings,
}

/// The options that the receiver takes, for a program of this name.
pub fn program(name: &'static str) -> Program {
    let command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Buffers the files that agents send by the Tentacle protocol, until someone fetches them.")
        .after_help(AFTER_HELP)
        .args(service::listening())
        .args(service::upstream())
        .args(security::password_arguments())
        .args(security::server_arguments())
        .args(security::access_arguments())
        .args(storing())
        .args(service::waiting())
        .arg(service::http_address())
        .args(logs::arguments())
        .args(not_yet());
    Program::new(command).secrets(&["password", "upstream-password"]).not_yet(NOT_YET).file(
        "config",
        FileFormat::TentacleServer,
        TOKENS,
    )
}

impl Options {
    /// Takes what the layers say, and the defaults for the rest.
    ///
    /// # Errors
    /// One line that names the option, its value and what is allowed.
    pub fn from_layers(layers: &Layers) -> Result<Self, OptionError> {
        for option in service::upstream() {
            let id = option.get_id().as_str();
            if layers.source_of(id).is_some() {
                return Err(layers.refuse(id, PROXY));
            }
        }
        let text = |id| layers.get::<String>(id).cloned();
        let number = |id, default| layers.get::<u64>(id).copied().unwrap_or(default);
        let time = |id, default| layers.get::<Duration>(id).copied().unwrap_or(Duration::from_secs(default));
        let filters = match text("filters") {
            Some(filters) => {
                Filters::parse(&filters).map_err(|why| layers.refuse("filters", why.to_string()))?
            }
            None => Filters::default(),
        };
        let expiry = text("expire").map(|list| Expiry::parse_list(&list, &filters)).transpose();
        let expiry = expiry.map_err(|why| layers.refuse("expire", why))?.unwrap_or_default();
        let limit = |id| layers.get::<u64>(id).copied().filter(|&most| most > 0);
        let name_rules = match text("invalid-chars") {
            Some(set) => NameRules::from_invalid_chars(set.as_bytes()),
            None => NameRules::default(),
        };
        let directory = layers.get::<PathBuf>("directory").cloned().ok_or_else(|| {
            layers.refuse("directory", "the folder that holds the files must be named: -s DIR")
        })?;
        let retries = u32::try_from(number("retries", 3)).unwrap_or(u32::MAX);
        Ok(Self {
            addresses: service::addresses(layers)?,
            port: layers.get("port").copied().unwrap_or(41121),
            max_connections: usize::try_from(number("max-connections", 1024)).unwrap_or(usize::MAX),
            connections_per_address: service::connections_per_address(layers),
            daemon: layers.switch("daemon"),
            insecure: layers.switch("insecure"),
            filters,
            max_size: number("max-size", 2_000_000),
            overwrite: layers.switch("overwrite"),
            deadline: Deadline::new(time("timeout", 1), retries),
            directory,
            reserve_space: layers.get("reserve-space").copied(),
            limits: spool::Limits { files: limit("spool-max-files"), bytes: limit("spool-max-bytes") },
            expiry,
            password: secret_from(layers, "password", "password-file")?,
            block_size: usize::try_from(number("block-size", 8192)).unwrap_or(usize::MAX),
            name_rules,
            drain_timeout: time("drain-timeout", 25),
            http_address: layers.get("http-addr").copied(),
            logs: logs::Settings::from_layers(layers),
            access: AccessOptions::from_layers(layers, DAEMON)?,
            // The last, as somebody may be asked.
            tls: ServerTls::from_layers(layers)?,
        })
    }
}

fn storing() -> Vec<Arg> {
    vec![
        service::directory(),
        value(
            "filters",
            'i',
            "FILTERS",
            "Keep a file whose name a pattern matches in that folder of DIR: pattern:folder;pattern:folder, Perl's patterns",
        ),
        value("max-size", 'm', "BYTES", "Take files of at most so many bytes [default: 2000000]")
            .value_parser(values::bytes(1..=u64::MAX)),
        value(
            "reserve-space",
            None,
            "BYTES",
            "Keep so many bytes of the file system free: refuse files that would take them; 0 for none [default: 1 % of it, at most 16 MiB]",
        )
        .value_parser(values::bytes(0..=u64::MAX)),
        value(
            "spool-max-bytes",
            None,
            "BYTES",
            "Keep so many bytes of files in DIR and its folders, and refuse more; 0 for no bound [default: 0]",
        )
        .value_parser(values::bytes(0..=u64::MAX)),
        value(
            "spool-max-files",
            None,
            "NUMBER",
            "Keep so many files in DIR and its folders, and refuse more; 0 for no bound [default: 0]",
        )
        .value_parser(values::count(0..=u64::MAX)),
        value(
            "expire",
            None,
            "FOLDER=AGE,…",
            "Remove the files of a folder of -i when they are so old: conf=7d,md5=12h (s, m, h, d; . is DIR itself) [default: none]",
        ),
        switch("overwrite", 'o', "Replace a file that is there, instead of refusing the new one"),
        switch("insecure", 'I', "Serve LS and MV too: whoever can connect can list and take the files"),
        value(
            "invalid-chars",
            None,
            "CHARS",
            r"Refuse names with one of these characters (a backslash makes the next one literal) [default: ?[]/\=+<>:;',*~]",
        ),
        value("block-size", None, "BYTES", "Close on a command of more than so many bytes [default: 8192]")
            .value_parser(values::bytes(512..=1 << 20)),
    ]
}

/// Documented, and not in this version.
fn not_yet() -> Vec<Arg> {
    vec![value("service", 'S', "ACTION", "").hide(true)]
}

/// What hosts.allow and hosts.deny call this program, whatever its name.
const DAEMON: &str = "tentacle_server";

const PROXY: &str =
    "this program keeps files and passes nothing on: tentacle-proxy does, and tentacle_server with -b";

const NOT_YET: &[NotYet] = &[NotYet {
    id: "service",
    what: "Windows services are for Windows; here, -d or the system's service manager starts it",
}];

const TOKENS: &[Token] = &[
    Token { name: "addresses", sets: Sets::Value("addresses") },
    Token { name: "port", sets: Sets::Value("port") },
    Token { name: "max_connections", sets: Sets::Value("max-connections") },
    Token { name: "max_connections_per_address", sets: Sets::Value("max-connections-per-address") },
    Token { name: "daemon", sets: Sets::Switch("daemon") },
    Token { name: "insecure", sets: Sets::Switch("insecure") },
    Token { name: "filters", sets: Sets::Value("filters") },
    Token { name: "max_size", sets: Sets::Value("max-size") },
    Token { name: "overwrite", sets: Sets::Switch("overwrite") },
    Token { name: "quiet", sets: Sets::Switch("quiet") },
    Token { name: "retries", sets: Sets::Value("retries") },
    Token { name: "directory", sets: Sets::Value("directory") },
    Token { name: "timeout", sets: Sets::Value("timeout") },
    Token { name: "verbose", sets: Sets::By(logs::verbose_token) },
    Token { name: "log_file", sets: Sets::Value("log-file") },
    Token { name: "http_addr", sets: Sets::Value("http-addr") },
    Token { name: "reserve_space", sets: Sets::Value("reserve-space") },
    Token { name: "spool_max_bytes", sets: Sets::Value("spool-max-bytes") },
    Token { name: "spool_max_files", sets: Sets::Value("spool-max-files") },
    Token { name: "expire", sets: Sets::Value("expire") },
    Token { name: "password", sets: Sets::Value("password") },
    Token { name: "block_size", sets: Sets::Value("block-size") },
    Token { name: "invalid_chars", sets: Sets::Value("invalid-chars") },
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
    Token { name: "ssl_cert", sets: Sets::Value("ssl-cert") },
    Token { name: "ssl_ca", sets: Sets::Value("ssl-ca") },
    Token { name: "ssl_key", sets: Sets::Value("ssl-key") },
    Token { name: "ssl_password", sets: Sets::Switch("ssl-password") },
    Token { name: "use_libwrap", sets: Sets::Switch("use-libwrap") },
    Token { name: "allow", sets: Sets::Value("allow") },
    Token { name: "accept_proxy", sets: Sets::Switch("accept-proxy") },
    Token { name: "send_proxy", sets: Sets::Switch("send-proxy") },
    Token { name: "allow_name", sets: Sets::Value("allow-name") },
];

const AFTER_HELP: &str = "\
Each option is also read from TENTACLE_EXT_OPTS (a piece of command line), from a variable
such as TENTACLE_MAX_SIZE, and from the file of -F, in this order.

Examples:
  tentacle_server -s /var/spool/pandora/data_in
        take files into a folder that a data server reads
  tentacle_server -I -o -s /var/spool/tentacle -i '.*\\.conf:conf;.*\\.md5:md5;.*\\.zip:collections'
        buffer an isolated network, for a sync-puller to fetch
  tentacle_server -b 192.0.2.1
        keep no files: pass connections on to the server there
  tentacle_server -d -F /etc/tentacle/tentacle_server.conf
        start in the background as a configuration file says";
