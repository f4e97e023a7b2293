//! How fast the built programs are, beside the disk that they write to.
//!
//! A machine's speed drifts, so a rate says little and a ratio much: each row
//! is measured several times, with the disk's own rate before and after each,
//! and judged by the median of the ratios to those neighbours. Rows over TLS
//! have the same over plain TCP in the disk's place.
//!
//! The load generator shares the machine with the servers and is kept lean:
//! threads, and the wire's bytes as they are.

mod disk;
mod files;
mod large;
mod proxy;
mod puller;
mod relay;
mod row;
mod server;
mod sites;
mod small;
mod telemetry;
mod tls;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};

use crate::row::{Row, Stage};

fn main() -> anyhow::Result<ExitCode> {
    let Some(asked) = Asked::parse(std::env::args().skip(1))? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let rows: Vec<_> = rows().into_iter().filter(|row| asked.wants(row)).collect();
    if rows.is_empty() {
        let names: Vec<_> = rows_named().collect();
        bail!("--only {}: no such row (there are {})", asked.only.unwrap_or_default(), names.join(", "));
    }
    raise_open_files()?;
    std::fs::create_dir_all(&asked.dir).with_context(|| format!("folder {}", asked.dir.display()))?;
    let stage = Stage { dir: asked.dir, quick: asked.quick };
    println!("{PREFACE}\n");
    let missed = row::run(&rows, &asked.programs, &stage)?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rows() -> Vec<Row> {
    [
        small::rows(),
        large::rows(),
        small::idle_rows(),
        tls::rows(),
        puller::rows(),
        sites::rows(),
        proxy::rows(),
        telemetry::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn rows_named() -> impl Iterator<Item = &'static str> {
    rows().into_iter().map(|row| row.name)
}

/// What the command line asks for.
struct Asked {
    only: Option<String>,
    quick: bool,
    dir: PathBuf,
    /// Folders of built programs; each row runs on those of each.
    programs: Vec<PathBuf>,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let own = std::env::current_exe()?;
        let built = own.parent().context("this program is in no folder")?;
        // Beside the programs, in the build's folder: on a disk, where /tmp
        // may be memory.
        let mut asked = Self { only: None, quick: false, dir: built.join("../bench"), programs: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--only" => asked.only = Some(value()?),
                "--quick" => asked.quick = true,
                "--dir" => asked.dir = value()?.into(),
                "--programs" => asked.programs.push(value()?.into()),
                "-h" | "--help" => return Ok(None),
                _ => bail!("unknown argument {argument} (--help tells which there are)"),
            }
        }
        if asked.programs.is_empty() {
            asked.programs.push(built.to_owned());
        }
        Ok(Some(asked))
    }

    fn wants(&self, row: &Row) -> bool {
        self.only.as_ref().is_none_or(|only| only == row.name)
    }
}

/// Thousands of connections need as many descriptors, here and in the
/// servers, which inherit the bound.
fn raise_open_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the open files")
}

const PREFACE: &str = "\
Programs of a release build, their log at its default level into /dev/null. Beside each row stands what was
measured before and after it: the disk, for small files as create + write 4 kB + fdatasync + rename + fsync of
the folder by one thread, for large ones as dd if=/dev/zero bs=1M count=500 conv=fdatasync; for rows over TLS,
the same over plain TCP, for rows of the proxy the same with haproxy (mode tcp), for the row with traces the same without.";

const HELP: &str = "\
bench [--only ROW] [--quick] [--dir DIR] [--programs DIR]...
  --only ROW        run one row
  --quick           fewer files and rounds: a look, not a measurement
  --dir DIR         work in DIR, which must be on the disk that is meant [default: beside the build]
  --programs DIR    run the programs in DIR; given several times, each round runs those of each,
                    to compare builds [default: those built beside this program]
Exits with 1 when a row misses its bound.";
