//! Rows: measured in rounds between two looks at the disk, and judged.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::disk;

/// One line of the table.
pub(crate) struct Row {
    /// For `--only`.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) measure: Measure,
}

/// Measures once, on the programs of a folder.
pub(crate) type Measure = fn(&Stage, &Path) -> anyhow::Result<f64>;

/// What a row must reach.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// Files a second, as a multiple of what the disk does with one thread.
    TimesDisk(f64),
    /// MB a second, as a multiple of what `dd` reaches.
    TimesDd(f64),
    /// Files a second over TLS, beside the same over plain TCP. Told, with no
    /// bound.
    BesidePlain(Measure),
    /// MB a second over TLS, as a multiple of the same over plain TCP.
    TimesPlain(f64, Measure),
    /// Files a second while they are traced, as a multiple of the same without.
    TimesUntraced(f64, Measure),
    /// In these units, as a multiple of what haproxy does.
    TimesHaproxy(f64, &'static str, Measure),
    /// Files a second.
    FilesPerSecond(f64),
    /// MB of memory.
    Megabytes(f64),
    Seconds(f64),
    /// Of one core.
    Percent(f64),
}

/// Where and how long to measure.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) quick: bool,
}

impl Stage {
    /// A folder that vanishes with its contents.
    pub(crate) fn folder(&self) -> anyhow::Result<TempDir> {
        tempfile::tempdir_in(&self.dir).with_context(|| format!("cannot work in {}", self.dir.display()))
    }

    /// `full`, or a part of it for a quick look.
    pub(crate) fn files(&self, full: usize) -> usize {
        if self.quick { full / 4 } else { full }
    }
}

/// Measures all rows on the programs of all folders and prints them; how many
/// missed their bound.
pub(crate) fn run(rows: &[Row], programs: &[PathBuf], stage: &Stage) -> anyhow::Result<usize> {
    println!("{:<14} {:<52} {:>15} {:>15} {:>6}  bound", "row", "", "reached", "beside it", "ratio");
    let mut missed = 0;
    for row in rows {
        let mut rounds = vec![Vec::new(); programs.len()];
        let mut failures = vec![None; programs.len()];
        for _ in 0..row.bound.rounds(stage) {
            disk::settle(&stage.dir)?;
            let mut before = row.bound.beside(stage, &programs[0])?;
            for (at, programs) in programs.iter().enumerate() {
                let reached = (row.measure)(stage, programs);
                disk::settle(&stage.dir)?;
                let after = row.bound.beside(stage, programs)?;
                match reached {
                    Ok(reached) => rounds[at].push(Round { reached, beside: mean(before, after) }),
                    Err(error) => failures[at] = Some(format!("{error:#}")),
                }
                before = after;
            }
        }
        for (at, rounds) in rounds.iter().enumerate() {
            let label =
                if programs.len() > 1 { format!("{} [{}]", row.name, at + 1) } else { row.name.into() };
            missed += usize::from(!print(row, &label, rounds, failures[at].as_deref()));
        }
    }
    Ok(missed)
}

/// One measurement, and the mean of what was measured on both sides of it.
#[derive(Clone)]
struct Round {
    reached: f64,
    beside: Option<f64>,
}

impl Round {
    fn ratio(&self) -> Option<f64> {
        self.beside.map(|beside| self.reached / beside)
    }
}

/// Prints a row; whether it kept its bound.
fn print(row: &Row, label: &str, rounds: &[Round], failure: Option<&str>) -> bool {
    let bound = row.bound;
    if let Some(failure) = failure {
        println!(
            "{label:<14} {:<52} {:>15} {:>15} {:>6}  {bound} MISSED: {failure}",
            row.what, "-", "-", "-"
        );
        return false;
    }
    let reached = median(rounds.iter().map(|round| round.reached));
    let beside = median(rounds.iter().filter_map(|round| round.beside));
    let beside = if beside.is_nan() { String::new() } else { bound.in_units(beside) };
    let ratio = median(rounds.iter().filter_map(Round::ratio));
    let kept = bound.is_kept(reached, ratio);
    let ratio = if ratio.is_nan() { String::new() } else { format!("{ratio:.2}") };
    let verdict = if kept { "ok" } else { "MISSED" };
    println!(
        "{label:<14} {:<52} {:>15} {beside:>15} {ratio:>6}  {bound} {verdict}",
        row.what,
        bound.in_units(reached)
    );
    kept
}

