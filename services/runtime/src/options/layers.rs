use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::{OptionError, refusal};

/// Where an option was given, the highest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// An argument of the program.
    CommandLine,

    /// A word of `TENTACLE_EXT_OPTS`.
    ExtOpts,

    /// A variable of the option's own.
    Environment,

    /// A line of the configuration file.
    File,
}

/// All that was given, in layers. Asked by the id of an option of the program's command; another id is a mistake in
/// the program, and panics.
#[derive(Clone)]
pub struct Layers {
    /// Gives messages the names of options.
    command: Box<Command>,

    /// The highest first.
    layers: Vec<Layer>,
}

/// One place that gives options: the command line, `TENTACLE_EXT_OPTS`, one variable, or one line of the file.
#[derive(Clone)]
pub(super) struct Layer {
    origin: Origin,
    matches: ArgMatches,

    /// Switches that this layer turns off.
    off: Vec<String>,
}

/// Where a layer comes from, as messages name it.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    CommandLine,
    ExtOpts,
    Environment(String),
    File { path: PathBuf, line: usize, token: &'static str },
}

// === impl Layers ===

impl Layers {
    pub(super) fn new(command: &Command) -> Layers {
        Layers { command: Box::new(command.clone()), layers: Vec::new() }
    }

    pub(super) fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// The option's value in the highest layer that gives it. `T` is what its value parser makes.
    pub fn get<T: Clone + Send + Sync + 'static>(&self, id: &str) -> Option<&T> {
        self.first(id)?.matches.get_one(id)
    }

    /// The option's values in the highest layer that gives it, for an option that collects several.
    pub fn get_many<T: Clone + Send + Sync + 'static>(&self, id: &str) -> Option<Vec<&T>> {
        Some(self.first(id)?.matches.get_many(id)?.collect())
    }

    /// Whether the switch is on: as the highest layer that turns it on or off says, else off. For an option with a
    /// value, whether it is given.
    pub fn switch(&self, id: &str) -> bool {
        self.first(id).is_some_and(|layer| layer.has(id))
    }

    /// The operands by that id, which only the command line has.
    pub fn operands<T: Clone + Send + Sync + 'static>(&self, id: &str) -> Vec<&T> {
        self.get_many(id).unwrap_or_default()
    }

    /// The highest layer that gives the option, or turns the switch on or off.
    pub fn source_of(&self, id: &str) -> Option<Source> {
        self.first(id).map(|layer| layer.origin.source())
    }

    /// The option as it was given: `-p/--port`, `TENTACLE_PORT`, `FILE line 12: port`. One that was not given is
    /// named as on the command line.
    pub fn label(&self, id: &str) -> String {
        match self.first(id) {
            Some(layer) => refusal::label(&self.command, &layer.origin, id),
            None => refusal::label(&self.command, &Origin::CommandLine, id),
        }
    }

    /// The error of an option that is well-formed by itself and cannot be worked with, such as two options that
    /// exclude each other. `reason` says what is allowed, in one line.
    pub fn refuse(&self, id: &str, reason: impl Into<String>) -> OptionError {
        OptionError::Refused { option: self.label(id), reason: reason.into() }
    }

    fn first(&self, id: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.has(id) || layer.off.iter().any(|off| off == id))
    }
}

/// Without values, as some are secrets.
impl fmt::Debug for Layers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.layers.iter().map(|layer| &layer.origin)).finish()
    }
}

// === impl Layer ===

impl Layer {
    pub(super) fn new(origin: Origin, matches: ArgMatches) -> Layer {
        Layer { origin, matches, off: Vec::new() }
    }

    pub(super) fn with_off(self, off: Vec<String>) -> Layer {
        Layer { off, ..self }
    }

    /// Whether this layer gives the option a value, or turns the switch on.
    pub(super) fn has(&self, id: &str) -> bool {
        self.matches.value_source(id) == Some(ValueSource::CommandLine)
    }
}

// === impl Origin ===

impl Origin {
    fn source(&self) -> Source {
        match self {
            Origin::CommandLine => Source::CommandLine,
            Origin::ExtOpts => Source::ExtOpts,
            Origin::Environment(_) => Source::Environment,
            Origin::File { .. } => Source::File,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::CommandLine => formatter.write_str("command line"),
            Origin::ExtOpts => formatter.write_str("TENTACLE_EXT_OPTS"),
            Origin::Environment(variable) => formatter.write_str(variable),
            Origin::File { path, line, token } => {
                write!(formatter, "{} line {line}: {token}", path.display())
            }
        }
    }
}
