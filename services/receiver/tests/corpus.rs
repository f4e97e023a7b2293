//! The inputs that are kept for fuzzing are taken as they are while fuzzing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "it is public where it is fuzzed")]

use std::{fs, path::Path};

#[path = "../fuzz/src/lib.rs"]
mod bodies;

#[test]
fn a_name_is_one_component_of_a_path_and_nothing_of_the_spools_own() {
    replay("names", bodies::names::run);
}

#[test]
fn a_configuration_file_is_refused_or_says_the_same_anew() {
    replay("tentacle_server_conf", bodies::tentacle_server_conf::run);
}

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for input in fs::read_dir(&corpus).unwrap() {
        let input = input.unwrap().path();
        println!("{}", input.display());
        run(&fs::read(&input).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{}: no input", corpus.display());
}