// === impl Bound ===

impl Bound {
    fn rounds(self, stage: &Stage) -> usize {
        match self {
            _ if stage.quick => 1,
            Self::Megabytes(_) | Self::Seconds(_) | Self::Percent(_) => 1,
            Self::TimesDisk(_) | Self::FilesPerSecond(_) | Self::BesidePlain(_) => 3,
            Self::TimesHaproxy(..) | Self::TimesUntraced(..) => 5,
            // A large file moves in a fraction of a second, in which a machine
            // of many tenants may do something else.
            Self::TimesDd(_) | Self::TimesPlain(..) => 9,
        }
    }

    /// What the row is compared with, in this bound's units.
    fn beside(self, stage: &Stage, programs: &Path) -> anyhow::Result<Option<f64>> {
        match self {
            Self::TimesDisk(_) | Self::FilesPerSecond(_) => disk::files_per_second(stage).map(Some),
            Self::TimesDd(_) => disk::megabytes_per_second(stage).map(Some),
            Self::BesidePlain(other)
            | Self::TimesPlain(_, other)
            | Self::TimesUntraced(_, other)
            | Self::TimesHaproxy(_, _, other) => {
                let rate = other(stage, programs)?;
                disk::settle(&stage.dir)?;
                Ok(Some(rate))
            }
            Self::Megabytes(_) | Self::Seconds(_) | Self::Percent(_) => Ok(None),
        }
    }

    fn is_kept(self, reached: f64, ratio: f64) -> bool {
        match self {
            Self::TimesDisk(least)
            | Self::TimesDd(least)
            | Self::TimesPlain(least, _)
            | Self::TimesUntraced(least, _)
            | Self::TimesHaproxy(least, _, _) => ratio >= least,
            Self::BesidePlain(_) => true,
            Self::FilesPerSecond(least) => reached >= least,
            Self::Megabytes(most) | Self::Seconds(most) | Self::Percent(most) => reached < most,
        }
    }

    fn in_units(self, value: f64) -> String {
        match self {
            Self::TimesDisk(_) | Self::FilesPerSecond(_) | Self::BesidePlain(_) | Self::TimesUntraced(..) => {
                format!("{value:.0} files/s")
            }
            Self::TimesDd(_) | Self::TimesPlain(..) => format!("{value:.0} MB/s"),
            Self::TimesHaproxy(_, unit, _) => format!("{value:.0} {unit}"),
            Self::Megabytes(_) => format!("{value:.1} MB"),
            Self::Seconds(_) => format!("{value:.1} s"),
            Self::Percent(_) => format!("{value:.1} %"),
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimesDisk(least) | Self::TimesDd(least) => write!(f, ">= {least:.2} x disk"),
            Self::TimesPlain(least, _) => write!(f, ">= {least:.2} x plain"),
            Self::TimesHaproxy(least, _, _) => write!(f, ">= {least:.2} x haproxy"),
            Self::TimesUntraced(least, _) => write!(f, ">= {least:.2} x untraced"),
            Self::BesidePlain(_) => f.write_str("beside plain"),
            Self::FilesPerSecond(least) => write!(f, ">= {least:.0} files/s"),
            Self::Megabytes(most) => write!(f, "< {most:.0} MB"),
            Self::Seconds(most) => write!(f, "< {most:.0} s"),
            Self::Percent(most) => write!(f, "< {most:.0} %"),
        }
    }
}

fn mean(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some((before? + after?) / 2.0)
}

/// Not a number where there is none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2));
    low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
}
