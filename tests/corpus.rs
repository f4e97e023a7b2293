//! The inputs that a crate keeps for fuzzing. Not of these tests: those of each
//! such crate include it, so that the folder is their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Has a target take all that is kept for it.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let mut inputs = 0;
    for input in fs::read_dir(folder(target)).unwrap() {
        let input = input.unwrap().path();
        println!("{}", input.display());
        run(&fs::read(&input).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{target}: no input");
}

/// Where they are.
pub(crate) fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}
