//! Options in layers, each overriding those below: command line, `TENTACLE_EXT_OPTS`, environment, configuration
//! file. What none of them gives is the program's own default.
//!
//! A [`Program`] is a `clap::Command` whose options have no defaults, plus what clap cannot say of them. Every layer
//! is read by the same command, so an option means the same and is checked the same wherever it is given.

mod file;
mod layers;
mod refusal;
mod secret;
pub mod service;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

pub use file::{FileFormat, Line, Sets, Setting, Token};
pub use layers::{Layers, Source};
pub use refusal::OptionError;
pub use secret::{Secret, SecretSource, secret_from};

use layers::{Layer, Origin};

/// A program's options: the command that reads them, and what clap does not know of them.
#[derive(Clone, Debug)]
pub struct Program {
    command: Command,

    /// Options whose value appears in no message.
    secrets: Vec<&'static str>,

    /// Options that end the start.
    not_yet: &'static [NotYet],

    /// The configuration file, if the program reads one.
    file: Option<Configuration>,
}

/// An option that is documented, and that this version does not carry out.
#[derive(Clone, Copy, Debug)]
pub struct NotYet {
    /// The option's id in the command.
    pub id: &'static str,

    /// What to say: `TLS is not in this version; remove it, or put a TLS proxy in front`.
    pub what: &'static str,
}

/// What [`Program::parse`] was asked for.
#[derive(Debug)]
pub enum Given {
    /// Options to work with.
    Layers(Layers),

    /// A text to show on standard output, for `--help` or `--version`.
    Text(String),
}

#[derive(Clone, Copy, Debug)]
struct Configuration {
    /// The option that names the file.
    option: &'static str,
    format: FileFormat,
    tokens: &'static [Token],
}

/// An option with a value, whose id is its long name.
pub fn value(
    id: &'static str,
    short: impl Into<Option<char>>,
    value_name: &'static str,
    help: &'static str,
) -> Arg {
    Arg::new(id).long(id).short(short.into()).value_name(value_name).help(help)
}

/// An option without a value, whose id is its long name.
pub fn switch(id: &'static str, short: impl Into<Option<char>>, help: &'static str) -> Arg {
    Arg::new(id).long(id).short(short.into()).action(ArgAction::SetTrue).help(help)
}

// === impl Program ===

impl Program {
    /// The program with the options and operands of `command`, which has a version. None of them is required, has a
    /// default or an environment variable of its own: those are of no layer. `-h`, `--help` and `--version` (which has no short
    /// form: `-V` is the peers' "very verbose") are added.
    ///
    /// A repeated option counts by its last value, and a value may begin with a dash, as with the peers.
    pub fn new(command: Command) -> Program {
        let help =
            Arg::new("help").short('h').long("help").action(ArgAction::HelpLong).help("Show this text");
        let version = Arg::new("version").long("version").action(ArgAction::Version).help("Show the version");
        let name = command.get_name().to_owned();
        let mut command = command
            .bin_name(name)
            .no_binary_name(true)
            .args_override_self(true)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .mut_args(|arg| {
                let takes_value = arg.get_action().takes_values() && !arg.is_positional();
                arg.allow_hyphen_values(takes_value)
            })
            .arg(help)
            .arg(version);
        // An option's name as messages have it is known once the command is built.
        command.build();
        Program { command, secrets: Vec::new(), not_yet: &[], file: None }
    }

