//! What lies in a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// Every file below a folder by its path, with its bytes; without the spool's
/// own, and without what is taken out meanwhile.
pub fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    walk(folder, "", &mut |path, below, is_folder| {
        if is_folder {
            return;
        }
        match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            body => _ = files.insert(below.to_owned(), body.unwrap()),
        }
    });
    files
}

/// Every folder below a folder by its path.
pub fn folders_below(folder: &Path) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    walk(folder, "", &mut |_, below, is_folder| {
        if is_folder {
            folders.insert(below.to_owned());
        }
    });
    folders
}

/// The names of files that are being written, or were left by a crash, in a
/// folder that may not be there yet.
pub fn left_aside(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    let names = names.filter(|name| name.as_bytes().starts_with(OWN) && name != ".tentacle~lock");
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn walk(folder: &Path, below: &str, see: &mut dyn FnMut(&Path, &str, bool)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name.as_bytes().starts_with(OWN) {
            continue;
        }
        let below = format!("{below}{}", name.to_string_lossy());
        let is_folder = entry.file_type().unwrap().is_dir();
        see(&entry.path(), &below, is_folder);
        if is_folder {
            walk(&entry.path(), &format!("{below}/"), see);
        }
    }
}

/// What the names of the spool's own files begin with.
const OWN: &[u8] = b".tentacle~";
