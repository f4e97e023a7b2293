//! Files and folders: as processes see them, and as a power cut would leave
//! them.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    io,
    ops::Range,
    path::{Component, Path},
};

use fastrand::Rng;
use rustix::io::Errno;

/// Everything on the disk. Nothing is ever freed: a disk lives for one test.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Changes of names that no flush has covered, in their order.
    pending: Vec<Change>,
}

#[derive(Debug)]
pub(crate) enum Node {
    File(Content),
    Folder(Names),
}

/// Which node, for ever.
pub(crate) type Id = usize;

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) seen: Vec<u8>,
    safe: Vec<u8>,
    /// What a flush failed to bring to the disk.
    lost: Vec<Range<usize>>,
}

#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) seen: BTreeMap<OsString, Id>,
    safe: BTreeMap<OsString, Id>,
}

/// One call's work on names, which comes through whole or not at all.
type Change = Vec<(Place, Option<Id>)>;

/// A name in a folder.
pub(crate) type Place = (Id, OsString);

impl Tree {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::Folder(Names::default())], pending: Vec::new() }
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<Id> {
        path.components().filter(|part| matches!(part, Component::Normal(_))).try_fold(
            ROOT,
            |folder, part| {
                let found = self.folder(folder)?.seen.get(part.as_os_str());
                found.copied().ok_or_else(|| Errno::NOENT.into())
            },
        )
    }

    /// Where a path points, whether or not something is there.
    pub(crate) fn place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        let folder = self.find(path.parent().unwrap_or(Path::new("/")))?;
        self.folder(folder)?;
        Ok((folder, name))
    }

    pub(crate) fn at(&self, (folder, name): &Place) -> Option<Id> {
        self.folder(*folder).ok()?.seen.get(name).copied()
    }

    pub(crate) fn folder(&self, id: Id) -> io::Result<&Names> {
        match &self.nodes[id] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    pub(crate) fn file(&self, id: Id) -> Option<&Content> {
        match &self.nodes[id] {
            Node::File(content) => Some(content),
            Node::Folder(_) => None,
        }
    }

    pub(crate) fn file_mut(&mut self, id: Id) -> io::Result<&mut Content> {
        match &mut self.nodes[id] {
            Node::File(content) => Ok(content),
            Node::Folder(_) => Err(Errno::ISDIR.into()),
        }
    }

    pub(crate) fn add(&mut self, place: Place, node: Node) -> Id {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.change(vec![(place, Some(id))]);
        id
    }

    pub(crate) fn change(&mut self, change: Change) {
        for (place, id) in &change {
            set(&mut self.nodes, place, *id, |names| &mut names.seen);
        }
        self.pending.push(change);
    }

    /// Makes the changes in a folder safe, with those before them that touch
    /// the same names elsewhere: a rename has a name in two folders.
    pub(crate) fn flush_folder(&mut self, folder: Id) {
        let mut touched: HashSet<Place> = HashSet::new();
        let mut covered = vec![false; self.pending.len()];
        for (number, change) in self.pending.iter().enumerate().rev() {
            if change.iter().any(|(place, _)| place.0 == folder || touched.contains(place)) {
                touched.extend(change.iter().map(|(place, _)| place.clone()));
                covered[number] = true;
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for (change, covered) in pending.into_iter().zip(covered) {
            if covered {
                self.make_safe(&change);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// What is seen from now on is what came through.
    pub(crate) fn power_cut(&mut self, chance: &mut Rng) {
        // Sometimes nearly all or nearly nothing: the middle alone would
        // seldom leave the one thing out that matters.
        let odds = [0.0, 0.1, 0.5, 0.9, 1.0][chance.usize(..5)];
        for change in std::mem::take(&mut self.pending) {
            if chance.f64() < odds {
                self.make_safe(&change);
            }
        }
        for node in &mut self.nodes {
            match node {
                Node::Folder(names) => names.seen = names.safe.clone(),
                Node::File(content) => content.tear(chance),
            }
        }
    }

    /// What is seen from now on is what was flushed.
    pub(crate) fn power_cut_at_worst(&mut self) {
        self.pending.clear();
        for node in &mut self.nodes {
            match node {
                Node::Folder(names) => names.seen = names.safe.clone(),
                Node::File(content) => {
                    content.seen = content.safe.clone();
                    content.lost.clear();
                }
            }
        }
    }

    fn make_safe(&mut self, change: &Change) {
        for (place, id) in change {
            set(&mut self.nodes, place, *id, |names| &mut names.safe);
        }
    }
}

impl Content {
    pub(crate) fn flush(&mut self) {
        let from = self.safe.len();
        self.safe.extend_from_slice(&self.seen[from..]);
        for lost in &self.lost {
            self.safe[lost.clone()].fill(0);
        }
    }

    /// A flush has failed.
    pub(crate) fn lose(&mut self) {
        self.lost.push(self.safe.len()..self.seen.len());
    }

    fn tear(&mut self, chance: &mut Rng) {
        let (from, to) = (self.safe.len(), self.seen.len());
        if from < to {
            let size = [from, to, chance.usize(from..=to)][chance.usize(..3)];
            for start in (from..size).step_by(SECTOR) {
                let piece = start..size.min(start + SECTOR);
                match chance.usize(..3) {
                    0 => self.safe.extend(piece.map(|_| 0)),
                    1 => self.safe.extend(piece.map(|_| chance.u8(..))),
                    _ => self.safe.extend_from_slice(&self.seen[piece]),
                }
            }
            for lost in &self.lost {
                let lost = lost.start.min(size)..lost.end.min(size);
                self.safe[lost].fill(0);
            }
        }
        self.seen = self.safe.clone();
        self.lost.clear();
    }
}

fn set(
    nodes: &mut [Node],
    (folder, name): &Place,
    id: Option<Id>,
    of: impl Fn(&mut Names) -> &mut BTreeMap<OsString, Id>,
) {
    let Node::Folder(names) = &mut nodes[*folder] else { return };
    match id {
        Some(id) => _ = of(names).insert(name.clone(), id),
        None => _ = of(names).remove(name),
    }
}

/// `/`.
pub(crate) const ROOT: Id = 0;

/// What comes to a disk as one.
const SECTOR: usize = 512;
