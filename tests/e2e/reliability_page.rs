//! The commands of the page on reliability run tests that are there: a filter
//! that matches none would pass for ever.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_command_of_the_page_names_tests_that_are_there() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let mut inside = false;
    let mut commands = 0;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            commands += 1;
            if let Err(why) = check(line) {
                panic!("{line}: {why}");
            }
        }
    }
    assert!(commands > 20, "{commands}");
}

#[test]
fn a_command_without_its_tests_is_found_out() {
    for wrong in [
        "cargo test --release -p nowhere",
        "cargo test --release -p tests --test nowhere",
        "cargo test --release -p tests --test wire no_test_of_this_name",
        "cargo test --release -p spool no_test_of_this_name",
        "tests/nowhere.sh 30",
        "make nothing",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}

fn check(command: &str) -> Result<(), String> {
    let words: Vec<_> = command.split(' ').collect();
    match words[..] {
        ["make", target] => {
            let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
            is(makefile.contains(&format!("\n{target}: ")), format!("no {target} in the Makefile"))
        }
        ["cargo", "test", "--release", ref rest @ ..] => check_tests(rest),
        [script, ..] => is(root().join(script).is_file(), format!("no {script}")),
        [] => Err("an empty line".into()),
    }
}

fn check_tests(words: &[&str]) -> Result<(), String> {
    let (mut packages, mut targets, mut filters) = (Vec::new(), Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-p" => packages.push(package(words.next().ok_or("no name behind -p")?)?),
            "--test" => targets.push(*words.next().ok_or("no name behind --test")?),
            "--features" => _ = words.next(),
            "--lib" => {}
            filter => filters.push(filter),
        }
    }
    for package in packages {
        for target in &targets {
            let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
            let named = manifest.contains(&format!("[[test]]\nname = \"{target}\"\n"));
            let found = ["tests/{}.rs", "tests/{}/main.rs"].map(|form| form.replace("{}", target));
            let found = found.iter().any(|path| package.join(path).is_file());
            is(named || found, format!("no test target {target} in {}", package.display()))?;
        }
        for filter in &filters {
            let mut found = false;
            let wanted = match filter.strip_suffix("::") {
                Some(module) => format!("\nmod {module};"),
                None => filter.to_string(),
            };
            each_source(&package, &mut |text| found |= text.contains(&wanted));
            is(found, format!("nothing called {filter} in {}", package.display()))?;
        }
    }
    Ok(())
}

fn package(name: &str) -> Result<PathBuf, String> {
    let folders = ["services/{}", "tests/{}", "{}"].map(|form| root().join(form.replace("{}", name)));
    let found = folders.into_iter().find(|folder| folder.join("Cargo.toml").is_file());
    found.ok_or_else(|| format!("no package {name}"))
}

fn each_source(folder: &Path, see: &mut dyn FnMut(&str)) {
    // This file names what is not there.
    let own = Path::new(file!()).file_name();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "target" {
                each_source(&path, see);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.file_name() != own {
            see(&fs::read_to_string(path).unwrap());
        }
    }
}

fn is(condition: bool, otherwise: String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
