//! A configuration file is refused, or says the same when its lines are
//! written anew; and its password is shown nowhere.

use std::{fs, sync::LazyLock};

use receiver::{Options, options::program};
use runtime::options::{FileFormat, Given, OptionError, Program};
use tempfile::TempDir;

pub fn run(input: &[u8]) {
    let passwords = passwords(input);
    let hides =
        |shown: &str| assert!(passwords.iter().all(|word| !shown.contains(word)), "{shown} shows a password");
    match read(input) {
        Ok(said) => {
            hides(&said);
            assert_eq!(read(&written_anew(input)).ok(), Some(said));
        }
        Err(error) => {
            let shown = error.to_string();
            hides(&shown);
            assert!(read(&written_anew(input)).is_err(), "written anew it is taken, and here {shown}");
        }
    }
}

/// The options of a receiver, as text.
fn read(file: &[u8]) -> Result<String, OptionError> {
    static PROGRAM: LazyLock<Program> = LazyLock::new(|| program("tentacle_server"));
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir().expect("there is room for a file");
    }
    let path = FOLDER.with(|folder| folder.path().join("tentacle_server.conf"));
    fs::write(&path, file).expect("there is room for a file");
    match PROGRAM.parse(["-F".into(), path.into()], [])? {
        Given::Layers(layers) => Options::from_layers(&layers).map(|options| format!("{options:?}")),
        Given::Text(text) => panic!("{text:?}, which nobody has asked for"),
    }
}

/// Without comments and what is left out for other reasons.
fn written_anew(file: &[u8]) -> Vec<u8> {
    let lines = FileFormat::TentacleServer.lines(file).into_iter();
    let lines =
        lines.map(|line| [line.token.as_bytes(), b" ", line.value.as_encoded_bytes(), b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}

/// Those that stand nowhere else, and are no word of a message.
fn passwords(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let lines = FileFormat::TentacleServer.lines(file).into_iter();
    let values =
        lines.filter(|line| line.token == "password").filter_map(|line| line.value.into_string().ok());
    values.filter(|word| word.len() >= 12 && text.matches(word.as_str()).count() == 1).collect()
}
