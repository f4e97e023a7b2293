//! The two formats of configuration files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::OptionError;

/// The form of a configuration file, and what an unknown token in it means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileFormat {
    /// `tentacle_server.conf`: a line that begins with an ASCII letter is a token, blanks, and the value to the end
    /// of the line, without comments and quotes. An unknown token is an error.
    TentacleServer,

    /// `pandora_server.conf`: a token in any case, blanks, value; `#` begins a comment line. Unknown tokens are other
    /// programs', and are passed over.
    PandoraServer,
}

/// A token of a configuration file, and the option that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// The token, in lower case.
    pub name: &'static str,

    /// What its value does.
    pub sets: Sets,
}

/// What a token's value does. The options are named by their ids.
#[derive(Clone, Copy, Debug)]
pub enum Sets {
    /// It is the option's value.
    Value(&'static str),

    /// It turns the switch on with `1` alone, and off with anything else.
    Switch(&'static str),

    /// It is translated by this function, whose error says what is allowed.
    By(fn(&OsStr) -> Result<Vec<Setting<'static>>, String>),
}

/// What one place of a lower layer says of one option.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Setting<'a> {
    /// The switch is on.
    On(&'a str),

    /// The switch is off.
    Off(&'a str),

    /// The option has this value.
    Value(&'a str, OsString),
}

/// A line that says something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,

    /// The token, as [`Token::name`] has it.
    pub token: String,

    /// The value without blanks around it, never empty: a token without a value is as if absent.
    pub value: OsString,
}

// === impl FileFormat ===

impl FileFormat {
    /// The lines of a file that say something, in their order.
    pub fn lines(self, bytes: &[u8]) -> Vec<Line> {
        let lines = bytes.split(|&byte| byte == b'\n').enumerate();
        lines.filter_map(|(index, line)| self.line(index + 1, line)).collect()
    }

    fn line(self, number: usize, line: &[u8]) -> Option<Line> {
        let line = match self {
            FileFormat::TentacleServer if !line.first()?.is_ascii_alphabetic() => return None,
            FileFormat::TentacleServer => line,
            FileFormat::PandoraServer => line.trim_ascii_start(),
        };
        let end = line.iter().position(u8::is_ascii_whitespace)?;
        let (token, value) = (&line[..end], line[end..].trim_ascii());
        if value.is_empty() || token.starts_with(b"#") {
            return None;
        }
        let token = String::from_utf8_lossy(token);
        let token = match self {
            FileFormat::TentacleServer => token.into_owned(),
            FileFormat::PandoraServer => token.to_lowercase(),
        };
        Some(Line { number, token, value: OsStr::from_bytes(value).to_owned() })
    }
}

// === impl Token ===

impl Token {
    /// What this token says by `value`.
    pub(super) fn settings(&self, value: &OsStr) -> Result<Vec<Setting<'static>>, String> {
        match self.sets {
            Sets::Value(id) => Ok(vec![Setting::Value(id, value.to_owned())]),
            Sets::Switch(id) if value == "1" => Ok(vec![Setting::On(id)]),
            Sets::Switch(id) => Ok(vec![Setting::Off(id)]),
            Sets::By(settings) => settings(value),
        }
    }
}

/// The lines of the file that count, the last one first: of each token the last line alone.
pub(super) fn read(
    path: &Path,
    format: FileFormat,
    tokens: &'static [Token],
) -> Result<Vec<(Line, &'static Token)>, OptionError> {
    let mut counting: Vec<(Line, &Token)> = Vec::new();
    let mut lines = format.lines(&contents(path)?);
    if format == FileFormat::TentacleServer
        && let Some(line) = lines.iter().find(|line| tokens.iter().all(|token| token.name != line.token))
    {
        return Err(unknown(path, tokens, line));
    }
    lines.reverse();
    for line in lines {
        let known = tokens.iter().find(|token| token.name == line.token);
        if let Some(token) = known
            && counting.iter().all(|(later, _)| later.token != line.token)
        {
            counting.push((line, token));
        }
    }
    Ok(counting)
}

fn contents(path: &Path) -> Result<Vec<u8>, OptionError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let whole = read.and_then(|_| match bytes.len() as u64 > MAX_FILE {
        true => Err(io::Error::other(format!("it has more than {MAX_FILE} bytes"))),
        false => Ok(()),
    });
    whole.map_err(|source| OptionError::File { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn unknown(path: &Path, tokens: &[Token], line: &Line) -> OptionError {
    let mut allowed: Vec<_> = tokens.iter().map(|token| token.name).collect();
    allowed.sort_unstable();
    OptionError::Token {
        path: path.to_owned(),
        line: line.number,
        token: line.token.clone(),
        allowed: allowed.join(", "),
    }
}

/// The longest configuration file, in bytes: a guard against a path that names something else.
const MAX_FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(format: FileFormat, text: &str) -> Vec<(usize, String, String)> {
        let lines = format.lines(text.as_bytes()).into_iter();
        lines.map(|line| (line.number, line.token, line.value.into_string().unwrap())).collect()
    }

    #[test]
    fn a_line_of_tentacle_server_conf_counts_if_it_begins_with_a_letter() {
        let text = "# port 1\n\n port 2\n1port 3\nport\t 4 # four \t\r\nfilters a b:c;d:e\nquiet\nmax_size   \nport 5";
        assert_eq!(
            said(FileFormat::TentacleServer, text),
            [
                (5, "port".into(), "4 # four".into()),
                (6, "filters".into(), "a b:c;d:e".into()),
                (9, "port".into(), "5".into()),
            ]
        );
    }

    #[test]
    fn a_token_of_pandora_server_conf_has_any_case() {
        let text = "#sync_port 1\n  # a comment\n  SYNC_Port 41121\t\r\nsync_address\nincomingdir /a b \nnot\u{e9} x\n";
        assert_eq!(
            said(FileFormat::PandoraServer, text),
            [
                (3, "sync_port".into(), "41121".into()),
                (5, "incomingdir".into(), "/a b".into()),
                (6, "not\u{e9}".into(), "x".into()),
            ]
        );
    }

    #[test]
    fn a_value_that_is_no_utf8_is_kept() {
        let lines = FileFormat::TentacleServer.lines(b"directory /a\xff\n");
        assert_eq!(lines[0].value.as_bytes(), b"/a\xff");
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(bytes: Vec<u8>) {
            let _ = FileFormat::TentacleServer.lines(&bytes);
            let _ = FileFormat::PandoraServer.lines(&bytes);
        }
    }
}