    /// Names the options whose value appears in no message.
    pub fn secrets(mut self, ids: &[&'static str]) -> Program {
        self.secrets.extend(ids);
        self
    }

    /// Names the options that are documented and not there yet. A switch that is off, or an empty value of a lower
    /// layer, is as if it were not given.
    pub fn not_yet(mut self, options: &'static [NotYet]) -> Program {
        self.not_yet = options;
        self
    }

    /// Has the program read the configuration file that `option` (of type [`PathBuf`]) names.
    pub fn file(mut self, option: &'static str, format: FileFormat, tokens: &'static [Token]) -> Program {
        self.file = Some(Configuration { option, format, tokens });
        self
    }

    /// The options of this process. None where a text was asked for and has been shown: the program shall exit
    /// with 0.
    pub fn from_process(&self) -> Result<Option<Layers>, OptionError> {
        match self.parse(std::env::args_os().skip(1), std::env::vars_os())? {
            Given::Layers(layers) => Ok(Some(layers)),
            Given::Text(text) => {
                // `--help | head` closes the pipe early.
                let _ = io::stdout().write_all(text.as_bytes());
                Ok(None)
            }
        }
    }

    /// Reads all layers: `arguments` without the program's name, and the variables of `environment`. The first wrong
    /// thing, from the highest layer down, ends it with one line.
    pub fn parse(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Given, OptionError> {
        let environment: Vec<_> = environment.into_iter().filter(|(name, _)| is_ours(name)).collect();
        let mut layers = Layers::new(&self.command);

        match self.typed(Origin::CommandLine, arguments.into_iter().collect())? {
            Typed::Layer(layer) => layers.push(layer),
            Typed::Text(text) => return Ok(Given::Text(text)),
        }
        if let Some(words) = value_of(&environment, EXT_OPTS) {
            match self.typed(Origin::ExtOpts, shell_words(words)?)? {
                Typed::Layer(layer) => layers.push(self.without_operands(layer)?),
                Typed::Text(text) => return Ok(Given::Text(text)),
            }
        }
        for layer in self.environment(&environment)? {
            layers.push(layer);
        }
        for layer in self.configuration(&layers)? {
            layers.push(layer);
        }
        self.refuse_not_yet(&layers)?;
        Ok(Given::Layers(layers))
    }

    fn typed(&self, origin: Origin, arguments: Vec<OsString>) -> Result<Typed, OptionError> {
        use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
        match self.command.clone().try_get_matches_from(arguments) {
            Ok(matches) => Ok(Typed::Layer(Layer::new(origin, matches))),
            Err(shown) if matches!(shown.kind(), DisplayHelp | DisplayVersion) => {
                Ok(Typed::Text(shown.render().to_string()))
            }
            Err(error) => Err(refusal::from_clap(&self.command, &self.secrets, &origin, &error)),
        }
    }

    fn without_operands(&self, layer: Layer) -> Result<Layer, OptionError> {
        match self.command.get_positionals().find(|operand| layer.has(operand.get_id().as_str())) {
            None => Ok(layer),
            Some(_) => Err(OptionError::ExtOpts("only options are allowed here, no operands")),
        }
    }

    /// One layer a variable that names an option.
    fn environment(&self, environment: &[(OsString, OsString)]) -> Result<Vec<Layer>, OptionError> {
        let mut layers = Vec::new();
        for option in self.command.get_arguments() {
            let id = option.get_id().as_str();
            let Some(variable) = option.get_long().map(variable) else {
                continue;
            };
            let Some(value) = value_of(environment, &variable) else {
                continue;
            };
            if matches!(id, "help" | "version") || is_service_link(environment, &variable, value) {
                continue;
            }
            let origin = Origin::Environment(variable);
            let setting = if option.get_action().takes_values() {
                Setting::Value(id, value.to_owned())
            } else {
                environment_switch(&origin, id, value)?
            };
            layers.push(self.lower(origin, vec![setting])?);
        }
        Ok(layers)
    }

    /// One layer a line that counts, the last line first.
    fn configuration(&self, above: &Layers) -> Result<Vec<Layer>, OptionError> {
        let Some(file) = self.file else {
            return Ok(Vec::new());
        };
        let Some(path) = above.get::<PathBuf>(file.option) else {
            return Ok(Vec::new());
        };
        let mut layers = Vec::new();
        for (line, token) in file::read(path, file.format, file.tokens)? {
            let origin = Origin::File { path: path.clone(), line: line.number, token: token.name };
            let settings = token.settings(&line.value).map_err(|reason| OptionError::Value {
                option: origin.to_string(),
                value: line.value.to_string_lossy().into_owned(),
                reason,
            })?;
            layers.push(self.lower(origin, settings)?);
        }
        Ok(layers)
    }

    /// A layer below the two that are typed: its settings are read as long options.
    fn lower(&self, origin: Origin, settings: Vec<Setting<'_>>) -> Result<Layer, OptionError> {
        let mut arguments = Vec::new();
        let mut off = Vec::new();
        for setting in settings {
            match setting {
                Setting::On(id) => arguments.push(self.long(id)),
                Setting::Off(id) => off.push(id.to_owned()),
                Setting::Value(id, value) => {
                    let mut argument = self.long(id);
                    argument.push("=");
                    argument.push(value);
                    arguments.push(argument);
                }
            }
        }
        let matches = self
            .command
            .clone()
            .try_get_matches_from(arguments)
            .map_err(|error| refusal::from_clap(&self.command, &self.secrets, &origin, &error))?;
        Ok(Layer::new(origin, matches).with_off(off))
    }

    fn long(&self, id: &str) -> OsString {
        let option = self.command.get_arguments().find(|option| option.get_id() == id);
        let long =
            option.and_then(Arg::get_long).expect("tables name long options of the program's own command");
        OsString::from(format!("--{long}"))
    }

    fn refuse_not_yet(&self, layers: &Layers) -> Result<(), OptionError> {
        match self.not_yet.iter().find(|option| layers.switch(option.id)) {
            None => Ok(()),
            Some(option) => Err(layers.refuse(option.id, option.what)),
        }
    }
}

enum Typed {
    Layer(Layer),
    Text(String),
}

fn shell_words(words: &OsStr) -> Result<Vec<OsString>, OptionError> {
    let words = shlex::bytes::split(words.as_bytes())
        .ok_or(OptionError::ExtOpts("a quote is not closed, or a backslash ends it"))?;
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

fn environment_switch<'a>(origin: &Origin, id: &'a str, value: &OsStr) -> Result<Setting<'a>, OptionError> {
    let text = value.to_string_lossy();
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(Setting::On(id)),
        "0" | "false" | "no" | "off" => Ok(Setting::Off(id)),
        _ => Err(OptionError::Value {
            option: origin.to_string(),
            value: text.into_owned(),
            reason: "allowed are 1, true, yes, on and 0, false, no, off".to_owned(),
        }),
    }
}

