//! What a receiver is, without disks and sockets.

use std::collections::BTreeMap;

/// Files by name, and who has been handed which.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) files: BTreeMap<Vec<u8>, File>,
    /// Names that are offered to a reader.
    leased: Vec<Vec<u8>>,
    overwrite: bool,
    stored: u64,
    mistake: Option<Mistake>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    /// Tells a file from another one of the same name.
    number: u64,
}

/// A file that is offered to one reader.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) name: Vec<u8>,
    number: u64,
}

/// What a model may have wrong, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A file stays whose reader has it.
    MoveKeeps,
    /// A file is offered to a second reader.
    TwoReaders,
}

impl Model {
    pub(crate) fn new(overwrite: bool, mistake: Option<Mistake>) -> Self {
        Self { overwrite, mistake, ..Self::default() }
    }

    /// Whether a file of that name would be taken.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.overwrite || !self.files.contains_key(name)
    }

    pub(crate) fn store(&mut self, name: &[u8], content: Vec<u8>) {
        self.stored += 1;
        self.files.insert(name.to_vec(), File { content, number: self.stored });
    }

    pub(crate) fn lease(&mut self, name: &[u8]) -> Option<Lease> {
        if self.leased.iter().any(|leased| leased == name) && self.mistake != Some(Mistake::TwoReaders) {
            return None;
        }
        let lease = Lease { name: name.to_vec(), number: self.files.get(name)?.number };
        self.leased.push(lease.name.clone());
        Some(lease)
    }

    /// Its reader has it.
    pub(crate) fn settle(&mut self, lease: Option<Lease>) {
        let Some(lease) = lease else { return };
        let is_same = self.files.get(&lease.name).is_some_and(|file| file.number == lease.number);
        if is_same && self.mistake != Some(Mistake::MoveKeeps) {
            self.files.remove(&lease.name);
        }
        self.give_back(Some(lease));
    }

    /// Its reader has not shown that it has it.
    pub(crate) fn give_back(&mut self, lease: Option<Lease>) {
        if let Some(lease) = lease {
            self.leased.retain(|leased| *leased != lease.name);
        }
    }
}

/// Whether a name may be a file's.
pub(crate) fn is_name(name: &[u8]) -> bool {
    is_argument(name) && !matches!(name, b"" | b"." | b"..")
}

/// Whether it may be listed.
pub(crate) fn is_argument(name: &[u8]) -> bool {
    name.len() <= 255 && !name.iter().any(|byte| b"?[]/\\=+<>:;',*~\0\n".contains(byte))
}

/// The folder that the filters have for a name, with a slash behind it.
pub(crate) fn folder(name: &[u8]) -> &'static str {
    if name.ends_with(b".conf") {
        "conf/"
    } else if name.ends_with(b".md5") {
        "md5/"
    } else {
        ""
    }
}

/// The filters that do so.
pub(crate) const FILTERS: &str = r".*\.conf$:conf;.*\.md5$:md5";
