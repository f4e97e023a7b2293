//! What the search has found once, each as it was.

use std::{path::Path, sync::Arc, time::Duration};

use crashing_disk::{Call, CrashingDisk, Fault};
use rustix::io::Errno;
use spool::{EntryName, Folder, Spool};

fn name(name: &str) -> EntryName {
    EntryName::new(name.as_bytes()).unwrap()
}

async fn send(folder: &Folder<CrashingDisk>, file: &str, content: &str) -> bool {
    folder.draft().commit(content.as_bytes().to_vec(), &name(file), false).await.is_ok()
}

/// Plays one life of a spool at `root`.
async fn live<T>(disk: &CrashingDisk, root: &Path, life: impl AsyncFnOnce(Spool<CrashingDisk>) -> T) -> T {
    life(Spool::open_on(disk.clone(), root).unwrap()).await
}

#[tokio::test]
async fn a_receipt_never_relies_on_a_folder_that_a_killed_process_made_and_did_not_flush() {
    let root = tempfile::tempdir().unwrap();
    let disk = CrashingDisk::new(root.path());
    live(&disk, root.path(), async |spool| {
        let folder = spool.folder("far/below").unwrap();
        // Killed when the folder stands and nothing of it is flushed.
        disk.goes_down_after(3);
        assert!(!send(&folder, "a.data", "one").await);
        assert_eq!(disk.calls().last().unwrap().0, Call::MakeFolder);
    })
    .await;
    disk.restarts();
    live(&disk, root.path(), async |spool| {
        assert!(send(&spool.folder("far/below").unwrap(), "a.data", "two").await);
    })
    .await;
    disk.restarts_with_what_was_flushed();
    assert_eq!(disk.files_below(root.path())[Path::new("far/below/a.data")], b"two");
}

#[tokio::test]
async fn a_receipt_never_relies_on_a_new_folder_whose_flush_failed_another_sender() {
    let root = tempfile::tempdir().unwrap();
    let disk = CrashingDisk::new(root.path());
    live(&disk, root.path(), async |spool| {
        let folder = spool.folder("conf").unwrap();
        disk.fails_next(Call::FlushFolder, root.path(), Fault::Fails(Errno::IO));
        assert!(!send(&folder, "a.data", "one").await);
        assert!(send(&folder, "b.data", "two").await);
    })
    .await;
    disk.restarts_with_what_was_flushed();
    assert_eq!(disk.files_below(root.path())[Path::new("conf/b.data")], b"two");
}

#[tokio::test]
async fn a_file_that_is_found_after_a_kill_survives_a_power_cut() {
    let root = tempfile::tempdir().unwrap();
    let disk = CrashingDisk::new(root.path());
    live(&disk, root.path(), async |spool| {
        // Killed between the rename and the flush of the folder.
        let folder = spool.folder("").unwrap();
        disk.goes_down_after(4);
        assert!(!send(&folder, "a.data", "one").await);
        assert_eq!(disk.calls().last().unwrap().0, Call::RenameNew);
    })
    .await;
    disk.restarts();
    // Its sender asks for it by now, and is shown that it has come.
    live(&disk, root.path(), async |spool| {
        assert!(spool.folder("").unwrap().open(&name("a.data")).await.unwrap().is_some());
    })
    .await;
    disk.restarts_with_what_was_flushed();
    assert_eq!(disk.files_below(root.path())[Path::new("a.data")], b"one");
}

#[tokio::test]
async fn a_failed_flush_never_removes_the_file_that_another_sender_was_promised() {
    let root = tempfile::tempdir().unwrap();
    let disk = CrashingDisk::new(root.path());
    let spool = Spool::open_on(disk.clone(), root.path()).unwrap();
    let folder = Arc::new(spool.folder("").unwrap());
    disk.fails_next(Call::FlushFolder, root.path(), Fault::Hangs(Some(Errno::IO)));
    let first = tokio::spawn({
        let folder = Arc::clone(&folder);
        async move { send(&folder, "a.data", "one").await }
    });
    until(|| disk.hangs()).await;
    // While its flush hangs, it is fetched, and another one takes its name.
    disk.vanishes(&root.path().join("a.data"));
    let second = tokio::spawn({
        let folder = Arc::clone(&folder);
        async move { send(&folder, "a.data", "two").await }
    });
    until(|| disk.files_below(root.path()).contains_key(Path::new("a.data"))).await;
    disk.go_on();
    assert!(!first.await.unwrap());
    assert!(second.await.unwrap());
    assert_eq!(disk.files_below(root.path())[Path::new("a.data")], b"two");
}

#[tokio::test]
async fn a_file_is_shown_to_nobody_before_its_name_is_sure() {
    let root = tempfile::tempdir().unwrap();
    let disk = CrashingDisk::new(root.path());
    let spool = Spool::open_on(disk.clone(), root.path()).unwrap();
    let folder = spool.folder("").unwrap();
    disk.fails_next(Call::FlushFolder, root.path(), Fault::Hangs(None));
    let sender = tokio::spawn({
        let folder = folder.clone();
        async move { send(&folder, "a.data", "one").await }
    });
    until(|| disk.hangs()).await;
    let readers = [
        tokio::spawn({
            let folder = folder.clone();
            async move { folder.open(&name("a.data")).await.is_ok() }
        }),
        tokio::spawn({
            let folder = folder.clone();
            async move { folder.list(|_| true).await.is_ok() }
        }),
    ];
    let has = |wanted| disk.calls().iter().any(|(call, _)| *call == wanted);
    until(|| has(Call::Open) && disk.calls().iter().filter(|(call, _)| *call == Call::List).count() > 1)
        .await;
    disk.goes_down();
    disk.go_on();
    assert!(!sender.await.unwrap());
    for reader in readers {
        assert!(!reader.await.unwrap(), "who was shown it may have forgotten its own");
    }
}

async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), holds).await.unwrap();
}
