//! The YAML file of `--config`: what holds for all sources, and what differs
//! from one to the next.

use std::path::{Path, PathBuf};

use runtime::options::Secret;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::options::TlsSettings;

/// The whole file. Every key may be left out; one that is not known is an
/// error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) incoming_dir: Option<PathBuf>,
    #[serde(default, deserialize_with = "servers")]
    pub(crate) forward_to: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    pub(crate) forward_password: Option<Secret>,
    pub(crate) forward_password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "crate::options::written_tls")]
    pub(crate) forward_tls: Option<TlsSettings>,
    pub(crate) overwrite: Option<bool>,
    /// What a source takes where it says nothing itself.
    #[serde(default)]
    pub(crate) defaults: Settings,
    #[serde(default)]
    pub(crate) sources: Vec<Settings>,
}

/// How a source is pulled.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Host, with a port or without; needed in `sources`, senseless in
    /// `defaults`.
    pub(crate) address: Option<String>,
    pub(crate) port: Option<u16>,
    #[serde(default, deserialize_with = "secret")]
    pub(crate) password: Option<Secret>,
    pub(crate) password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "crate::options::written_tls")]
    pub(crate) tls: Option<TlsSettings>,
    #[serde(default, deserialize_with = "folders")]
    pub(crate) folders: Option<Vec<Folder>>,
    /// Seconds.
    pub(crate) interval: Option<u64>,
    pub(crate) connections: Option<u64>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) retries: Option<u64>,
    pub(crate) mode: Option<String>,
    /// Where its files go; in `defaults` senseless, as the rest: that stands
    /// at the file's top.
    pub(crate) incoming_dir: Option<PathBuf>,
    pub(crate) overwrite: Option<bool>,
    /// With commas between.
    #[serde(default, deserialize_with = "servers")]
    pub(crate) forward_to: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    pub(crate) forward_password: Option<Secret>,
    pub(crate) forward_password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "crate::options::written_tls")]
    pub(crate) forward_tls: Option<TlsSettings>,
}

/// A folder of the filters at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Its name, here as there.
    pub name: String,
    /// The argument of `LS` that the source's filters lead to it.
    pub argument: String,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("--config: {}: cannot be read: {error}", .path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("--config: {}: {error}", .path.display())]
    Yaml { path: PathBuf, error: serde_yaml::Error },
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|error| FileError::Read { path: path.to_owned(), error })?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(&text).map_err(|error| FileError::Yaml { path: path.to_owned(), error })
    }
}

impl Settings {
    /// The first key here that says where files go.
    pub(crate) fn destination_key(&self) -> Option<&'static str> {
        let keys = [
            ("incoming_dir", self.incoming_dir.is_some()),
            ("overwrite", self.overwrite.is_some()),
            ("forward_to", self.forward_to.is_some()),
            ("forward_password", self.forward_password.is_some()),
            ("forward_password_file", self.forward_password_file.is_some()),
            ("forward_tls", self.forward_tls.is_some()),
        ];
        keys.into_iter().find_map(|(key, given)| given.then_some(key))
    }
}

impl Folder {
    /// The folder of a documented filter, or one whose filter looks for the
    /// ending `.name`.
    pub fn named(name: &str) -> Self {
        let argument = match name {
            "collections" => ".zip",
            "trans" => ".lock",
            "commands" => ".rcmd",
            "agent" => ".agent_setup.exe",
            _ => return Self { name: name.to_owned(), argument: format!(".{name}") },
        };
        Self { name: name.to_owned(), argument: argument.to_owned() }
    }

    /// Whether the name can be a folder below the incoming one.
    pub(crate) fn is_usable(&self) -> bool {
        let mut parts = self.name.split('/');
        parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
    }
}

/// A list of names, or of `{name, argument}`.
fn folders<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Folder>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Name(String),
        Both { name: String, argument: String },
    }
    let written = Option::<Vec<Written>>::deserialize(deserializer);
    let written =
        written.map_err(|_| D::Error::custom("folders: a list of names, or of {name, argument}"))?;
    let folder = |one| match one {
        Written::Name(name) => Folder::named(&name),
        Written::Both { name, argument } => Folder { name, argument },
    };
    Ok(written.map(|list| list.into_iter().map(folder).collect()))
}

/// One server, several with commas between, or a list of them.
fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        List(Vec<String>),
    }
    let written = Option::<Written>::deserialize(deserializer);
    let written =
        written.map_err(|_| D::Error::custom("forward_to: HOST[:PORT], or a list of them, is needed"))?;
    Ok(written.map(|written| match written {
        Written::Text(text) => text,
        Written::List(list) => list.join(","),
    }))
}

/// A text. Whatever else stands there may be a secret too, and is not shown.
pub(crate) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    match serde_yaml::Value::deserialize(deserializer)? {
        serde_yaml::Value::String(text) if !text.is_empty() => Ok(Some(text.into_bytes().into())),
        _ => Err(D::Error::custom("a password: a text is needed (write it between quotes)")),
    }
}
