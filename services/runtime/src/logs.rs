//! Logs: one line an event, human on a terminal and JSON otherwise.

mod ids;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, builder::EnumValueParser, builder::PossibleValue, value_parser};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::options::{Layers, Setting, switch, value};
use crate::telemetry::{BoxedLayer, SPANS};

/// How a program logs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// How much is written.
    pub verbosity: Verbosity,

    /// The form of a line.
    pub format: Format,

    /// The file that lines are appended to; standard error if none.
    pub file: Option<PathBuf>,
}

/// How much is written. Other crates than the project's own speak at warn and above only.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verbosity {
    /// Nothing (`-q`).
    Quiet,

    /// Info and above.
    #[default]
    Normal,

    /// Debug and above (`-v`).
    Verbose,

    /// Everything (`-V`).
    VeryVerbose,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// [`Format::Human`] on a terminal, else [`Format::Json`].
    #[default]
    Auto,

    /// Time, level, target, message, fields.
    Human,

    /// One JSON object.
    Json,
}

/// Why the logs did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file of `-l` cannot be opened for appending.
    #[error("log file {path}: {source} (-l/--log-file names a file that can be written, or is left out)")]
    Open {
        /// The file as it was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// A second start in one process.
    #[error("the logs are started already")]
    Started,
}

/// The options that every program has for its logs: `-q`, `-v`, `-V`, `-l`, `--log-format`.
pub fn arguments() -> Vec<Arg> {
    vec![
        switch("quiet", 'q', "Log nothing"),
        switch("verbose", 'v', "Log more: what each connection does"),
        switch("very-verbose", 'V', "Log everything"),
        value("log-file", 'l', "FILE", "Append the log to FILE instead of writing it to standard error")
            .value_parser(value_parser!(PathBuf)),
        value(
            "log-format",
            None,
            "FORMAT",
            "The form of a log line: human, json, or auto (human on a terminal, else json) [default: auto]",
        )
        .value_parser(EnumValueParser::<Format>::new())
        .hide_possible_values(true),
    ]
}

/// The settings of the token `verbose` of `tentacle_server.conf`: 0, 1 (`-v`) or 2 (`-V`).
pub fn verbose_token(value: &OsStr) -> Result<Vec<Setting<'static>>, String> {
    match value.as_encoded_bytes() {
        b"0" => Ok(vec![Setting::Off("verbose"), Setting::Off("very-verbose")]),
        b"1" => Ok(vec![Setting::On("verbose"), Setting::Off("very-verbose")]),
        b"2" => Ok(vec![Setting::On("very-verbose")]),
        _ => Err("allowed are 0, 1 (verbose) and 2 (very verbose)".to_owned()),
    }
}

/// The logs of a process, which end when this is dropped: what waits is written first, for a second at most.
#[derive(Debug)]
#[must_use = "the logs end when this is dropped"]
pub struct Logs(Option<(ErrorCounter, WorkerGuard)>);

/// Starts the logs of this process. The file is created if it is missing.
///
/// Lines are written by a thread of their own, so that who reads them slowly holds up nobody: of more than 8192 that
/// wait, the newest are dropped, and counted. A line that cannot be written is dropped too: the disk of the log may be
/// full while the spool's is not.
///
/// What `layers` tell besides, they tell whether anything is written or not.
pub(crate) fn start(settings: &Settings, mut layers: Vec<BoxedLayer>) -> Result<Logs, LogError> {
    if settings.verbosity == Verbosity::Quiet && layers.is_empty() {
        return Ok(Logs(None));
    }
    if settings.verbosity == Verbosity::Quiet {
        let subscriber = Registry::default().with(layers);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
        return Ok(Logs(None));
    }
    let output = Output::open(settings.file.as_ref())?;
    let terminal = output.is_terminal();
    let (writer, guard) = in_background(output);
    let dropped = writer.error_counter();
    layers.push(layer(settings.format, terminal, writer).with_filter(levels(settings.verbosity)).boxed());
    let subscriber = Registry::default().with(layers);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    Ok(Logs(Some((dropped, guard))))
}

impl Drop for Logs {
    fn drop(&mut self) {
        let dropped = self.0.as_ref().map_or(0, |(dropped, _)| dropped.dropped_lines());
        if dropped > 0 {
            tracing::warn!(lines = dropped, "log lines were dropped: they were not read fast enough");
        }
    }
}

