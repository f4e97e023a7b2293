use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    env,
};

use proptest::{
    collection::vec,
    num::u8,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;

fn quota(files: u64, bytes: u64) -> Arc<Quota> {
    Quota::new(Limits { files: Some(files), bytes: Some(bytes) })
}

fn census(files: u64, bytes: u64) -> io::Result<Census> {
    Ok(Census { files, bytes, ..Census::default() })
}

fn place(quota: &Arc<Quota>, bytes: u64) {
    quota.claim(bytes).unwrap().place(bytes, None, || Ok(())).unwrap();
}

fn stored(quota: &Quota) -> (u64, u64) {
    let stored = quota.state().stored;
    (stored.files, stored.bytes)
}

#[test]
fn what_is_on_its_way_counts_until_it_is_given_up() {
    let quota = quota(2, 100);
    let first = quota.claim(60).unwrap();
    assert_eq!(quota.claim(41).unwrap_err(), OverQuota::Bytes { held: 60, more: 41, most: 100 });
    let second = quota.claim(40).unwrap();
    assert_eq!(quota.claim(0).unwrap_err(), OverQuota::Files { held: 2, most: 2 });
    drop((first, second));
    place(&quota, 100);
    assert_eq!(stored(&quota), (1, 100));
}

#[test]
fn a_file_that_is_replaced_counts_for_the_difference() {
    let quota = quota(1, 100);
    place(&quota, 90);
    assert!(quota.claim(10).is_err());
    let mut longer = quota.claim_beyond(95, 90).unwrap();
    longer.grow(100).unwrap();
    longer.place(100, Some(90), || Ok(())).unwrap();
    assert_eq!(stored(&quota), (1, 100));
    assert!(quota.claim_beyond(101, 100).is_err());
    quota.claim_beyond(7, 100).unwrap().place(7, Some(100), || Ok(())).unwrap();
    assert_eq!(stored(&quota), (1, 7));
}

#[test]
fn who_replaces_a_file_that_is_gone_by_then_needs_room_for_all_of_its_own() {
    let quota = quota(1, 100);
    place(&quota, 90);
    let mut over = quota.claim_beyond(90, 90).unwrap();
    quota.leaves::<()>(90, || Ok(())).unwrap();
    place(&quota, 50);
    let error = over.place(90, None, || Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert_eq!(stored(&quota), (1, 50));
}

#[test]
fn a_file_grows_as_far_as_there_is_room() {
    let quota = quota(9, 100);
    let mut claim = quota.claim(10).unwrap();
    claim.grow(99).unwrap();
    assert!(quota.claim(2).is_err());
    assert!(claim.grow(101).is_err());
    claim.place(50, None, || Ok(())).unwrap();
    drop(claim);
    assert_eq!(stored(&quota), (1, 50));
    quota.claim(50).unwrap();
}

#[test]
fn what_was_not_placed_or_removed_is_not_counted_so() {
    let quota = quota(9, 100);
    let failed = quota.claim(10).unwrap().place(10, None, || Err(io::ErrorKind::StorageFull.into()));
    assert!(failed.is_err());
    assert_eq!(stored(&quota), (0, 0));
    place(&quota, 10);
    assert_eq!(quota.leaves(10, || Err(())), Err(()));
    assert_eq!(stored(&quota), (1, 10));
}

#[test]
fn a_spool_above_its_quota_takes_nothing_that_makes_it_larger() {
    let quota = quota(2, 100);
    quota.recount(|| census(5, 500)).unwrap();
    assert!(quota.claim(1).is_err());
    quota.claim_beyond(30, 30).unwrap();
    assert!(quota.claim_beyond(31, 30).is_err());
    for _ in 0..4 {
        quota.leaves::<()>(100, || Ok(())).unwrap();
    }
    assert!(quota.claim(1).is_err());
    quota.leaves::<()>(100, || Ok(())).unwrap();
    quota.claim(100).unwrap();
}

#[test]
fn a_count_that_others_changed_is_believed() {
    let quota = quota(9, 1000);
    place(&quota, 100);
    place(&quota, 100);
    quota.recount(|| census(1, 100)).unwrap();
    assert_eq!(stored(&quota), (1, 100));
    quota.recount(|| census(4, 400)).unwrap();
    assert_eq!(stored(&quota), (4, 400));
}

#[test]
fn a_count_is_not_put_below_what_comes_or_leaves_meanwhile() {
    // Came meanwhile, and was not seen.
    let one = quota(9, 1000);
    one.recount(|| {
        place(&one, 100);
        census(0, 0)
    })
    .unwrap();
    assert_eq!(stored(&one), (1, 100));
    // Left meanwhile, and was seen.
    one.recount(|| {
        one.leaves::<()>(100, || Ok(())).unwrap();
        census(1, 100)
    })
    .unwrap();
    assert_eq!(stored(&one), (0, 0));
    // Has its name, and is not counted as stored yet.
    let mut claim = one.claim(100).unwrap();
    claim.place(100, None, || one.recount(|| census(1, 100)).map(drop)).unwrap();
    assert_eq!(stored(&one), (1, 100));
    // Has lost its name, and is counted as stored still.
    one.leaves(100, || one.recount(|| census(0, 0)).map(drop)).unwrap();
    assert_eq!(stored(&one), (0, 0));
}

/// Some folders under one quota, and all that may happen to them, each in the
/// middle of another: what a lock keeps apart does not.
struct Folders {
    quota: Arc<Quota>,
    /// What happens next.
    script: RefCell<Vec<u8>>,
    /// What lies there: sizes by folder and name.
    files: RefCell<BTreeMap<(u8, u8), u64>>,
    /// Folders in which a file is given its name, or loses it.
    locked: RefCell<BTreeSet<u8>>,
    depth: Cell<u32>,
    steps: Cell<u64>,
}

impl Folders {
    fn play(script: Vec<u8>) -> u64 {
        let quota = quota(MOST_FILES, MOST_BYTES);
        let (script, files, locked) = (RefCell::new(script), RefCell::default(), RefCell::default());
        let all = Self { quota, script, files, locked, depth: Cell::new(0), steps: Cell::new(0) };
        while all.step() {}
        let (files, bytes) = all.held();
        // Now that nothing happens, a look is right.
        all.quota.recount(|| census(files, bytes)).unwrap();
        assert_eq!(stored(&all.quota), (files, bytes));
        assert_eq!(all.quota.state().claimed, Amount::default());
        assert_eq!(all.quota.state().leaving, Amount::default());
        all.steps.get()
    }

    fn held(&self) -> (u64, u64) {
        let files = self.files.borrow();
        (files.len() as u64, files.values().sum())
    }

    fn next(&self) -> Option<u8> {
        self.script.borrow_mut().pop()
    }

    /// One thing happens, with others in between; whether there was one.
    fn step(&self) -> bool {
        let (Some(what), Some(size)) = (self.next(), self.next()) else { return false };
        let (folder, name, size) = (what % 3, what / 3 % 4, u64::from(size));
        match what / 12 {
            0..=9 => self.send((folder, name), size, size % 2 == 0),
            10..=14 => self.remove((folder, name)),
            15..=18 => self.look(),
            // A consumer beside the service.
            _ => _ = self.files.borrow_mut().remove(&(folder, name)),
        }
        let ((files, bytes), state) = (self.held(), self.quota.state());
        assert!(files <= MOST_FILES && bytes <= MOST_BYTES, "{files} files, {bytes} bytes");
        let counted = state.stored.plus(state.claimed);
        assert!(counted.files >= files && counted.bytes >= bytes, "{files} files, {bytes} bytes: {state:?}");
        drop(state);
        self.steps.set(self.steps.get() + 1);
        true
    }

    fn others(&self) {
        if self.depth.get() < 6 && self.next().is_some_and(|more| more < 150) {
            self.depth.set(self.depth.get() + 1);
            self.step();
            self.depth.set(self.depth.get() - 1);
        }
    }

    fn send(&self, file: (u8, u8), size: u64, overwrite: bool) {
        let old = self.files.borrow().get(&file).copied().filter(|_| overwrite);
        let claim = self.quota.claim(size);
        let claim = claim.or_else(|over| old.map_or(Err(over), |old| self.quota.claim_beyond(size, old)));
        let Ok(mut claim) = claim else { return };
        self.others();
        self.within(file.0, || {
            let old = self.files.borrow().get(&file).copied();
            if old.is_some() && !overwrite {
                return;
            }
            let _ = claim.place(size, old, || {
                self.others();
                // A consumer may have taken it meanwhile: that is counted.
                self.files.borrow_mut().insert(file, size);
                self.others();
                Ok(())
            });
        });
    }

    fn remove(&self, file: (u8, u8)) {
        self.within(file.0, || {
            let Some(size) = self.files.borrow().get(&file).copied() else { return };
            let _ = self.quota.leaves(size, || {
                self.others();
                let removed = self.files.borrow_mut().remove(&file).ok_or(());
                self.others();
                removed.map(drop)
            });
        });
    }

    fn look(&self) {
        let count = || {
            let names: Vec<_> = (0..3).flat_map(|folder| (0..4).map(move |name| (folder, name))).collect();
            let (mut files, mut bytes) = (0, 0);
            for file in names {
                if let Some(size) = self.files.borrow().get(&file) {
                    files += 1;
                    bytes += size;
                }
                self.others();
            }
            census(files, bytes)
        };
        self.quota.recount(count).unwrap();
    }

    /// As the lock of a folder has it.
    fn within(&self, folder: u8, work: impl FnOnce()) {
        if self.locked.borrow_mut().insert(folder) {
            work();
            self.locked.borrow_mut().remove(&folder);
        }
    }
}

const MOST_FILES: u64 = 5;
const MOST_BYTES: u64 = 600;

#[test]
fn whatever_happens_at_once_the_count_is_never_below_what_lies_there() {
    let number = |variable, default| env::var(variable).map_or(default, |number| number.parse().unwrap());
    let (cases, seed): (u64, u64) = (number("TORTURE_CASES", 500), number("TORTURE_SEED", 41_121));
    let config =
        Config { cases: u32::try_from(cases).unwrap(), failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let steps = Cell::new(0);
    let played = TestRunner::new_with_rng(config, random).run(&vec(u8::ANY, 0..400), |script| {
        steps.set(steps.get() + Folders::play(script));
        Ok(())
    });
    played.unwrap_or_else(|failed| panic!("TORTURE_SEED={seed}: {failed}"));
    println!("counted: {cases} quotas, {} steps within each other, 0 over the quota", steps.get());
}
