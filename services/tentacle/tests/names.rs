//! The program is what it is called.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    os::unix::fs::symlink,
    process::{Command, Output},
};

use tempfile::TempDir;

#[test]
fn by_each_name_it_is_that_program() {
    for (name, of_its_own) in [("tentacle_client", "--check"), ("tentacle_server", "--insecure")] {
        let version = String::from_utf8(called(name, "--version").stdout).unwrap();
        assert!(version.starts_with(&format!("{name} ")), "{version}");
        let help = String::from_utf8(called(name, "--help").stdout).unwrap();
        assert!(help.contains(of_its_own), "{help}");
    }
}

#[test]
fn by_another_name_it_says_how_to_call_it() {
    let ended = called("tentacle", "--version");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.starts_with("tentacle: error: called as ") && said.lines().count() == 1, "{said}");
    assert!(
        said.ends_with("/tentacle: call it by a link named tentacle_client or tentacle_server\n"),
        "{said}"
    );
}

fn called(name: &str, option: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_tentacle"), &link).unwrap();
    Command::new(link).arg(option).output().unwrap()
}
