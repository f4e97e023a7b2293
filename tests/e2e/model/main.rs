//! Random sessions of several clients with a receiver, and a model of it that
//! is small enough to be seen to be right: they give the same answers, and
//! leave the same files.
//!
//! `TORTURE_SESSIONS` sets how many sessions there are at least, and
//! `TORTURE_SEED` repeats those of an earlier run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bodies;
mod client;
mod field;
mod model;
mod step;
mod wire;

use std::{
    cell::{Cell, RefCell},
    env, fmt,
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::{
    field::{Counted, Field},
    model::Mistake,
    step::{Case, cases},
};

#[test]
fn a_receiver_does_what_a_model_of_twenty_lines_does() {
    let (wanted, seed) = (number("TORTURE_SESSIONS", 300), number("TORTURE_SEED", std::process::id().into()));
    println!("{wanted} sessions, seed {seed}");
    match compare(wanted, seed, None, 1000) {
        Ok(counted) => println!(
            "counted: {} sessions, {} commands, {} restarts, 0 differences",
            counted.sessions, counted.commands, counted.restarts
        ),
        Err(difference) => panic!("{difference}\nTORTURE_SEED={seed} repeats it"),
    }
}

#[test]
fn a_model_that_is_wrong_is_told_apart_by_a_short_session() {
    for mistake in [Mistake::MoveKeeps, Mistake::TwoReaders] {
        let difference = compare(3000, 1, Some(mistake), 60).unwrap_err();
        println!("{mistake:?}: {difference}");
        assert!(difference.session.len() <= 30, "{mistake:?} needs too much to be seen:\n{difference}");
    }
}

/// The shortest session that was found in which they differ.
#[derive(Debug)]
struct Difference {
    what: String,
    session: Vec<String>,
}

/// Tries sessions until there were so many; shortens one that shows a
/// difference in so many attempts.
fn compare(wanted: u64, seed: u64, mistake: Option<Mistake>, shortening: u32) -> Result<Counted, Difference> {
    let config = Config {
        cases: u32::MAX,
        failure_persistence: None,
        max_shrink_iters: shortening,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let counted = Cell::new(Counted::default());
    // Of the shortest one, which is the last that differs.
    let told = RefCell::new(Vec::new());
    let one = |case: Case| {
        // Enough is tried, unless one is being shortened.
        if counted.get().sessions >= wanted && told.borrow().is_empty() {
            return Ok(());
        }
        let mut field = Field::new(&case, mistake);
        let outcome = field.play(&case.steps);
        let (more, session) = field.end();
        counted.set(counted.get() + more);
        outcome.map_err(|what| {
            told.replace(session);
            TestCaseError::fail(what)
        })
    };
    let mut outcome = Ok(());
    while outcome.is_ok() && counted.get().sessions < wanted {
        let next = proptest::strategy::Strategy::new_tree(&cases(), &mut runner).unwrap();
        outcome = runner.run_one(next, one).map(drop);
    }
    match outcome {
        Ok(()) => Ok(counted.get()),
        Err(TestError::Fail(what, _)) => {
            Err(Difference { what: what.message().to_owned(), session: told.take() })
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        f.write_str(&self.what)
    }
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}
