//! Names that a source lists and that were not taken: one bad file must not
//! hold up the others, and a folder is not asked for every round.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use protocol::FileName;

use crate::source::Item;

/// What is known against names of a source.
#[derive(Debug, Default)]
pub(crate) struct Suspects(HashMap<FileName, Suspect>);

#[derive(Debug)]
enum Suspect {
    /// A connection ended on it: by chance, or because of it.
    File { failures: u32, left_alone_until: Instant },
    /// It is no file.
    Folder { left_alone_until: Instant },
}

impl Suspects {
    /// The names to take now, those last on which a connection ended once;
    /// and how many files are left alone. What is listed no more is
    /// forgotten, unless these are not `all`.
    pub(crate) fn sort(&mut self, items: Vec<Item>, all: bool) -> (Vec<Item>, usize) {
        if self.0.is_empty() {
            return (items, 0);
        }
        if all {
            let listed: HashSet<&FileName> = items.iter().map(|item| &item.name).collect();
            self.0.retain(|name, _| listed.contains(name));
        }
        let (now, mut left_alone) = (Instant::now(), 0);
        let (mut fit, mut suspect) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            match self.0.get(&item.name) {
                None => fit.push(item),
                Some(Suspect::Folder { left_alone_until }) if *left_alone_until > now => {}
                Some(Suspect::File { left_alone_until, .. }) if *left_alone_until > now => left_alone += 1,
                Some(_) => suspect.push(item),
            }
        }
        fit.append(&mut suspect);
        (fit, left_alone)
    }

    /// A connection ended while this file was taken. The first time it is
    /// taken again at once: it is the connection, as a rule.
    pub(crate) fn failed(&mut self, name: FileName) {
        let before = match self.0.get(&name) {
            Some(Suspect::File { failures, .. }) => *failures,
            _ => 0,
        };
        let pause = if before == 0 { Duration::ZERO } else { FIRST_PAUSE * (1 << (before - 1).min(4)) };
        self.insert(name, Suspect::File { failures: before + 1, left_alone_until: Instant::now() + pause });
    }

    /// It was refused, and has the look of a folder.
    pub(crate) fn is_folder(&mut self, name: FileName) {
        self.insert(name, Suspect::Folder { left_alone_until: Instant::now() + FOLDER_PAUSE });
    }

    fn insert(&mut self, name: FileName, suspect: Suspect) {
        if self.0.len() < MOST || self.0.contains_key(&name) {
            self.0.insert(name, suspect);
        }
    }
}

/// How long a file is left alone on which connections ended twice; doubled
/// with each further one, up to a quarter of an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

const FOLDER_PAUSE: Duration = Duration::from_secs(3600);

const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use protocol::NameRules;

    use super::*;

    fn items(names: &[&str]) -> Vec<Item> {
        let name = |name: &&str| NameRules::default().check(name.as_bytes()).unwrap();
        names.iter().map(|text| Item { name: name(text), folder: 0 }).collect()
    }

    fn sorted(suspects: &mut Suspects, names: &[&str]) -> (Vec<String>, usize) {
        let (items, left_alone) = suspects.sort(items(names), true);
        (items.iter().map(|item| item.name.to_string()).collect(), left_alone)
    }

    #[test]
    fn a_file_on_which_a_connection_ended_comes_last_and_then_is_left_alone() {
        let mut suspects = Suspects::default();
        let bad = items(&["a"]).remove(0).name;
        suspects.failed(bad.clone());
        assert_eq!(sorted(&mut suspects, &["a", "b"]), (vec!["b".to_owned(), "a".to_owned()], 0));
        suspects.failed(bad.clone());
        assert_eq!(sorted(&mut suspects, &["a", "b"]), (vec!["b".to_owned()], 1));
        // A new file of this name begins anew.
        assert_eq!(sorted(&mut suspects, &["b"]), (vec!["b".to_owned()], 0));
        assert_eq!(sorted(&mut suspects, &["a"]), (vec!["a".to_owned()], 0));
        for _ in 0..100 {
            suspects.failed(bad.clone());
        }
    }

    #[test]
    fn what_is_not_among_a_part_of_the_names_is_not_forgotten() {
        let mut suspects = Suspects::default();
        let bad = items(&["a"]).remove(0).name;
        suspects.failed(bad.clone());
        suspects.failed(bad);
        suspects.sort(items(&["b"]), false);
        assert_eq!(sorted(&mut suspects, &["a", "b"]), (vec!["b".to_owned()], 1));
    }

    #[test]
    fn a_folder_is_not_asked_for_again() {
        let mut suspects = Suspects::default();
        suspects.is_folder(items(&["conf"]).remove(0).name);
        assert_eq!(sorted(&mut suspects, &["conf", "b"]), (vec!["b".to_owned()], 0));
    }
}
