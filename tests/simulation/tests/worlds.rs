//! Many worlds, in which network and time fail: what was promised holds in
//! each. `TORTURE_SEEDS` says how many are drawn, and `TORTURE_SEED` which is
//! the first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "what was counted is for whoever looks")]

use std::{
    collections::BTreeMap,
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

fn world(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_world"));
    command.args(arguments).env("RUST_BACKTRACE", "0").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Whether there is time for all that can be tried.
fn is_torture() -> bool {
    number("TORTURE_SEEDS", 0) >= 1000
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Sums of what worlds counted.
#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, output: &Output) {
        let said = said(output);
        let counts = said.lines().rev().find_map(|line| line.strip_prefix("world: ")).unwrap();
        for (what, count) in counts.split(' ').filter_map(|word| word.split_once('=')) {
            *self.0.entry(what.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
    }

    fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }
}

/// Runs the worlds of all these arguments, some at once; what they counted.
/// The first that fails is shown whole.
fn all(worlds: &[Vec<String>]) -> Counts {
    let (next, counts) = (AtomicU64::new(0), Mutex::new(Counts::default()));
    let failed = Mutex::new(None::<String>);
    let work = || {
        while let Some(arguments) = worlds.get(next.fetch_add(1, Relaxed) as usize) {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let output = world(&arguments);
            if !output.status.success() {
                let why = format!("world {}\n{}", arguments.join(" "), said(&output));
                failed.lock().unwrap().get_or_insert(why);
                next.store(worlds.len() as u64, Relaxed);
                return;
            }
            counts.lock().unwrap().add(&output);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
    if let Some(why) = failed.into_inner().unwrap() {
        panic!("{why}");
    }
    counts.into_inner().unwrap()
}

#[test]
fn what_is_promised_holds_in_every_world() {
    let (first, seeds) = (number("TORTURE_SEED", 1), number("TORTURE_SEEDS", 200));
    let worlds: Vec<_> = (first..first + seeds).map(|seed| vec![seed.to_string()]).collect();
    let counts = all(&worlds);
    let [sessions, cuts, restarts, partitions, jumps, files] =
        ["sessions", "cuts", "restarts", "partitions", "jumps", "files"].map(|what| counts.of(what));
    println!(
        "counted: {seeds} seeds, {sessions} sessions, {cuts} cuts, {restarts} restarts, {partitions} partitions, {jumps} jumps of clocks, {files} files, 0 lost"
    );
}

#[test]
fn a_session_may_be_cut_after_any_byte() {
    let mut cuts = 0;
    for kind in ["plain", "zip", "proxy", "safe", "closing", "old"] {
        // The others are as plain but for a part: each seventh byte of theirs
        // is enough when there is little time.
        let stride = if kind == "plain" || is_torture() { 1 } else { 7 };
        for (side, way) in [("agents", "up"), ("agents", "down"), ("puller", "up"), ("puller", "down")] {
            for (number, how) in ["closed", "silent", "half"].into_iter().enumerate() {
                let mut bytes = (number..).step_by(stride);
                // Until there are no more to cut after.
                loop {
                    let batch = bytes.by_ref().take(20);
                    let batch: Vec<_> =
                        batch.map(|byte| words(&[kind, side, way, &byte.to_string(), how])).collect();
                    let counts = all(&batch);
                    cuts += counts.of("cuts");
                    if counts.of("cuts") < 20 {
                        break;
                    }
                }
            }
        }
    }
    println!("counted: {cuts} cuts, 0 lost");
}

#[test]
fn a_process_may_end_at_any_step() {
    let mut worlds = Vec::new();
    for kind in ["plain", "zip", "proxy", "safe", "closing", "old"] {
        let stride = if kind == "plain" || is_torture() { 1 } else { 4 };
        let hosts = ["agent", "receiver", "puller", "proxy"];
        for host in hosts.into_iter().filter(|host| *host != "proxy" || kind == "proxy") {
            for (number, how) in ["killed", "vanished"].into_iter().enumerate() {
                let steps = (number..STEPS).step_by(stride);
                worlds.extend(steps.map(|step| words(&[kind, host, &step.to_string(), how])));
            }
        }
    }
    println!("counted: {} restarts, {} files, 0 lost", worlds.len(), all(&worlds).of("files"));
}

#[test]
fn a_seed_gives_the_same_world_each_time() {
    for seed in ["1", "2", "3", "4", "5"] {
        let [one, other] = [(); 2].map(|()| said(&world(&[seed, "--trace"])));
        assert_eq!(one, other);
    }
}

#[test]
fn a_world_sees_what_is_broken_on_purpose() {
    for (wrong, promise) in [
        ("loses", "acknowledged implies kept"),
        ("repeats", "exactly once"),
        ("tears", "no torso"),
        ("waits", "nobody waits past its deadline"),
    ] {
        let output = world(&["9", "--wrong", wrong]);
        assert!(!output.status.success(), "{wrong}");
        let said = said(&output);
        assert!(said.contains(&format!("violated: {promise}")), "{wrong}: {said}");
    }
}

/// Until two small files are through the puller, and a while more.
const STEPS: usize = 120;
