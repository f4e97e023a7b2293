//! What a spool promises, on the machine's own disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use spool::{CommitError, EntryName, Expired, Folder, Limits, Spool, SpoolError};
use tempfile::TempDir;

fn name(name: &str) -> EntryName {
    EntryName::new(name.as_bytes()).unwrap()
}

fn spool() -> (TempDir, Spool, Folder) {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path()).unwrap();
    let folder = spool.folder("").unwrap();
    (home, spool, folder)
}

async fn store(folder: &Folder, file: &str, content: &[u8]) -> Result<(), CommitError> {
    folder.draft().commit(content.to_vec(), &name(file), false).await
}

/// Names on the disk, but for the lock.
fn on_disk(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| name != ".tentacle~lock").collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_committed_file_is_there_whole() {
    let (home, _spool, folder) = spool();
    store(&folder, "a.data", b"hello").await.unwrap();
    assert_eq!(fs::read(home.path().join("a.data")).unwrap(), b"hello");
    assert_eq!(on_disk(home.path()), ["a.data"]);
}

#[tokio::test]
async fn a_large_file_is_written_piece_by_piece_and_read_back() {
    let (home, _spool, folder) = spool();
    let content: Vec<u8> = (0..40_000_000u32).map(|n| (n / 7) as u8).collect();
    let mut draft = folder.draft();
    let mut piece = Vec::with_capacity(1 << 20);
    for part in content.chunks(1 << 20) {
        piece.extend_from_slice(part);
        piece = draft.write(piece).await.unwrap();
        assert!(piece.is_empty() && piece.capacity() >= 1 << 20);
        assert!(!home.path().join("big").exists(), "a name is there whole or not at all");
    }
    draft.commit(piece, &name("big"), false).await.unwrap();
    let mut reader = folder.open(&name("big")).await.unwrap().unwrap();
    let (mut read, mut spent) = (Vec::new(), Vec::new());
    loop {
        let piece = reader.next(spent).await.unwrap();
        if piece.is_empty() {
            break;
        }
        read.extend_from_slice(&piece);
        spent = piece;
    }
    assert!(read == content);
}

