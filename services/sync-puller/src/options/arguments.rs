//! What can be given, and where.

use std::{path::PathBuf, str::FromStr as _};

use clap::{Arg, Command, value_parser};
use runtime::{
    logs,
    options::{
        FileFormat, Program, Sets, Token, service, switch, value,
        values::{self, port, seconds},
    },
};

use super::{Mode, destination::addresses, tls};

/// The options that the puller takes.
pub fn program(name: &'static str) -> Program {
    let command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Opens every connection, and fetches what remote Tentacle buffers hold.")
        .after_help(AFTER_HELP)
        .args(files())
        .args(sources())
        .args(tls::SYNC.arguments("the sources"))
        .args(destination())
        .args(super::coordination::arguments())
        .args(tls::FORWARD.arguments("the servers of --forward-to"))
        .arg(service::http_address())
        .args(logs::arguments());
    Program::new(command).secrets(&["password", "forward-password"]).file(
        "server-config",
        FileFormat::PandoraServer,
        TOKENS,
    )
}

fn files() -> Vec<Arg> {
    vec![
        value("server-config", None, "FILE", "Read the Sync server's tokens of this pandora_server.conf")
            .short('F')
            .value_parser(values::existing_file()),
        value(
            "config",
            None,
            "FILE",
            "Read this YAML file, in which each source can have settings of its own",
        )
        .value_parser(values::existing_file()),
        value("syncserver", None, "0|1", "With 0, end at once: the puller is switched off [default: 1]")
            .value_parser(on_or_off),
    ]
}

fn sources() -> Vec<Arg> {
    vec![
        value("sync-address", None, "HOST[:PORT],…", "Fetch from these buffers"),
        value("sync-port", None, "PORT", "Their TCP port, where they name none [default: 41121]").value_parser(port),
        value("sync-timeout", None, "SECONDS", "Wait so long for a source, each try [default: 10]").value_parser(seconds),
        value("sync-retries", None, "NUMBER", "Try again so many times: a source has (retries + 1) x timeout seconds [default: 3]")
            .value_parser(values::count(0..=1000)),
        value("sync-block-size", None, "BYTES", "Move so many bytes at once [default: 262144]")
            .value_parser(values::bytes(512..=1 << 20)),
        value("connections", None, "NUMBER", "Open so many connections at once to a source [default: 4]")
            .value_parser(values::count(1..=256)),
        value("max-connections", None, "NUMBER", "Open so many connections at once to all sources together; where more are wanted, they take turns [default: 1024]")
            .value_parser(values::count(1..=65536)),
        value("interval", None, "SECONDS", "Look again after so long, once a source is empty [default: 10]")
            .value_parser(seconds),
        value("folders", None, "NAME,…", "Fetch these folders of the sources' filters too, such as conf,md5,collections"),
        value("sync-mode", None, "MODE", "safe (RECV, then MV and compare: loses nothing with a server that forgets a file with its last byte), fast (MV alone), or auto (asks the server) [default: auto]")
            .value_parser(Mode::from_str),
        value("password", None, "PASSWORD", "Tell the sources this password (others can read a command line: --password-file keeps it from them)")
            .short('x')
            .value_parser(values::secret()),
        value("password-file", None, "FILE", "Tell the sources the password in this file").value_parser(values::existing_file()),
        switch("once", None, "Make one round, and exit with 0 if all sources were emptied"),
        value("drain-timeout", None, "SECONDS", "On SIGTERM, give transfers under way so long to end [default: 25]")
            .value_parser(seconds),
    ]
}

fn destination() -> Vec<Arg> {
    vec![
        value("incoming-dir", None, "DIR", "Put the files into this folder")
            .value_parser(value_parser!(PathBuf)),
        switch(
            "overwrite",
            None,
            "Replace a file of the same name and other content, instead of keeping both",
        ),
        value(
            "forward-to",
            None,
            "HOST[:PORT],…",
            "Send the files on to this Tentacle server, instead of into a folder; to several by turns, of which one that is dead or full is passed over",
        )
        .value_parser(addresses),
        value("forward-password", None, "PASSWORD", "Tell those servers this password")
            .value_parser(values::secret()),
        value("forward-password-file", None, "FILE", "Tell those servers the password in this file")
            .value_parser(values::existing_file()),
    ]
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("allowed are 0 and 1".to_owned()),
    }
}

const TOKENS: &[Token] = &[
    Token { name: "syncserver", sets: Sets::Value("syncserver") },
    Token { name: "sync_address", sets: Sets::Value("sync-address") },
    Token { name: "sync_port", sets: Sets::Value("sync-port") },
    Token { name: "sync_block_size", sets: Sets::Value("sync-block-size") },
    Token { name: "sync_ca", sets: Sets::Value("sync-ca") },
    Token { name: "sync_cert", sets: Sets::Value("sync-cert") },
    Token { name: "sync_key", sets: Sets::Value("sync-key") },
    Token { name: "sync_retries", sets: Sets::Value("sync-retries") },
    Token { name: "sync_timeout", sets: Sets::Value("sync-timeout") },
    Token { name: "incomingdir", sets: Sets::Value("incoming-dir") },
    Token { name: "http_addr", sets: Sets::Value("http-addr") },
];

const AFTER_HELP: &str = "\
Each option is also read from TENTACLE_EXT_OPTS (a piece of command line), from a variable
such as TENTACLE_SYNC_ADDRESS, from the file of --config, and from that of -F, in this order.

Examples:
  tentacle-sync-puller -F /etc/pandora/pandora_server.conf
        as the Sync server: fetch from sync_address into incomingdir
  tentacle-sync-puller --sync-address 10.0.0.1,site2:41122 --incoming-dir /var/spool/pandora/data_in
        the same without a file
  tentacle-sync-puller --config sources.yaml --once
        empty each source of sources.yaml once, for a timer:
          incoming_dir: /var/spool/pandora/data_in
          defaults: {connections: 8, folders: [conf, md5, collections]}
          sources:
            - address: 10.0.0.1
            - {address: ship7.example, port: 41122, password_file: /run/secrets/ship7, interval: 300}";
