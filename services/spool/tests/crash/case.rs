//! What is played.

use proptest::prelude::*;

/// A spool's lives, one after the other on the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) overwrite: bool,
    /// One at a time has everything happen in one order; several share
    /// flushes.
    pub(crate) threads: usize,
    pub(crate) lives: Vec<Life>,
    /// For what a power cut leaves.
    pub(crate) chance: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// What is under way together, one group after the other.
    pub(crate) groups: Vec<Vec<Act>>,
    /// Calls to the disk until its end, if it comes to that.
    pub(crate) calls: usize,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    PowerCut,
    Kill,
}

/// What one client does.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) place: Place,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Sends a file in pieces of these sizes.
    Send(Vec<usize>),
    /// Sends all but the end, and goes away.
    Abandon(Vec<usize>),
    /// Fetches it, and shows that it has it.
    Move,
    /// Fetches it, and goes away.
    Fetch,
    List,
}

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) folder: &'static str,
    pub(crate) name: &'static str,
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    (
        any::<bool>(),
        prop_oneof![3 => Just(1), 1 => Just(4usize)],
        prop::collection::vec(life(), 1..4),
        any::<u64>(),
    )
        .prop_map(|(overwrite, threads, lives, chance)| Case { overwrite, threads, lives, chance })
}

fn life() -> impl Strategy<Value = Life> {
    let group = prop::collection::vec(act(), 1..5);
    let end = prop_oneof![2 => Just(End::PowerCut), 1 => Just(End::Kill)];
    (prop::collection::vec(group, 1..5), 0..90usize, end).prop_map(|(groups, calls, end)| Life {
        groups,
        calls,
        end,
    })
}

fn act() -> impl Strategy<Value = Act> {
    let place = (prop::sample::select(FOLDERS.to_vec()), prop::sample::select(NAMES.to_vec()));
    (place, what()).prop_map(|((folder, name), what)| Act { place: Place { folder, name }, what })
}

fn what() -> impl Strategy<Value = What> {
    let pieces = || prop::collection::vec(20..1500usize, 1..4);
    prop_oneof![
        8 => pieces().prop_map(What::Send),
        1 => pieces().prop_map(What::Abandon),
        4 => Just(What::Move),
        1 => Just(What::Fetch),
        1 => Just(What::List),
    ]
}

/// Below the root.
pub(crate) const FOLDERS: [&str; 3] = ["", "conf", "far/below"];

pub(crate) const NAMES: [&str; 3] = ["a.data", "b.data", "c.data"];
