//! What was promised, and what therefore may be found.

use std::collections::{BTreeMap, BTreeSet};

use crate::case::Place;

/// What may stand under each name after a crash: one of these contents, or
/// nothing. A name that was never used has nothing.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    possible: BTreeMap<Place, BTreeSet<Found>>,
    /// Everything that was ever sent under a name.
    sent: BTreeMap<Place, BTreeSet<Vec<u8>>>,
}

pub(crate) type Found = Option<Vec<u8>>;

/// How an act ended, as far as it changes what stands under its name.
#[derive(Debug)]
pub(crate) enum Outcome {
    Nothing,
    /// With a receipt: this is there.
    Is(Found),
    /// Without one: this may be there.
    MayBe(Found),
}

impl Ledger {
    /// Before a file is sent.
    pub(crate) fn is_sent(&mut self, place: Place, content: Vec<u8>) {
        self.sent.entry(place).or_default().insert(content);
    }

    /// Enters what happened together under one name.
    pub(crate) fn enter(&mut self, place: Place, outcomes: impl IntoIterator<Item = Outcome>) {
        let mut after = BTreeSet::new();
        let mut is_settled = false;
        for outcome in outcomes {
            match outcome {
                Outcome::Nothing => {}
                Outcome::Is(found) => {
                    after.insert(found);
                    is_settled = true;
                }
                Outcome::MayBe(found) => _ = after.insert(found),
            }
        }
        if !is_settled {
            after.extend(self.possible(place));
        }
        self.possible.insert(place, after);
    }

    /// Holds what is there against the promises. It is what counts from now
    /// on.
    pub(crate) fn settle(&mut self, there: &BTreeMap<Place, Vec<u8>>) -> Result<(), String> {
        for place in there.keys() {
            self.possible.entry(*place).or_insert_with(nothing);
        }
        for (place, possible) in &mut self.possible {
            let found = there.get(place).cloned();
            if !possible.contains(&found) {
                return Err(format!("{place:?}: found {}, may be {}", told(&found), all_told(possible)));
            }
            *possible = [found].into();
        }
        Ok(())
    }

    /// Whether somebody sent just this under that name.
    pub(crate) fn check_read(&self, place: Place, content: &[u8]) -> Result<(), String> {
        match self.sent.get(&place).is_some_and(|sent| sent.contains(content)) {
            true => Ok(()),
            false => Err(format!("{place:?}: read {}, which nobody sent", told(&Some(content.to_vec())))),
        }
    }

    fn possible(&self, place: Place) -> BTreeSet<Found> {
        self.possible.get(&place).cloned().unwrap_or_else(nothing)
    }
}

fn nothing() -> BTreeSet<Found> {
    [None].into()
}

fn all_told(possible: &BTreeSet<Found>) -> String {
    possible.iter().map(told).collect::<Vec<_>>().join(" or ")
}

fn told(found: &Found) -> String {
    match found {
        None => "nothing".to_owned(),
        Some(content) => {
            let beginning = content.iter().take(12).copied().collect::<Vec<_>>().escape_ascii().to_string();
            format!("{} bytes ({beginning}...)", content.len())
        }
    }
}
