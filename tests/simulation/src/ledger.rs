//! What was sent, what was promised, and what came.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::plan::Plan;

/// One sending of one file. Its content is its own, so that whatever is found
/// anywhere tells which sending it is of.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) name: String,
    size: usize,
    /// When it began, and when its receipt came.
    began: Duration,
    receipt: Option<Duration>,
    /// How often the consumer has got it.
    came: u32,
    came_at: Option<Duration>,
}

/// All of them, and what happened.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    attempts: Vec<Attempt>,
    pub(crate) now: Duration,
    events: String,
    /// The first promise that was broken.
    violated: Option<String>,
    pub(crate) sessions: u64,
    pub(crate) cuts: u64,
    pub(crate) restarts: u64,
    pub(crate) partitions: u64,
    pub(crate) jumps: u64,
    /// Whether a file may come twice.
    pub(crate) may_repeat: bool,
    /// Files that were seen whole in the spool.
    seen: BTreeMap<PathBuf, usize>,
}

impl Ledger {
    /// A sending begins: its number, and its content.
    pub(crate) fn begin(&mut self, name: &str, size: usize) -> (usize, Vec<u8>) {
        let id = self.attempts.len();
        let attempt =
            Attempt { name: name.to_owned(), size, began: self.now, receipt: None, came: 0, came_at: None };
        self.attempts.push(attempt);
        (id, content(id, size))
    }

    /// The client says that the server has it.
    pub(crate) fn receipt(&mut self, id: usize) {
        self.attempts[id].receipt = Some(self.now);
        self.say(format_args!("receipt {id}"));
    }

    /// The consumer reads a file.
    pub(crate) fn consumed(&mut self, path: &Path, bytes: &[u8]) {
        let Some(id) = self.whole(path, bytes, "the incoming folder") else { return };
        self.attempts[id].came += 1;
        self.attempts[id].came_at = Some(self.now);
        let times = self.attempts[id].came;
        self.say(format_args!("came {id} {}", path.file_name().unwrap().display()));
        if times > 1 && !self.may_repeat {
            self.violate(format!(
                "exactly once: sending {id} of {} came {times} times",
                self.attempts[id].name
            ));
        }
    }

    /// A file stands in the spool, for whoever lists it.
    pub(crate) fn stands(&mut self, path: &Path) {
        let Ok(size) = std::fs::metadata(path).map(|found| found.len() as usize) else { return };
        if self.seen.get(path) == Some(&size) {
            return;
        }
        let Ok(bytes) = std::fs::read(path) else { return };
        if self.whole(path, &bytes, "the spool").is_some() {
            self.seen.insert(path.to_owned(), bytes.len());
        }
    }

    /// Which sending a file is of; a torso is of none.
    fn whole(&mut self, path: &Path, bytes: &[u8], place: &str) -> Option<usize> {
        let id = bytes.first_chunk::<4>().map(|id| u32::from_le_bytes(*id) as usize);
        let found = id.filter(|&id| {
            self.attempts.get(id).is_some_and(|attempt| {
                // A name that was taken has a number before its ending.
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                attempt.size == bytes.len()
                    && name.starts_with(attempt.name.trim_end_matches(".data"))
                    && content(id, bytes.len()) == bytes
            })
        });
        if found.is_none() {
            self.violate(format!(
                "no torso: {} stands in {place} with {} bytes that nobody sent",
                path.display(),
                bytes.len()
            ));
        }
        found
    }

    /// At the end: whether all that was promised came.
    pub(crate) fn settle(&mut self, overwrite: bool) {
        for id in 0..self.attempts.len() {
            let attempt = &self.attempts[id];
            let (Some(receipt), 0) = (attempt.receipt, attempt.came) else { continue };
            // Another file of that name may have taken its place, as was
            // asked for: one whose sending was not over before this one's
            // began.
            let replaced = overwrite
                && self.attempts.iter().enumerate().any(|(other, o)| {
                    other != id
                        && o.name == attempt.name
                        && o.came_at.is_none_or(|at| at >= receipt || at >= attempt.began)
                });
            if !replaced {
                let why = format!(
                    "acknowledged implies kept: sending {id} of {} ({} bytes) has its receipt of {receipt:?}, and never came",
                    attempt.name, attempt.size
                );
                return self.violate(why);
            }
        }
    }

    /// Whether a file of this name has its receipt, and has not come.
    pub(crate) fn is_promised(&self, path: &Path) -> bool {
        let is_named = |attempt: &Attempt| path.ends_with(&attempt.name);
        self.attempts
            .iter()
            .any(|attempt| is_named(attempt) && attempt.receipt.is_some() && attempt.came == 0)
    }

    pub(crate) fn violate(&mut self, why: String) {
        self.say(format_args!("VIOLATED {why}"));
        self.violated.get_or_insert(why);
    }

    pub(crate) fn violated(&self) -> Option<String> {
        self.violated.clone()
    }

    pub(crate) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.events, "{:9.3} {what}", self.now.as_secs_f64());
    }

    pub(crate) fn tell(&self, plan: &Plan) {
        println!("{plan:#?}\n{}", self.events);
    }

    pub(crate) fn counts(&self) -> String {
        let came: u32 = self.attempts.iter().map(|attempt| attempt.came).sum();
        format!(
            "world: sendings={} sessions={} cuts={} restarts={} partitions={} jumps={} files={came}",
            self.attempts.len(),
            self.sessions,
            self.cuts,
            self.restarts,
            self.partitions,
            self.jumps
        )
    }
}

/// What a sending holds: its number, then bytes that are made of it.
fn content(id: usize, size: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(id).unwrap().to_le_bytes().to_vec();
    let mut chance = fastrand::Rng::with_seed(id as u64);
    // Half of it can be packed.
    while bytes.len() < size {
        let byte = chance.u8(..);
        bytes.extend(std::iter::repeat_n(byte, chance.usize(1..4)));
    }
    bytes.truncate(size);
    bytes
}
