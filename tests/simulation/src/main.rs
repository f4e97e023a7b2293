//! One world: agents, perhaps a proxy, a receiver, a puller and a consumer in
//! a simulated network, in which what a seed says goes wrong.
//!
//! `world SEED [--trace]` draws it all from a number. `world KIND SIDE WAY BYTE
//! HOW` cuts one small session after so many bytes, and `world KIND HOST STEP
//! HOW` ends one process during it; several may follow, with `,` between.
//! `--wrong HOW` has a promise broken on purpose; the world must see it.
//!
//! Chance and clocks of the whole process are simulated too, so that the same
//! arguments give the same run. `WORLD_LOG=1` has the services log.
//!
//! It ends with one line of counts and status 0, or with what was violated and
//! status 1.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "who started it reads that")]

mod agent;
mod cutter;
mod files;
mod hosts;
mod ledger;
mod old;
mod plan;
mod world;

use std::{path::Path, process::ExitCode, thread};

use mad_turmoil::time::SimClocksGuard;
use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    plan::{Plan, Wrong},
    world::World,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Before chance is simulated: two runs of one seed must not meet.
    let folder = tempfile::Builder::new().prefix("world-").tempdir_in(files::fast()).unwrap();
    if std::env::var_os("WORLD_LOG").is_some() {
        let all = tracing_subscriber::filter::LevelFilter::DEBUG;
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(all).init();
    }
    for (number, world) in arguments.split(|argument| argument == ",").enumerate() {
        let place = folder.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        // What a thread keeps by itself is new in each world.
        let whole = thread::scope(|scope| scope.spawn(|| live(world.to_vec(), &place)).join());
        if !matches!(whole, Ok(true)) {
            eprintln!("world {}", world.join(" "));
            return ExitCode::FAILURE;
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
    ExitCode::SUCCESS
}

/// One world; whether all held that was promised.
fn live(mut arguments: Vec<String>, folder: &Path) -> bool {
    let trace = take(&mut arguments, "--trace").is_some();
    let wrong = take(&mut arguments, "--wrong").map(|at| Wrong::named(&arguments.remove(at)));
    let mut plan = match &arguments[..] {
        [seed] => Plan::drawn(seed.parse().unwrap()),
        [kind, side, way, byte, how] => Plan::small(kind).cut(side, way, byte.parse().unwrap(), how),
        [kind, host, step, how] => Plan::small(kind).kill(host, step.parse().unwrap(), how),
        _ => panic!("world SEED | world KIND SIDE WAY BYTE HOW | world KIND HOST STEP HOW"),
    };
    plan.wrong = wrong;
    let chance = StdRng::seed_from_u64(plan.seed);
    match mad_turmoil::rand::try_rng() {
        Some(mut last) => *last = chance,
        None => mad_turmoil::rand::set_rng(chance),
    }
    fastrand::seed(plan.seed);
    let clocks = SimClocksGuard::init();
    let (ledger, ended) = World::new(&plan, folder).run();
    drop(clocks);
    if trace || ended.is_err() {
        ledger.borrow().tell(&plan);
    }
    match ended {
        Ok(()) => println!("{}", ledger.borrow().counts()),
        Err(why) => {
            eprintln!("violated: {why}");
            return false;
        }
    }
    true
}

/// Takes a word out of the arguments: where it was.
fn take(arguments: &mut Vec<String>, word: &str) -> Option<usize> {
    let at = arguments.iter().position(|argument| argument == word)?;
    arguments.remove(at);
    Some(at)
}
