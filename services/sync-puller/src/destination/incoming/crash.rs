//! What the incoming folder promises when its disk crashes or fails: random
//! rounds, cut at a random call, by a power cut or a kill, and taken up again.
//!
//! - What a source has forgotten is staged, published or consumed, whole.
//! - Nothing is published twice to a consumer, but for this: a power cut may
//!   bring back what was published, or what the consumer removed, since the
//!   last flush at the end of a round. It may then come once more.
//!
//! `TORTURE_CASES` sets how many cases are tried, `TORTURE_SEED` which.

mod centre;
mod found;

use std::cell::Cell;

use crashing_disk::{CrashingDisk, Misordered, Wrong};
use fastrand::Rng;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use self::centre::{Centre, Counts, Life};
use super::*;

/// A puller's lives, one after the other.
#[derive(Clone, Debug)]
struct Case {
    threads: usize,
    lives: Vec<(Vec<Act>, usize, End)>,
    chance: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    PowerCut,
    Kill,
}

#[derive(Clone, Debug)]
enum Act {
    /// A file comes to the source.
    Arrive { file: usize, size: usize },
    /// The puller takes a file that it knows to be there.
    Take { file: usize, cut: Option<Cut> },
    /// A round ends.
    EndRound,
    /// The consumer takes what it finds.
    Consume,
    /// Another puller takes the source over.
    TakeOver,
}

/// Where the connection to the source is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The command arrives, its answer does not.
    BeforeAnswer,
    /// In the middle of the body.
    InBody,
    /// When the file is staged.
    AfterStaging,
}

#[test]
fn what_a_source_has_forgotten_is_published_once_wherever_the_disk_crashes() {
    let cases = number("TORTURE_CASES").unwrap_or(1000);
    let Counts { published, power_cuts, kills, back } =
        search(cases as u32, None).unwrap_or_else(|found| panic!("{found}"));
    println!(
        "counted: {cases} cases of staging, {power_cuts} power cuts, {kills} kills, {published} files published, {back} brought back by a power cut, 0 lost"
    );
}

#[test]
fn a_wrong_order_of_flushes_is_found() {
    for wrong in Wrong::ALL {
        assert!(search(1000, Some(wrong)).is_err(), "{wrong:?} passes 1000 cases");
    }
}

/// Plays cases until one breaks a promise.
fn search(cases: u32, wrong: Option<Wrong>) -> Result<Counts, String> {
    // Whether something wrong is found is no matter of chance: the same cases,
    // each on one thread.
    let (threads, seed) = match wrong {
        Some(_) => (1, KNOWN),
        None => (4, number("TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..))),
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let max_shrink_iters = if wrong.is_some() { 0 } else { 5000 };
    let config = Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let counts = Cell::new(Counts::default());
    let played = runner.run(&all_cases(threads), |case| {
        let mut so_far = counts.get();
        play(&case, wrong, &mut so_far).map_err(TestCaseError::fail)?;
        counts.set(so_far);
        Ok(())
    });
    match played {
        Ok(()) => Ok(counts.get()),
        Err(TestError::Fail(why, case)) => Err(format!("TORTURE_SEED={seed}: {why}\n{case:#?}")),
        Err(error) => Err(format!("TORTURE_SEED={seed}: {error}")),
    }
}

#[test]
fn each_call_may_fail_and_every_file_is_published_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let mut clean = Centre::new(None);
    runtime.block_on(clean.everyday()).unwrap();
    let (calls, mut faults) = (clean.disk.calls(), 0);
    for (number, (call, path)) in calls.iter().enumerate() {
        for fault in call.faults() {
            let mut centre = Centre::new(None);
            centre.disk.fails_at(number, fault);
            let played = runtime.block_on(centre.everyday());
            played.unwrap_or_else(|why| {
                panic!("{fault:?} of call {number}, {call:?} {}: {why}", path.display())
            });
            faults += 1;
        }
    }
    println!(
        "counted: {faults} faults of the incoming folder's disk at {} calls, 0 lost, 0 twice",
        calls.len()
    );
}

fn play(case: &Case, wrong: Option<Wrong>, counts: &mut Counts) -> Result<(), String> {
    let mut centre = Centre::new(wrong);
    let mut chance = Rng::with_seed(case.chance);
    for (acts, calls, end) in &case.lives {
        let runtime = runtime(case.threads);
        centre.disk.goes_down_after(*calls);
        let lived = runtime.block_on(live(&mut centre, acts));
        drop(runtime);
        lived?;
        match end {
            End::PowerCut => {
                counts.power_cuts += 1;
                counts.back += centre.loses_power(&mut chance);
            }
            End::Kill => {
                counts.kills += 1;
                centre.disk.restarts();
            }
        }
        centre.check()?;
    }
    let ended = runtime(1).block_on(centre.ends());
    counts.published += ended?;
    Ok(())
}

/// Ends early when the disk goes down.
async fn live(centre: &mut Centre, acts: &[Act]) -> Result<(), String> {
    let Some(mut life) = Life::begins(centre).await? else { return Ok(()) };
    for act in acts {
        let went_on = match *act {
            Act::Arrive { file, size } => {
                life.centre.arrives(file, size);
                true
            }
            Act::Take { file, cut } => life.takes(file, cut).await?,
            Act::EndRound => life.ends_round().await?,
            Act::Consume => life.centre.consumes()?,
            Act::TakeOver => life.is_taken_over().await?,
        };
        if !went_on {
            break;
        }
        life.centre.check()?;
    }
    Ok(())
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(threads).build().unwrap()
}

fn all_cases(threads: usize) -> impl Strategy<Value = Case> {
    let end = prop_oneof![Just(End::PowerCut), Just(End::Kill)];
    let life = (prop::collection::vec(act(), 1..14), 0..120usize, end);
    (prop_oneof![Just(1), Just(threads)], prop::collection::vec(life, 1..4), any::<u64>())
        .prop_map(|(threads, lives, chance)| Case { threads, lives, chance })
}

fn act() -> impl Strategy<Value = Act> {
    let cut = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Cut::BeforeAnswer)),
        1 => Just(Some(Cut::InBody)),
        1 => Just(Some(Cut::AfterStaging)),
    ];
    prop_oneof![
        4 => (0..FILES, 20..2000usize).prop_map(|(file, size)| Act::Arrive { file, size }),
        6 => (0..FILES, cut).prop_map(|(file, cut)| Act::Take { file, cut }),
        2 => Just(Act::EndRound),
        3 => Just(Act::Consume),
        1 => Just(Act::TakeOver),
    ]
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable}={value}")))
}

/// The seed of cases that show each wrong order.
const KNOWN: u64 = 41_121;

/// Names that a source uses, again and again, in its two folders.
const FILES: usize = 4;
