//! A long mixed load with a fixed seed: afterwards memory, descriptors, tasks
//! and spools are where they were before it, and an agent waits as long as at
//! its beginning.
//!
//! `TORTURE_SECONDS` says how long, `TORTURE_SEED` by which seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod field;
mod load;
mod vitals;

use std::{env, time::Duration};

use crate::{field::Field, load::Load};

#[test]
fn after_a_long_mixed_load_everything_is_where_it_was_before() {
    let seconds = number("TORTURE_SECONDS", 6);
    let seed = number("TORTURE_SEED", 41121);
    println!("{seconds} s of load, seed {seed}");
    let field = Field::start();
    // What is made once, by the first of its kind, is there afterwards.
    let warm = Load::run(&field, Duration::from_secs((seconds / 10).clamp(3, 60)), seed);
    field.becomes_quiet(&warm);
    let before = field.vitals();

    let load = Load::run(&field, Duration::from_secs(seconds), seed ^ 1);
    field.becomes_quiet(&load);
    field.return_to(&before);

    let (first, last) = load.latencies();
    println!("an agent's file took {first} at the beginning, and {last} at the end");
    if seconds >= LONG {
        assert!(last.is_like(&first), "an agent's file took {first} at the beginning, and {last} at the end");
    }
    let counts = load.counts();
    println!(
        "counted: {seconds} s of soak, {counts}, {} torn, {} twice, 0 lost",
        field.torn(),
        field.twice()
    );
    assert_eq!((field.torn(), field.twice()), (0, 0));
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// Seconds from which on what else the machine does evens out.
const LONG: u64 = 300;