/// Kubernetes gives every pod the addresses of the services beside it, by names that an option may have too: for a
/// service `tentacle` they are `TENTACLE_SERVICE_HOST` and `TENTACLE_PORT=tcp://10.0.0.1:41121`.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_service_link(environment: &[(OsString, OsString)], variable: &str, value: &OsStr) -> bool {
    let Some(service) = variable.strip_suffix("_PORT") else {
        return false;
    };
    let address =
        [&b"tcp://"[..], b"udp://", b"sctp://"].iter().any(|scheme| value.as_bytes().starts_with(scheme));
    address && value_of(environment, &format!("{service}_SERVICE_HOST")).is_some()
}

/// The variable's value; an empty one is as if absent.
fn value_of<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    let (_, value) = environment.iter().find(|(variable, _)| variable == name)?;
    (!value.is_empty()).then_some(value)
}

fn is_ours(variable: &OsStr) -> bool {
    variable.as_bytes().starts_with(PREFIX.as_bytes())
}

fn variable(long: &str) -> String {
    format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// What the name of every variable of ours begins with.
const PREFIX: &str = "TENTACLE_";

/// The variable whose value is read as a part of a command line.
const EXT_OPTS: &str = "TENTACLE_EXT_OPTS";

#[cfg(test)]
mod tests;
