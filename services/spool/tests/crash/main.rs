//! What a spool promises when its disk crashes: random work on random names,
//! cut at a random call, by a power cut or a kill, and taken up again.
//!
//! `TORTURE_CASES` sets how many cases are tried, `TORTURE_SEED` which.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod case;
mod found;
mod ledger;
mod play;

use std::cell::Cell;

use crashing_disk::{CrashingDisk, Misordered, Wrong};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use spool::Disk;

use crate::play::{Counts, play};

#[test]
fn a_receipt_is_honoured_and_no_torso_is_seen_wherever_the_disk_crashes() {
    let cases = number("TORTURE_CASES").unwrap_or(2000);
    match search(cases as u32, true, |disk| disk) {
        Ok(Counts { promises, power_cuts, kills }) => {
            println!(
                "counted: {cases} cases of a spool, {power_cuts} power cuts, {kills} kills, {promises} promises, 0 broken"
            );
        }
        Err(found) => panic!("{found}"),
    }
}

#[test]
fn a_flush_of_data_that_is_left_out_is_found() {
    is_found(Wrong::NoDataFlush);
}

#[test]
fn a_flush_of_data_behind_the_rename_is_found() {
    is_found(Wrong::DataAfterRename);
}

#[test]
fn a_flush_of_the_folder_that_is_left_out_is_found() {
    is_found(Wrong::NoFolderFlush);
}

#[test]
fn a_flush_of_the_folder_before_the_rename_is_found() {
    is_found(Wrong::FolderBeforeRename);
}

#[test]
fn a_new_folder_that_is_not_flushed_into_its_parents_is_found() {
    is_found(Wrong::NoParentFlush);
}

/// The search is searched: it must see what is done wrong within 1000 cases.
#[track_caller]
fn is_found(wrong: Wrong) {
    let found = search(1000, false, |disk| Misordered::new(disk, Some(wrong)));
    assert!(found.is_err(), "{wrong:?} passes 1000 cases");
}

/// Plays cases until one breaks a promise.
fn search<D: Disk + Clone>(
    cases: u32,
    shrink: bool,
    on: impl Fn(CrashingDisk) -> D,
) -> Result<Counts, String> {
    // Whether something wrong is found is no matter of chance.
    let drawn = || number("TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seed = if shrink { drawn() } else { KNOWN };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: if shrink { 5000 } else { 0 },
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let root = tempfile::tempdir().unwrap();
    let counts = Cell::new(Counts::default());
    let played = runner.run(&case::cases(), |case| {
        let mut so_far = counts.get();
        play(&case, root.path(), &on, &mut so_far)?;
        counts.set(so_far);
        Ok(())
    });
    match played {
        Ok(()) => Ok(counts.get()),
        Err(TestError::Fail(why, case)) => Err(format!("TORTURE_SEED={seed}: {why}\n{case:#?}")),
        Err(error) => Err(format!("TORTURE_SEED={seed}: {error}")),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable}={value}")))
}

/// The seed of cases that show each wrong order.
const KNOWN: u64 = 41_121;
