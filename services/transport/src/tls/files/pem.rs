//! PEM files: blocks of base64 between lines that say what they are.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject as _, SectionKind},
};

use super::FileError;

/// A file that was read. Its text may hold a key, and is not shown.
pub(super) struct Pem {
    pub(super) path: PathBuf,
    pub(super) text: Vec<u8>,
}

impl Pem {
    /// Reads at most 4 MiB.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text))
            .map_err(|error| FileError::Read { path: path.to_owned(), error })?;
        let pem = Self { path: path.to_owned(), text };
        if pem.text.is_empty() {
            return Err(pem.wrong("is empty"));
        }
        if pem.text.len() as u64 > MAX_FILE {
            return Err(pem.wrong(&format!("is longer than {MAX_FILE} bytes")));
        }
        Ok(pem)
    }

    pub(super) fn wrong(&self, why: &str) -> FileError {
        FileError::Content { path: self.path.clone(), why: why.to_owned() }
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        found.map_err(|error| self.damaged(&error))
    }

    /// The first block of a kind that `is` finds.
    pub(super) fn block(
        &self,
        is: impl Fn(SectionKind) -> bool,
    ) -> Result<Option<(SectionKind, Vec<u8>)>, FileError> {
        let mut rest = &self.text[..];
        loop {
            match pem::from_buf(&mut rest) {
                Ok(Some((kind, der))) if is(kind) => return Ok(Some((kind, der))),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.damaged(&error)),
            }
        }
    }

    fn damaged(&self, error: &pem::Error) -> FileError {
        let what = match error {
            pem::Error::MissingSectionEnd { .. } => "a block has no END line",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is damaged",
            _ => "a block holds something else than base64",
        };
        self.wrong(&format!("is damaged: {what}"))
    }

    /// What is there instead of what should be.
    pub(super) fn content(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let label = |line: &str| {
            let label = line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
            label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ').then(|| label.to_owned())
        };
        let mut labels: Vec<_> = text.lines().filter_map(label).collect();
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

/// Bytes of a file: some thousand certificates.
const MAX_FILE: u64 = 4 << 20;