/// Bytes as text, for a log: what peers send is not always UTF-8. No more than the first 300 of them.
pub struct Escaped<'a>(pub &'a [u8]);

// === impl Settings ===

impl Settings {
    /// The settings that the options of [`arguments`] ask for. Of `-q`, `-V` and `-v` the one in the highest layer
    /// counts, and in one layer the first of these three.
    pub fn from_layers(layers: &Layers) -> Settings {
        let verbosity = [
            ("quiet", Verbosity::Quiet),
            ("very-verbose", Verbosity::VeryVerbose),
            ("verbose", Verbosity::Verbose),
        ]
        .into_iter()
        .filter(|(id, _)| layers.switch(id))
        .min_by_key(|(id, _)| layers.source_of(id))
        .map_or(Verbosity::Normal, |(_, verbosity)| verbosity);
        Settings {
            verbosity,
            format: layers.get::<Format>("log-format").copied().unwrap_or_default(),
            file: layers.get::<PathBuf>("log-file").cloned(),
        }
    }
}

// === impl Escaped ===

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0[..self.0.len().min(300)].escape_ascii())
    }
}

// === impl Format ===

impl clap::ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Format] {
        &[Format::Auto, Format::Human, Format::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Format::Auto => "auto",
            Format::Human => "human",
            Format::Json => "json",
        }))
    }
}

fn layer(format: Format, terminal: bool, output: NonBlocking) -> Box<dyn Layer<Registry> + Send + Sync> {
    // A failed write must not lead to a message on standard error: where that fails too, it would panic.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(output);
    if format == Format::Human || (format == Format::Auto && terminal) {
        return layer
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
            .map_event_format(ids::Human)
            .boxed();
    }
    layer
        .with_ansi(false)
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .map_event_format(ids::Json)
        .boxed()
}

fn in_background(output: Output) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(MOST_WAITING).lossy(true);
    builder.thread_name("logs").finish(LineWriter::new(output))
}

/// What is written at this verbosity: no spans, and nothing of what would send lines of its own for each line.
pub(crate) fn levels(verbosity: Verbosity) -> Targets {
    let (own, others) = match verbosity {
        Verbosity::Quiet => (LevelFilter::OFF, LevelFilter::OFF),
        Verbosity::Normal => (LevelFilter::INFO, LevelFilter::WARN),
        Verbosity::Verbose => (LevelFilter::DEBUG, LevelFilter::WARN),
        Verbosity::VeryVerbose => (LevelFilter::TRACE, LevelFilter::WARN),
    };
    let silent =
        [SPANS, "opentelemetry", "tonic", "h2", "hyper", "tower"].map(|name| (name, LevelFilter::OFF));
    Targets::new()
        .with_default(others)
        .with_targets(OWN_CRATES.iter().map(|name| (*name, own)))
        .with_targets(silent)
}

enum Output {
    Stderr,
    File(File),
}

/// Writes each event, which arrives in one call, as one line, and the lines that
/// come together in one call. It is flushed when no more wait.
struct LineWriter {
    output: Output,
    lines: Vec<u8>,
}

// === impl Output ===

impl Output {
    fn open(file: Option<&PathBuf>) -> Result<Output, LogError> {
        let Some(path) = file else {
            return Ok(Output::Stderr);
        };
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(Output::File)
            .map_err(|source| LogError::Open { path: path.clone(), source })
    }

    fn is_terminal(&self) -> bool {
        match self {
            Output::Stderr => io::stderr().is_terminal(),
            Output::File(file) => file.is_terminal(),
        }
    }
}

// === impl LineWriter ===

impl LineWriter {
    fn new(output: Output) -> LineWriter {
        LineWriter { output, lines: Vec::new() }
    }

    fn write_lines(&mut self) -> io::Result<()> {
        let written = match &mut self.output {
            Output::Stderr => io::stderr().write_all(&self.lines),
            // Opened for appending: the system puts each write whole behind the one before.
            Output::File(file) => file.write_all(&self.lines),
        };
        self.lines.clear();
        written
    }
}

