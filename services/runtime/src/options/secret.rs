use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Layers, OptionError};

/// Bytes that appear in no message and no log, and are wiped from memory when they are dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Where a secret is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    /// Here.
    Given(Secret),

    /// In a file, whose content may change.
    File(PathBuf),
}

/// The secret of the option `id` ([`super::values::secret`]), or of the file that `file_id` (a [`PathBuf`]) names:
/// whichever is given in the higher layer.
///
/// Fails where one layer gives both, and where the file cannot be read, is empty, or has more than 64 KiB.
pub fn secret_from(layers: &Layers, id: &str, file_id: &str) -> Result<Option<SecretSource>, OptionError> {
    match (layers.source_of(id), layers.source_of(file_id)) {
        (None, None) => Ok(None),
        (Some(value), Some(file)) if value == file => {
            Err(layers.refuse(id, format!("give either this or {}, not both", layers.label(file_id))))
        }
        (Some(value), file) if file.is_none_or(|file| value < file) => {
            Ok(layers.get::<Secret>(id).cloned().map(SecretSource::Given))
        }
        _ => {
            let refuse = |path: &PathBuf, reason| OptionError::Value {
                option: layers.label(file_id),
                value: path.display().to_string(),
                reason,
            };
            let Some(path) = layers.get::<PathBuf>(file_id) else { return Ok(None) };
            Secret::from_file(path).map_err(|reason| refuse(path, reason))?;
            Ok(Some(SecretSource::File(path.clone())))
        }
    }
}

// === impl SecretSource ===

impl SecretSource {
    /// The secret; that of a file is read now. Blocks.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => {
                Secret::from_file(path).map_err(|reason| format!("{}: {reason}", path.display()))
            }
        }
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Given(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

// === impl Secret ===

impl Secret {
    /// Reads the secret in a file, without the line end behind its last line. The file has at most 64 KiB.
    ///
    /// # Errors
    /// The reason, to stand behind the file's name.
    pub fn from_file(path: &Path) -> Result<Secret, String> {
        let failed = |error| format!("cannot be read: {error}");
        let found = path.metadata().map_err(failed)?;
        // Opening a pipe waits for its writer.
        if !found.is_file() && !found.is_dir() {
            return Err("is no regular file: a pipe cannot be read again".to_owned());
        }
        // At once as large as it gets: what grows leaves its old place behind.
        let room = usize::try_from(found.len().min(MAX_FILE) + 1).unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("is longer than {MAX_FILE} bytes"));
        }
        Secret(bytes).trimmed()
    }

    /// The same without the line end behind its last line, as a file has it.
    ///
    /// # Errors
    /// The reason, where nothing is left.
    pub fn trimmed(mut self) -> Result<Secret, String> {
        if self.0.last() == Some(&b'\n') {
            self.0.pop();
            if self.0.last() == Some(&b'\r') {
                self.0.pop();
            }
        }
        match self.0.is_empty() {
            true => Err("is empty, and must hold the secret".to_owned()),
            false => Ok(self),
        }
    }

    /// The bytes themselves. The name is for the reviewer's eye.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Secret {
        Secret(bytes.into())
    }
}

impl From<std::ffi::OsString> for Secret {
    fn from(text: std::ffi::OsString) -> Secret {
        Secret(text.into_vec().into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// The longest file of a secret, in bytes: a guard against a path that names something else.
const MAX_FILE: u64 = 64 * 1024;
