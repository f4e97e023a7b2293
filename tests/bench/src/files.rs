//! The files that are moved: each with contents of its own.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};

/// Bytes of a small file: an agent's, about.
pub(crate) const SMALL: usize = 4096;

/// Bytes of a large file: `dd`'s.
pub(crate) const LARGE: u64 = 500 << 20;

/// A file's name by its number.
pub(crate) fn name(at: usize) -> String {
    format!("agent{at:06}.data")
}

/// A small file's contents by its number.
pub(crate) fn contents(at: usize) -> [u8; SMALL] {
    let mut contents = [b'.'; SMALL];
    for piece in contents.chunks_exact_mut(8) {
        piece.copy_from_slice(&(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    contents
}

/// Puts small files into a folder, as if they had been received.
pub(crate) fn fill(folder: &Path, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for at in numbers {
        fs::write(folder.join(name(at)), contents(at))?;
    }
    crate::disk::settle(folder)
}

/// Makes sure that exactly these small files are in a folder, whole.
pub(crate) fn check(folder: &Path, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let found = count(folder)?;
    ensure!(found == numbers.len(), "{found} files are there, where {} belong", numbers.len());
    for at in numbers {
        let path = folder.join(name(at));
        let found = fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(found == contents(at), "{} differs", path.display());
    }
    Ok(())
}

/// Files that a consumer would see.
pub(crate) fn count(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += usize::from(
            entry.file_type()?.is_file() && !entry.file_name().as_encoded_bytes().starts_with(b"."),
        );
    }
    Ok(count)
}
