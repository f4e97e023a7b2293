//! The client's options: the whole set of the peers' client.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Command, value_parser};
use protocol::{Deadline, Form, PasswordDigest};
use runtime::{
    logs,
    options::{
        Layers, OptionError, Program, secret_from, switch, value,
        values::{self, port, seconds},
    },
};
use security::ClientTls;
use transport::{Address, HttpProxy};

/// What a client does; valid.
#[derive(Debug)]
pub struct Options {
    /// The server.
    pub server: Address,
    /// The address of this machine that the connection comes from.
    pub local: Option<IpAddr>,
    /// The HTTP proxy that the server is reached through.
    pub proxy: Option<HttpProxy>,
    /// What is done there.
    pub task: Task,
    /// How they travel.
    pub form: Form,
    /// How long the server is waited for.
    pub deadline: Deadline,
    /// What the server must be told first.
    pub password: Option<PasswordDigest>,
    /// The certificates; without them, the connection is plain.
    pub tls: Option<ClientTls>,
    /// The files as they were named; one at least, but for [`Task::Check`].
    pub files: Vec<PathBuf>,
    /// The log.
    pub logs: logs::Settings,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Files are sent.
    Send,
    /// Files are fetched.
    Get,
    /// The server is checked.
    Check,
}

/// The options that the client takes, for a program of this name.
pub fn program(name: &'static str) -> Program {
    let command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Sends files to a server of the Tentacle protocol, or fetches them into this folder.")
        .after_help(AFTER_HELP)
        .args(connecting())
        .args(security::client_arguments())
        .args(transferring())
        .args(logs::arguments())
        .mut_arg("quiet", |quiet| quiet.help("Say nothing, errors neither: the exit status alone tells"))
        .mut_arg("verbose", |verbose| verbose.help("Log what is done"));
    Program::new(command).secrets(&["password", "proxy"])
}

impl Options {
    /// Takes what the layers say, and the defaults for the rest.
    ///
    /// # Errors
    /// One line that names the option, its value and what is allowed.
    pub fn from_layers(layers: &Layers) -> Result<Self, OptionError> {
        let port = layers.get("port").copied().unwrap_or(41121);
        let timeout = layers.get("timeout").copied().unwrap_or(Duration::from_secs(1));
        let retries = layers.get::<u64>("retries").copied().unwrap_or(3);
        let files: Vec<PathBuf> = layers.operands("files").into_iter().cloned().collect();
        let task = task(layers, &files)?;
        if files.is_empty() && task != Task::Check {
            return Err(layers.refuse(
                "files",
                "no file is named (name the files to send, or with -g those to get; --help shows examples)",
            ));
        }
        let password = secret_from(layers, "password", "password-file")?;
        let password =
            password.map(|source| source.read().map_err(|why| layers.refuse("password-file", why)));
        Ok(Self {
            server: server(layers, port)?,
            local: layers.get("bind-address").copied(),
            proxy: layers.get("proxy").cloned(),
            task,
            form: if layers.switch("compress") { Form::Zip } else { Form::Plain },
            deadline: Deadline::new(timeout, u32::try_from(retries).unwrap_or(u32::MAX)),
            tls: ClientTls::from_layers(layers)?,
            password: password.transpose()?.map(|password| PasswordDigest::of(password.expose())),
            files,
            logs: logs::Settings::from_layers(layers),
        })
    }

    /// Whether nothing is to be said.
    pub fn is_quiet(&self) -> bool {
        self.logs.verbosity == logs::Verbosity::Quiet
    }
}

fn task(layers: &Layers, files: &[PathBuf]) -> Result<Task, OptionError> {
    if !layers.switch("check") {
        return Ok(if layers.switch("get") { Task::Get } else { Task::Send });
    }
    if let Some(file) = files.first() {
        let why = format!(
            "{}: --check sends a file of its own (leave the files out, or leave --check out)",
            file.display()
        );
        return Err(layers.refuse("files", why));
    }
    match ["get", "compress"].into_iter().find(|id| layers.switch(id)) {
        Some(id) => Err(layers.refuse(id, "does not go with --check (leave one of the two out)")),
        None => Ok(Task::Check),
    }
}

fn server(layers: &Layers, port: u16) -> Result<Address, OptionError> {
    let text = layers.get::<String>("address").map_or("127.0.0.1", String::as_str);
    Address::parse(text, port).map_err(|why| OptionError::Value {
        option: layers.label("address"),
        value: text.to_owned(),
        reason: why.to_string(),
    })
}

fn connecting() -> Vec<Arg> {
    vec![
        value(
            "address",
            'a',
            "ADDRESS",
            "The server: an address or a host name, also with :PORT behind it [default: 127.0.0.1]",
        ),
        value("port", 'p', "PORT", "The server's TCP port [default: 41121]").value_parser(port),
        value("bind-address", 'b', "LOCALADDRESS", "Connect from this address of this machine")
            .value_parser(local_address),
        value(
            "proxy",
            'y',
            "[USER:PASSWORD@]HOST:PORT",
            "Reach the server through this HTTP proxy (CONNECT)",
        )
        .value_parser(value_parser!(HttpProxy)),
        value(
            "password",
            'x',
            "PASSWORD",
            "The server's password (others can read a command line: --password-file keeps it from them)",
        )
        .value_parser(values::secret()),
        value("password-file", None, "FILE", "The server's password is in this file")
            .value_parser(values::existing_file()),
        value("timeout", 't', "SECONDS", "Wait so long for the server, each try [default: 1]")
            .value_parser(seconds),
        value(
            "retries",
            'r',
            "NUMBER",
            "Try again so many times: the server has (retries + 1) x timeout seconds [default: 3]",
        )
        .value_parser(values::count(0..=1000)),
    ]
}

fn transferring() -> Vec<Arg> {
    vec![
        switch("get", 'g', "Get the files from the server into this folder, instead of sending them"),
        switch("compress", 'z', "Compress the files on their way"),
        switch(
            "check",
            None,
            "See that a receiver works: send a small file of one's own, fetch it, and take it out again",
        ),
        Arg::new("files")
            .value_name("FILE")
            .num_args(0..)
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .help("The files to send, or with -g the names of those to get"),
    ]
}

fn local_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an address of this machine is needed, of IPv4 or IPv6".to_owned())
}

const AFTER_HELP: &str = "\
Each option is also read from TENTACLE_EXT_OPTS (a piece of command line), and from a variable
such as TENTACLE_ADDRESS, in this order.

Examples:
  tentacle_client -a 192.168.1.1 /var/spool/agent/web01.data
        send a file
  tentacle_client -a 192.168.1.1 -z --password-file /etc/tentacle/password *.data
        send several, compressed, to a server with a password
  tentacle_client -a 192.168.1.1 -g web01.conf web01.md5
        get two files into this folder
  tentacle_client -a 192.168.1.1 --password-file /etc/tentacle/password --check
        see that a receiver with -I stores a file and gives it out again";
