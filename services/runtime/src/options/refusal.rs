use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::layers::Origin;

/// Why a program's options cannot be worked with. Every message is one line that names the option as it was given,
/// the value (but for secrets) and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// A value that its option does not take.
    #[error("{option}: {value:?}: {reason}")]
    Value {
        /// The option as it was given.
        option: String,
        /// The value as it was given.
        value: String,
        /// What is allowed.
        reason: String,
    },

    /// An option that cannot be taken, whatever its value is or because of a value that is not to be shown.
    #[error("{option}: {reason}")]
    Refused {
        /// The option as it was given.
        option: String,
        /// What is allowed.
        reason: String,
    },

    /// An argument that is no option of the program, and no operand that it takes.
    #[error("{place}{argument:?}: {reason}")]
    Unknown {
        /// The layer, with a colon; empty on the command line.
        place: &'static str,
        /// The argument as it was given.
        argument: String,
        /// What is allowed.
        reason: String,
    },

    /// `TENTACLE_EXT_OPTS` cannot be read as options.
    #[error("TENTACLE_EXT_OPTS: {0}")]
    ExtOpts(&'static str),

    /// The configuration file cannot be read.
    #[error("configuration file {path}: {source}")]
    File {
        /// The file as it was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// A line of the configuration file begins with an unknown token.
    #[error("{path} line {line}: {token:?}: no such token (allowed are {allowed})")]
    Token {
        /// The file as it was given.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The token as it was given.
        token: String,
        /// All tokens, with commas.
        allowed: String,
    },
}

/// The option as it was given in that place: `-p/--port` where it was typed, else the place, which names it.
pub(super) fn label(command: &Command, origin: &Origin, id: &str) -> String {
    let typed = || match command.get_arguments().find(|option| option.get_id() == id) {
        Some(option) => flags(option),
        None => id.to_owned(),
    };
    match origin {
        Origin::CommandLine => typed(),
        Origin::ExtOpts => format!("{origin}: {}", typed()),
        Origin::Environment(_) | Origin::File { .. } => origin.to_string(),
    }
}

/// One line for what clap says in several.
pub(super) fn from_clap(
    command: &Command,
    secrets: &[&str],
    origin: &Origin,
    error: &clap::Error,
) -> OptionError {
    let named = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let option = named.as_deref().and_then(|named| option_of(command, named));
    let (Some(option), true) = (option, error.kind() != ErrorKind::UnknownArgument) else {
        return unknown(command, origin, named, error);
    };

    let id = option.get_id().as_str();
    let label = label(command, origin, id);
    let reason = reason(option, &value, error);
    if value.is_empty() || secrets.contains(&id) {
        return OptionError::Refused { option: label, reason };
    }
    OptionError::Value { option: label, value, reason }
}

fn reason(option: &Arg, value: &str, error: &clap::Error) -> String {
    if let Some(reason) = error.source() {
        return reason.to_string().replace('\n', " ");
    }
    if let Some(ContextValue::Strings(allowed)) = error.get(ContextKind::ValidValue)
        && !allowed.is_empty()
    {
        return format!("allowed are {}", allowed.join(", "));
    }
    match error.kind() {
        ErrorKind::TooManyValues => "it is a switch and takes no value".to_owned(),
        ErrorKind::InvalidValue if value.is_empty() => {
            let names = option.get_value_names().unwrap_or_default();
            let name = names.first().map_or("value", |name| name.as_str());
            format!("a value is needed ({name})")
        }
        kind => kind.to_string(),
    }
}

fn unknown(command: &Command, origin: &Origin, named: Option<String>, error: &clap::Error) -> OptionError {
    let place = if matches!(origin, Origin::ExtOpts) { "TENTACLE_EXT_OPTS: " } else { "" };
    let Some(argument) = named else {
        // The one error without an argument: bytes that are no UTF-8 in a value that must be.
        let option = match origin {
            Origin::CommandLine => "an argument".to_owned(),
            origin => origin.to_string(),
        };
        return OptionError::Refused { option, reason: one_line(error) };
    };
    let reason = match text(error, ContextKind::SuggestedArg) {
        Some(suggested) => format!("no such option (is {suggested} meant?)"),
        None if argument.starts_with('-') => {
            format!("no such option (`{} --help` lists them)", command.get_name())
        }
        None => "only options are allowed here, no operands".to_owned(),
    };
    OptionError::Unknown { place, argument, reason }
}

fn one_line(error: &clap::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidUtf8 => "the value is not UTF-8 text".to_owned(),
        kind => kind.to_string(),
    }
}

/// The option that clap calls `--port <PORT>`, `-p <PORT>` or `[FILE]...`.
fn option_of<'a>(command: &'a Command, named: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|option| option.to_string() == named)
}

fn flags(option: &Arg) -> String {
    match (option.get_short(), option.get_long()) {
        (Some(short), Some(long)) => format!("-{short}/--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => option
            .get_value_names()
            .and_then(|names| names.first())
            .map_or_else(|| option.get_id().to_string(), |name| name.to_string()),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}
