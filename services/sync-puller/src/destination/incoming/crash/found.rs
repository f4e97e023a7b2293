//! What the search has found once, each as it was.

use std::path::Path;

use crashing_disk::{Call, Fault};
use rustix::io::Errno;
use tempfile::TempDir;

use super::*;

/// An incoming folder on a disk that crashes. Its lock is on the machine's
/// own.
fn incoming() -> (TempDir, CrashingDisk, Incoming<CrashingDisk>) {
    let root = tempfile::tempdir().unwrap();
    let staging = root.path().join(format!("{RESERVED}sync"));
    std::fs::create_dir(&staging).unwrap();
    let disk = CrashingDisk::new(&staging);
    let staged = Spool::shared_on(disk.clone(), &staging).unwrap();
    let incoming = Incoming::on(disk.clone(), root.path(), staged, false);
    (root, disk, incoming)
}

fn take_over(incoming: &Incoming<CrashingDisk>, home: Home) -> anyhow::Result<Intake<CrashingDisk>> {
    Ok(incoming.take_over(&"ship7".parse()?, home, &[String::new()])?.remove(0))
}

async fn stage(intake: &Intake<CrashingDisk>, name: &EntryName) {
    intake.stage(intake.draft(), b"one".to_vec(), &Sha256::digest("one").into(), name).await.unwrap();
}

fn name() -> EntryName {
    EntryName::new(b"a.data").unwrap()
}

fn staged(disk: &CrashingDisk, root: &Path) -> usize {
    disk.files_below(root).values().filter(|content| *content == b"one").count()
}

#[tokio::test]
async fn a_file_that_another_buffer_adopts_survives_a_power_cut() {
    let (root, disk, incoming) = incoming();
    let before = take_over(&incoming, Home::At([10, 0, 0, 9].into())).unwrap();
    stage(&before, &name()).await;
    let now = take_over(&incoming, Home::At([10, 0, 0, 1].into())).unwrap();
    assert!(now.adopt(&before, &name()).await.unwrap());
    disk.restarts_with_what_was_flushed();
    assert_eq!(staged(&disk, root.path()), 1);
}

#[tokio::test]
async fn staged_files_that_cannot_be_listed_are_not_passed_over() {
    let (root, disk, incoming) = incoming();
    stage(&take_over(&incoming, Home::Only).unwrap(), &name()).await;
    let source = root.path().join(format!("{RESERVED}sync/ship7%3A41121"));
    disk.fails_next(Call::List, &source, Fault::Fails(Errno::MFILE));
    // Who knew of none would fetch the file again, and publish both.
    assert!(take_over(&incoming, Home::Only).is_err());
    let taken = take_over(&incoming, Home::Only).unwrap();
    assert_eq!(taken.staged().await.unwrap(), [name()]);
}

#[tokio::test]
async fn a_published_file_is_not_lost_by_the_next_of_its_name() {
    for calls in 0..20 {
        for seed in 0..40 {
            let (root, disk, incoming) = incoming();
            let intake = take_over(&incoming, Home::Only).unwrap();
            stage(&intake, &name()).await;
            intake.publish(&name()).await.unwrap();
            disk.goes_down_after(calls);
            let other = Sha256::digest("other").into();
            let _ = intake.stage(intake.draft(), b"other".to_vec(), &other, &name()).await;
            disk.restarts_after_power_cut(&mut Rng::with_seed(seed));
            assert_eq!(staged(&disk, root.path()), 1, "down after {calls} calls, seed {seed}");
        }
    }
}
