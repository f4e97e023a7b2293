//! PEM: blocks of base64 between lines that say what they are.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    iter,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::{
    CertificateDer,
    pem::{self, SectionKind},
};
use zeroize::Zeroizing;

use super::PemError;

/// Where certificates or a key are, in PEM. Shown, it is the file or the name.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file, whose content may change.
    File(PathBuf),
    /// Here: no file ever holds it.
    Given {
        /// What errors call it.
        name: String,
        /// It may hold a key: it is not shown, and wiped from memory when the
        /// last of its clones is dropped.
        text: Arc<Zeroizing<Vec<u8>>>,
    },
}

/// PEM that was read. Its text may hold a key: it is not shown, and wiped from
/// memory afterwards.
pub(super) struct Text<'a> {
    pub(super) from: &'a Pem,
    pub(super) text: Arc<Zeroizing<Vec<u8>>>,
}

// === impl Pem ===

impl Pem {
    /// What stands here, under the name that errors call it by.
    pub fn given(name: String, text: Vec<u8>) -> Self {
        Self::Given { name, text: Arc::new(text.into()) }
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Given { .. } => None,
        }
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Given { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({self})")
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    /// Reads at most 4 MiB.
    pub(super) fn read(from: &'a Pem) -> Result<Self, PemError> {
        let text = match from {
            Pem::File(path) => Arc::new(file(path)?),
            Pem::Given { text, .. } => Arc::clone(text),
        };
        let pem = Self { from, text };
        if pem.text.is_empty() {
            return Err(pem.wrong("is empty"));
        }
        if pem.text.len() as u64 > MAX_FILE {
            return Err(pem.wrong(&format!("is longer than {MAX_FILE} bytes")));
        }
        Ok(pem)
    }

    pub(super) fn wrong(&self, why: &str) -> PemError {
        PemError::Content { from: self.from.to_string(), why: why.to_owned() }
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let certificates = self.blocks().filter_map(|block| match block {
            Ok((SectionKind::Certificate, der)) => Some(Ok(Vec::clone(&der).into())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        certificates.collect()
    }

    /// What the blocks hold, up to the first that is damaged.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Result<(SectionKind, Zeroizing<Vec<u8>>), PemError>> {
        let mut rest = &self.text[..];
        iter::from_fn(move || match pem::from_buf(&mut rest) {
            Ok(block) => block.map(|(kind, der)| Ok((kind, Zeroizing::new(der)))),
            Err(error) => {
                rest = &[];
                Some(Err(self.damaged(&error)))
            }
        })
    }

    pub(super) fn no_base64(&self) -> PemError {
        self.wrong("is damaged: a block holds something else than base64")
    }

    fn damaged(&self, error: &pem::Error) -> PemError {
        match error {
            pem::Error::MissingSectionEnd { .. } => self.wrong("is damaged: a block has no END line"),
            pem::Error::IllegalSectionStart { .. } => self.wrong("is damaged: a BEGIN line is damaged"),
            _ => self.no_base64(),
        }
    }

    /// What is there instead of what should be.
    pub(super) fn content(&self) -> String {
        let label = |line: &[u8]| {
            let label = line.trim_ascii().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
            let shown = label.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b' ');
            shown.then(|| String::from_utf8_lossy(label).into_owned())
        };
        let mut labels: Vec<_> = self.text.split(|&byte| byte == b'\n').filter_map(label).collect();
        labels.dedup();
        labels.truncate(3);
        if !labels.is_empty() {
            return format!("{} (is it the wrong file?)", labels.join(", "));
        }
        // A DER file begins with a SEQUENCE of more than 127 bytes.
        match self.text[..] {
            [0x30, 0x81..=0x84, ..] => {
                "DER (turn it into PEM: openssl x509 -inform DER -in FILE -out NEW, or openssl pkey for a key)"
                    .to_owned()
            }
            _ => "no PEM at all (a block begins with -----BEGIN)".to_owned(),
        }
    }
}

/// One byte more than it may have, if it has too many.
fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let failed = |error| PemError::Read { path: path.to_owned(), error };
    let found = path.metadata().map_err(failed)?;
    // Opening a pipe waits for its writer.
    if !found.is_file() && !found.is_dir() {
        let why = "is no regular file: a pipe cannot be read again".to_owned();
        return Err(PemError::Content { from: path.display().to_string(), why });
    }
    // At once as large as it gets: what grows leaves its old place behind.
    let room = usize::try_from(found.len().min(MAX_FILE) + 1).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)).map_err(failed)?;
    Ok(text)
}

/// Bytes of a file: some thousand certificates.
const MAX_FILE: u64 = 4 << 20;
