//! What the disk does by itself.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};

use crate::{files::SMALL, row::Stage};

/// Files that one thread makes durable in a second: create, write 4 kB,
/// fdatasync, rename, fsync of the folder.
pub(crate) fn files_per_second(stage: &Stage) -> anyhow::Result<f64> {
    let folder = stage.folder()?;
    let (aside, body) = (folder.path().join(".aside"), [b'x'; SMALL]);
    let count = stage.files(3000);
    let began = Instant::now();
    for at in 0..count {
        let mut file = File::create_new(&aside)?;
        file.write_all(&body)?;
        file.sync_data()?;
        fs::rename(&aside, folder.path().join(format!("file{at:06}")))?;
        File::open(folder.path())?.sync_all()?;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    drop(folder);
    settle(&stage.dir)?;
    Ok(rate)
}

/// MB (of a million bytes) that `dd` makes durable in a second.
pub(crate) fn megabytes_per_second(stage: &Stage) -> anyhow::Result<f64> {
    let folder = stage.folder()?;
    let mut of = std::ffi::OsString::from("of=");
    of.push(folder.path().join("file"));
    let began = Instant::now();
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "count=500", "conv=fdatasync"])
        .arg(of)
        .stderr(Stdio::null())
        .status()
        .context("dd cannot be run")?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "dd failed in {}", stage.dir.display());
    drop(folder);
    settle(&stage.dir)?;
    Ok((500 << 20) as f64 / 1e6 / seconds)
}

/// Makes what is measured next begin like what was measured before: nothing is
/// on its way to the disk, and the system has memory at hand for its cache.
///
/// A virtual machine's memory may be given back to its host while it is free;
/// taking it again makes a first write up to ten times slower than the next.
pub(crate) fn settle(dir: &Path) -> anyhow::Result<()> {
    rustix::fs::sync();
    let mut file = tempfile::tempfile_in(dir)?;
    let piece = vec![1; 1 << 20];
    for _ in 0..TOUCHED >> 20 {
        file.write_all(&piece)?;
    }
    Ok(())
}

/// Bytes of memory that are touched beforehand: a large file's, and some.
const TOUCHED: u64 = 700 << 20;
