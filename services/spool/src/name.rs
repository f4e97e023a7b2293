//! What a file in the spool may be called.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One component of a path, and none of the names that the spool uses
/// itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Arc<[u8]>);

/// Why a name cannot stand in a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryNameError {
    /// Empty, `.`, `..`, over 255 bytes, or with `/` or a NUL in it.
    #[error("not one component of a path, of at most 255 bytes")]
    NoComponent,
    /// Begins as the spool's own files do.
    #[error("begins as the spool's own files do ({})", RESERVED)]
    Reserved,
}

impl EntryName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`EntryNameError`].
    pub fn new(name: &[u8]) -> Result<Self, EntryNameError> {
        let component = !matches!(name, b"" | b"." | b"..") && name.len() <= 255;
        if !component || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(EntryNameError::NoComponent);
        }
        if is_reserved(name) {
            return Err(EntryNameError::Reserved);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn within(&self, folder: &Path) -> PathBuf {
        folder.join(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Whether a name is one of those that spools use themselves: files that are
/// being written, the lock, a staging folder.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(RESERVED.as_bytes())
}

/// Whether a name is that of a file that is being written.
pub(crate) fn is_aside(name: &[u8]) -> bool {
    name.starts_with(ASIDE.as_bytes())
}

/// What the spool's own names begin with: hidden from `*`, matched by no
/// consumer's pattern, and with a byte that the wire refuses by default.
pub const RESERVED: &str = ".tentacle~";

/// What the names of files that are being written begin with.
pub(crate) const ASIDE: &str = ".tentacle~part-";
