//! Removing files for their age (`--expire`).

use std::{
    io,
    time::{Duration, SystemTime},
};

use opentelemetry::{KeyValue, global};
use protocol::Filters;
use runtime::{drain::DrainWatch, telemetry::METER};
use spool::{Expired, Folder};
use tokio::{task::spawn_blocking, time::sleep};

/// After how long the files of a folder are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// By the name that the filters give; the root's is empty.
    pub folder: String,
    /// Since a file came.
    pub age: Duration,
}

impl Expiry {
    /// Reads `FOLDER=AGE,…`: `.` is the root, all others are of `filters`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse_list(list: &str, filters: &Filters) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for part in list.split(',').map(str::trim) {
            let one = Self::parse(part, filters)?;
            if all.iter().any(|other| other.folder == one.folder) {
                return Err(format!("{part:?}: the folder is named twice (once is enough)"));
            }
            all.push(one);
        }
        Ok(all)
    }

    fn parse(part: &str, filters: &Filters) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{part:?}: {why}"));
        let Some((folder, age)) = part.rsplit_once('=') else {
            return wrong("a folder and an age are needed, such as conf=7d or .=12h");
        };
        let folder = match folder {
            "." => "",
            folder if filters.folders().any(|known| known == folder) => folder,
            _ => {
                return wrong(
                    "no filter (-i) has this folder (name one of theirs, or . for the spool itself)",
                );
            }
        };
        let Some(age) = parse_age(age) else {
            return wrong(
                "an age is a whole number from 1, with s, m, h or d behind it, and at most ten years",
            );
        };
        Ok(Self { folder: folder.to_owned(), age })
    }
}

fn parse_age(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => DAY,
        _ => return None,
    };
    // Rust's own parsing lets a `+` pass.
    let number: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    let seconds = number.checked_mul(unit)?;
    (1..=3650 * DAY).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Removes what is too old in a folder of this name, at once and again and
/// again, until the service ends.
pub(crate) async fn keep_young(folder: Folder, expiry: Expiry, drain: DrainWatch) {
    let name = if expiry.folder.is_empty() { ".".to_owned() } else { expiry.folder };
    let counter = global::meter(METER)
        .u64_counter("tentacle_spool_expired")
        .with_description("Files that were removed for their age, by their folder")
        .build();
    let of = [KeyValue::new("folder", name.clone())];
    while !drain.is_started() {
        let (swept, result) = sweep(&folder, expiry.age, &drain).await;
        counter.add(swept.files, &of);
        if let Some(oldest) = swept.oldest {
            let seconds = SystemTime::now().duration_since(oldest).unwrap_or_default().as_secs();
            tracing::info!(folder = %name, files = swept.files, bytes = swept.bytes, oldest_seconds = seconds, "files removed for their age (--expire)");
        }
        if let Err(error) = result {
            tracing::warn!(folder = %name, %error, "files cannot be removed for their age (--expire): tried again");
        }
        tokio::select! {
            () = drain.started() => {}
            () = sleep((expiry.age / 10).clamp(SOONEST, LATEST)) => {}
        }
    }
}

/// What was removed, even where an error came in between.
async fn sweep(folder: &Folder, age: Duration, drain: &DrainWatch) -> (Expired, io::Result<()>) {
    let mut sum = Expired::default();
    while !drain.is_started() {
        let Some(before) = SystemTime::now().checked_sub(age) else { break };
        let folder = folder.clone();
        let expired = spawn_blocking(move || folder.expire(before, AT_ONCE)).await;
        let (expired, result) =
            expired.unwrap_or_else(|error| (Expired::default(), Err(io::Error::other(error))));
        sum.files += expired.files;
        sum.bytes += expired.bytes;
        sum.oldest = [sum.oldest, expired.oldest].into_iter().flatten().min();
        if result.is_err() || !expired.has_more || expired.files == 0 {
            return (sum, result);
        }
    }
    (sum, Ok(()))
}

/// Files that are removed before others have their turn at the disk.
const AT_ONCE: usize = 1000;

/// How often it is looked, at ages below ten seconds and above hundred
/// minutes.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(600);

/// In seconds.
const DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Vec<(String, u64)>, String> {
        let filters = Filters::parse(r".*\.conf:conf;.*\.zip:deep/er").unwrap();
        let all = Expiry::parse_list(list, &filters)?;
        Ok(all.into_iter().map(|one| (one.folder, one.age.as_secs())).collect())
    }

    #[test]
    fn folders_of_the_filters_and_the_root_have_ages() {
        let named = |folder: &str, age| (folder.to_owned(), age);
        assert_eq!(parse("conf=7d").unwrap(), [named("conf", 7 * DAY)]);
        assert_eq!(
            parse(".=90s, deep/er=5m,conf=1h").unwrap(),
            [named("", 90), named("deep/er", 300), named("conf", 3600)]
        );
    }

    #[test]
    fn what_is_no_folder_or_no_age_is_said() {
        for (list, why) in [
            ("", "a folder and an age are needed"),
            ("conf", "a folder and an age are needed"),
            ("conf=7d,", "a folder and an age are needed"),
            ("md5=7d", "no filter (-i) has this folder"),
            ("=7d", "no filter (-i) has this folder"),
            ("../conf=7d", "no filter (-i) has this folder"),
            ("conf=7d,conf=8d", "named twice"),
        ] {
            assert!(parse(list).unwrap_err().contains(why), "{list:?}");
        }
        for age in ["", "d", "7", "0d", "-1d", "+1d", "1.5d", "7w", "3651d", "99999999999999999999d", "7é"] {
            assert!(
                parse(&format!("conf={age}")).unwrap_err().contains("an age is a whole number"),
                "{age:?}"
            );
        }
    }
}
