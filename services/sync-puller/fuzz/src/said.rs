//! What a puller makes of a file.

use std::{collections::HashSet, fs, sync::LazyLock};

use runtime::options::{Given, Program};
use sync_puller::{Options, options::program};
use tempfile::TempDir;

/// Reads the file under the option that names it; else why it cannot.
pub fn read(option: &str, file: &[u8]) -> Result<Options, String> {
    static PROGRAM: LazyLock<Program> = LazyLock::new(|| program("tentacle-sync-puller"));
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir().expect("there is room for a file");
    }
    let path = FOLDER.with(|folder| folder.path().join("file"));
    fs::write(&path, file).expect("there is room for a file");
    let given = PROGRAM.parse([option.into(), path.into()], []).map_err(|error| error.to_string())?;
    match given {
        Given::Layers(layers) => Options::from_layers(&layers).map_err(|error| error.to_string()),
        Given::Text(text) => panic!("{text:?}, which nobody has asked for"),
    }
}

/// What holds for all options that are taken.
pub fn check(options: &Options) {
    let mut seen = HashSet::new();
    for source in &options.sources {
        assert!(seen.insert(&source.address), "{} is named twice", source.address);
        assert!(source.address.port > 0 && !source.address.host.is_empty());
        assert!((1..=256).contains(&source.connections) && source.block_size >= 512);
        assert!((1..=86_400).contains(&source.interval.as_secs()));
        assert!(source.deadline.as_duration().as_secs() >= 1);
        for folder in &source.folders {
            let is_plain = folder.name.split('/').all(|part| !matches!(part, "" | "." | ".."));
            assert!(is_plain && !folder.name.contains('\0'), "{folder:?} leaves the incoming folder");
        }
    }
}
