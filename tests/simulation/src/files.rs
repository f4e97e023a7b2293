//! Folders as they are found, and as a process that is killed leaves them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where files cost nothing, if there is such a place.
pub(crate) fn fast() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Names of the product's own, which no consumer looks at.
pub(crate) const ASIDE: &str = ".tentacle~";

/// The files that stand in a folder for whoever looks, in order.
pub(crate) fn visible(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()))
        .map(|entry| entry.path())
        .collect();
    all.sort();
    all
}

/// Files under names of the product's own, locks aside.
pub(crate) fn left_aside(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    each_below(folder, &mut |path| {
        let relative = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        if relative.contains(ASIDE) && !relative.ends_with("lock") {
            all.push(path.to_owned());
        }
    });
    all
}

/// All files below a folder, with their contents.
pub(crate) struct Snapshot(BTreeMap<PathBuf, Vec<u8>>);

impl Snapshot {
    pub(crate) fn of(folder: &Path) -> Self {
        let mut all = BTreeMap::new();
        each_below(folder, &mut |path| {
            if let Ok(content) = fs::read(path) {
                all.insert(path.to_owned(), content);
            }
        });
        Self(all)
    }

    /// Puts back what was removed since: who is killed cleans nothing up.
    pub(crate) fn restore(&self) {
        for (path, content) in &self.0 {
            if !path.exists() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
    }
}

fn each_below(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => each_below(&entry.path(), each),
            _ => each(&entry.path()),
        }
    }
}