impl Write for LineWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(&one_line(event));
        if self.lines.len() >= MOST_TOGETHER {
            self.write_lines()?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.write_lines();
        // Whoever logs meanwhile need not wake this thread, which costs more than the line.
        std::thread::sleep(PAUSE);
        written
    }
}

/// The event without line ends inside, which a name or an error's text may bring along.
fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(event);
    }
    let mut line: Vec<u8> =
        text.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect();
    line.push(b'\n');
    Cow::Owned(line)
}

/// Lines that wait to be written: about 2 MB.
const MOST_WAITING: usize = 8192;

/// Bytes of lines that are written together, about.
const MOST_TOGETHER: usize = 32 * 1024;

/// How long lines may wait for others.
const PAUSE: Duration = Duration::from_millis(2);

/// The project's own crates, by the names that events carry.
const OWN_CRATES: &[&str] = &[
    "client",
    "protocol",
    "proxy",
    "receiver",
    "runtime",
    "security",
    "server",
    "spool",
    "sync_puller",
    "tentacle_client",
    "tentacle_proxy",
    "tentacle_receiver",
    "tentacle_server",
    "tentacle_sync_puller",
    "transport",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Given, Program};
    use std::ffi::OsString;

    fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
        let program = Program::new(clap::Command::new("tentacle").version("1").args(super::arguments()));
        let environment =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        match program.parse(arguments.iter().map(OsString::from), environment).unwrap() {
            Given::Layers(layers) => Settings::from_layers(&layers),
            Given::Text(text) => panic!("help instead of options: {text}"),
        }
    }

    fn logged(format: Format, event: impl FnOnce()) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = Output::open(Some(&file.path().to_owned())).unwrap();
        let terminal = output.is_terminal();
        let (writer, guard) = in_background(output);
        let layer = layer(format, terminal, writer).with_filter(levels(Verbosity::Normal));
        tracing::subscriber::with_default(Registry::default().with(layer), event);
        drop(guard);
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn the_highest_layer_says_how_much_is_logged() {
        assert_eq!(settings(&[], &[]).verbosity, Verbosity::Normal);
        assert_eq!(settings(&["-vV"], &[]).verbosity, Verbosity::VeryVerbose);
        assert_eq!(settings(&["-qV"], &[]).verbosity, Verbosity::Quiet);
        assert_eq!(settings(&["-v"], &[("TENTACLE_QUIET", "1")]).verbosity, Verbosity::Verbose);
        assert_eq!(settings(&["-v"], &[("TENTACLE_VERY_VERBOSE", "1")]).verbosity, Verbosity::Verbose);
    }

    #[test]
    fn a_file_and_a_format_are_taken() {
        let settings = settings(&["-l", "/dev/null", "--log-format", "human"], &[]);
        assert_eq!(settings.file, Some(PathBuf::from("/dev/null")));
        assert_eq!(settings.format, Format::Human);
    }

    #[test]
    fn an_event_is_one_json_object_in_a_file() {
        let line = logged(Format::Auto, || tracing::info!(peer = "127.0.0.1:9", "a\nb"));
        assert_eq!(line.lines().count(), 1);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["message"], "a\nb");
        assert_eq!(event["peer"], "127.0.0.1:9");
        assert_eq!(event["level"], "INFO");
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_human_event_is_one_line_without_colours_in_a_file() {
        let line = logged(Format::Human, || tracing::warn!("a\nb"));
        assert_eq!(line.lines().count(), 1);
        assert!(line.ends_with("a b\n") && !line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn other_crates_speak_at_warn_and_above() {
        let lines = logged(Format::Json, || {
            tracing::info!(target: "tokio", "unheard");
            tracing::warn!(target: "tokio", "heard");
            tracing::debug!("unheard");
        });
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.contains("\"heard\""));
    }

    #[test]
    fn a_full_disk_does_not_end_the_program() {
        let output = Output::open(Some(&PathBuf::from("/dev/full"))).unwrap();
        let (writer, guard) = in_background(output);
        let subscriber = Registry::default().with(layer(Format::Json, false, writer));
        tracing::subscriber::with_default(subscriber, || tracing::info!("lost"));
        drop(guard);
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let error = Output::open(Some(&PathBuf::from("/missing/file"))).err().unwrap().to_string();
        assert!(error.starts_with("log file /missing/file: No such file"), "{error}");
        assert!(!error.contains('\n'));
    }
}