#[tokio::test]
async fn a_draft_that_is_dropped_leaves_nothing() {
    let (home, _spool, folder) = spool();
    let mut draft = folder.draft();
    let _ = draft.write(vec![1; 100]).await.unwrap();
    drop(draft);
    while !on_disk(home.path()).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn of_two_that_want_a_free_name_one_gets_it() {
    let (home, _spool, folder) = spool();
    let (one, two) = tokio::join!(store(&folder, "a", b"one"), store(&folder, "a", b"two"));
    assert!(one.is_ok() != two.is_ok());
    assert!(matches!(one.and(two), Err(CommitError::Exists)));
    assert_eq!(on_disk(home.path()), ["a"]);
}

#[tokio::test]
async fn who_reads_while_another_overwrites_gets_the_old_bytes_whole() {
    let (home, _spool, folder) = spool();
    let old = vec![b'o'; 3_000_000];
    store(&folder, "a", &old).await.unwrap();
    let mut reader = folder.open(&name("a")).await.unwrap().unwrap();
    let mut read = reader.next(Vec::new()).await.unwrap();
    folder.draft().commit(b"new".to_vec(), &name("a"), true).await.unwrap();
    loop {
        let piece = reader.next(Vec::new()).await.unwrap();
        if piece.is_empty() {
            break;
        }
        read.extend_from_slice(&piece);
    }
    assert!(read == old);
    assert_eq!(fs::read(home.path().join("a")).unwrap(), b"new");
}

#[tokio::test]
async fn a_file_is_offered_to_one_reader_at_a_time() {
    let (home, _spool, folder) = spool();
    store(&folder, "a", b"x").await.unwrap();
    let lease = folder.lease(&name("a")).await.unwrap().unwrap();
    assert!(folder.lease(&name("a")).await.unwrap().is_none());
    drop(lease);
    let lease = folder.lease(&name("a")).await.unwrap().unwrap();
    assert!(lease.remove().await.unwrap());
    assert_eq!(on_disk(home.path()), [""; 0]);
    assert!(folder.lease(&name("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_newer_file_is_not_removed_for_an_older_one() {
    let (home, _spool, folder) = spool();
    store(&folder, "a", b"old").await.unwrap();
    let lease = folder.lease(&name("a")).await.unwrap().unwrap();
    folder.draft().commit(b"new".to_vec(), &name("a"), true).await.unwrap();
    assert!(!lease.remove().await.unwrap());
    assert_eq!(fs::read(home.path().join("a")).unwrap(), b"new");
}

#[tokio::test]
async fn folders_links_and_pipes_are_no_files() {
    let (home, _spool, folder) = spool();
    fs::create_dir(home.path().join("conf")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", home.path().join("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(home.path().join("pipe")).status().unwrap().success());
    for entry in ["conf", "link", "pipe", "none"] {
        assert!(folder.open(&name(entry)).await.unwrap().is_none(), "{entry}");
    }
}

#[tokio::test]
async fn what_a_crash_left_aside_is_swept_and_never_listed() {
    let (home, spool, folder) = spool();
    store(&folder, "a", b"x").await.unwrap();
    fs::write(home.path().join(".tentacle~part-1-1"), "torso").unwrap();
    assert_eq!(folder.list(|_| true).await.unwrap(), b"a\n");
    drop((spool, folder));
    let _again = Spool::open(home.path()).unwrap();
    assert_eq!(on_disk(home.path()), ["a"]);
}

#[test]
fn a_name_of_the_spools_own_cannot_be_asked_for() {
    for refused in ["", ".", "..", "a/b", "a\0", ".tentacle~lock", ".tentacle~part-1-1", &"x".repeat(256)] {
        assert!(EntryName::new(refused.as_bytes()).is_err(), "{refused:?}");
    }
    assert!(EntryName::new(b".tentacle").is_ok());
}

#[test]
fn a_spool_is_one_process_s() {
    let (home, spool, _folder) = spool();
    let error = Spool::open(home.path()).unwrap_err();
    assert!(matches!(error, SpoolError::Held(_, Some(_))), "{error}");
    drop(spool);
    // The folder's clones do not hold the spool.
    Spool::open(home.path()).unwrap();
}

#[test]
fn what_is_no_spool_is_said_clearly() {
    let home = tempfile::tempdir().unwrap();
    let missing = Spool::open(&home.path().join("none")).unwrap_err().to_string();
    assert!(missing.ends_with("none: does not exist (create it, or name another)"), "{missing}");
    fs::write(home.path().join("file"), "").unwrap();
    let file = Spool::open(&home.path().join("file")).unwrap_err().to_string();
    assert!(file.ends_with("file: is not a directory"), "{file}");
}

#[tokio::test]
async fn a_file_moves_to_a_shared_folder_unless_its_name_is_taken() {
    let (home, _spool, folder) = spool();
    let incoming = tempfile::tempdir_in(home.path()).unwrap();
    let shared = Folder::shared(incoming.path(), "");
    store(&folder, "a", b"x").await.unwrap();
    store(&folder, "b", b"y").await.unwrap();
    folder.hand_over(&name("a"), &shared, &name("a"), false).await.unwrap();
    let taken = folder.hand_over(&name("b"), &shared, &name("a"), false).await;
    assert!(matches!(taken, Err(CommitError::Exists)));
    assert_eq!(on_disk(incoming.path()), ["a"]);
    assert!(home.path().join("b").exists());
}

#[tokio::test]
async fn work_that_blocks_reads_the_same_bytes() {
    let (_home, _spool, folder) = spool();
    store(&folder, "a", &[7; 100_000]).await.unwrap();
    let reader = folder.open(&name("a")).await.unwrap().unwrap();
    let read = reader.with_contents(|from| {
        let mut all = Vec::new();
        from.read_to_end(&mut all).map(|_| all)
    });
    assert_eq!(read.await.unwrap(), [7; 100_000]);
}

#[tokio::test]
async fn who_lost_its_folder_to_another_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (Spool::shared(home.path()).unwrap(), Spool::shared(home.path()).unwrap());
    let lost = one.own("source~1/files").unwrap();
    store(&lost, "a.data", b"hello").await.unwrap();
    let mut draft = lost.draft();
    draft.write(vec![7; 1000]).await.unwrap();
    fs::rename(home.path().join("source~1"), home.path().join("source~2")).unwrap();
    let taken = other.own("source~2/files").unwrap();
    assert!(draft.commit(Vec::new(), &name("b.data"), false).await.is_err());
    assert!(store(&lost, "c.data", b"hello").await.is_err());
    assert!(lost.list(|_| true).await.is_err(), "it does not look empty");
    assert!(lost.hand_over(&name("a.data"), &taken, &name("d.data"), false).await.is_err());
    assert_eq!(on_disk(home.path()), ["source~2"]);
    assert_eq!(on_disk(taken.path()), ["a.data"]);
    store(&taken, "b.data", b"hello").await.unwrap();
}

#[test]
fn a_spool_is_one_processs_alone_or_shared() {
    let home = tempfile::tempdir().unwrap();
    let shared = (Spool::shared(home.path()).unwrap(), Spool::shared(home.path()).unwrap());
    assert!(matches!(Spool::open(home.path()), Err(SpoolError::Held(..))));
    drop(shared);
    let _alone = Spool::open(home.path()).unwrap();
    assert!(matches!(Spool::shared(home.path()), Err(SpoolError::Held(..))));
}

#[tokio::test]
async fn a_root_that_is_gone_is_not_made_again() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    let spool = Spool::open(&root).unwrap();
    let lazy = spool.folder("conf").unwrap();
    fs::rename(&root, home.path().join("moved")).unwrap();
    assert!(spool.own("source/files").is_err());
    assert!(store(&lazy, "a.data", b"hello").await.is_err());
    assert!(store(&Folder::shared(&root, "md5"), "a.data", b"hello").await.is_err());
    assert!(!root.exists());
}

fn bounded(files: u64, bytes: u64) -> (TempDir, Spool, Folder) {
    let home = tempfile::tempdir().unwrap();
    let limits = Limits { files: Some(files), bytes: Some(bytes) };
    let spool = Spool::open_within(home.path(), limits).unwrap();
    let folder = spool.folder("").unwrap();
    (home, spool, folder)
}

async fn store_within(spool: &Spool, folder: &Folder, file: &str, content: &[u8]) -> Result<(), CommitError> {
    let claim = spool.quota().unwrap().claim(content.len() as u64);
    let claim = claim.map_err(|over| io::Error::new(io::ErrorKind::QuotaExceeded, over))?;
    folder.draft().with_claim(Some(claim)).commit(content.to_vec(), &name(file), true).await
}

#[tokio::test]
async fn a_spool_holds_no_more_than_its_quota_and_what_leaves_makes_room() {
    let (home, spool, folder) = bounded(3, 100);
    store_within(&spool, &folder, "a", &[1; 60]).await.unwrap();
    store_within(&spool, &folder, "a", &[1; 40]).await.unwrap();
    store_within(&spool, &folder, "b", &[2; 60]).await.unwrap();
    assert!(store_within(&spool, &folder, "c", &[3]).await.is_err());
    folder.lease(&name("b")).await.unwrap().unwrap().remove().await.unwrap();
    store_within(&spool, &folder, "c", &[3; 60]).await.unwrap();
    assert_eq!(on_disk(home.path()), ["a", "c"]);
}

#[tokio::test]
async fn a_file_that_grows_beyond_the_quota_vanishes() {
    let (home, spool, folder) = bounded(3, 100);
    let mut draft = folder.draft().with_claim(Some(spool.quota().unwrap().claim(10).unwrap()));
    draft.write(vec![1; 90]).await.unwrap();
    assert_eq!(draft.write(vec![1; 11]).await.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    drop(draft);
    store_within(&spool, &folder, "a", &[1; 100]).await.unwrap();
    assert_eq!(fs::read(home.path().join("a")).unwrap().len(), 100);
}

#[tokio::test]
async fn a_file_expires_unless_it_is_young_offered_replaced_or_the_spools_own() {
    let (home, _spool, folder) = spool();
    let old = SystemTime::now() - Duration::from_secs(100);
    for file in ["old", "older", "leased", "replaced", ".tentacle~part-1", "young"] {
        fs::write(home.path().join(file), file).unwrap();
        if file != "young" {
            let age = old - Duration::from_secs(if file == "older" { 100 } else { 0 });
            File::options().write(true).open(home.path().join(file)).unwrap().set_modified(age).unwrap();
        }
    }
    fs::create_dir(home.path().join("folder")).unwrap();
    File::open(home.path().join("folder")).unwrap().set_modified(old).unwrap();
    let lease = folder.lease(&name("leased")).await.unwrap().unwrap();
    folder.draft().commit(b"new".to_vec(), &name("replaced"), true).await.unwrap();
    let before = old + Duration::from_secs(1);
    let expired = expire(&folder, before, 100);
    assert_eq!((expired.files, expired.bytes, expired.has_more), (2, 8, false));
    assert!(expired.oldest.unwrap() < old);
    assert_eq!(on_disk(home.path()), [".tentacle~part-1", "folder", "leased", "replaced", "young"]);
    drop(lease);
    assert_eq!(expire(&folder, before, 100).files, 1);
    assert_eq!(on_disk(home.path()), [".tentacle~part-1", "folder", "replaced", "young"]);
}

#[tokio::test]
async fn so_many_files_expire_at_a_time() {
    let (home, _spool, folder) = spool();
    for file in ["a", "b", "c"] {
        fs::write(home.path().join(file), "").unwrap();
    }
    let soon = SystemTime::now() + Duration::from_secs(100);
    let first = expire(&folder, soon, 2);
    assert_eq!((first.files, first.has_more), (2, true));
    let second = expire(&folder, soon, 2);
    assert_eq!((second.files, second.has_more), (1, false));
}

fn expire(folder: &Folder, before: SystemTime, most: usize) -> Expired {
    let (expired, result) = folder.expire(before, most);
    result.unwrap();
    expired
}
