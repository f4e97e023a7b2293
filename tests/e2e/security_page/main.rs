//! The security page's commands, run as they stand.
//!
//! Every section of `docs/security.md` that shows commands runs in a fresh
//! folder, with the built programs first on the path. What a command block
//! prints must be what the block of text behind it shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod page;
mod section;

use std::{fs, path::Path, thread};

use self::{page::Page, section::run};

#[test]
fn every_command_of_the_page_does_what_the_page_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let page = Page::read(&fs::read_to_string(path).unwrap()).unwrap_or_else(|why| panic!("{why}"));
    let titles: Vec<_> = page.sections.iter().map(|section| section.title.as_str()).collect();
    assert_eq!(titles, SECTIONS);
    // Most of a section is waiting.
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = page.sections.iter().map(|section| scope.spawn(move || run(section))).collect();
        let panicked = |_| Err("panicked, see above".to_owned());
        running.into_iter().map(|section| section.join().unwrap_or_else(panicked)).collect()
    });
    let mut failures = String::new();
    for (title, result) in titles.iter().zip(&results) {
        println!("{} {title}", if result.is_ok() { "ok    " } else { "FAILED" });
        if let Err(why) = result {
            failures += &format!("\n## {title}\n{why}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The sections with commands: one that loses its commands is missed.
const SECTIONS: &[&str] = &[
    "Password only",
    "TLS, and nobody is checked",
    "TLS, and the client checks the server",
    "Mutual TLS",
    "Mutual TLS and password",
    "Through a proxy",
    "As the guides make them",
    "A key in the older encrypted form",
    "Encrypted keys",
    "Rotation",
    "By address",
    "Behind a proxy",
    "By name",
    "The server's name",
];
