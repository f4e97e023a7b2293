//! A disk that fails: each call of some everyday work goes wrong once, with
//! each error that it may meet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crashing_disk::{Call, CrashingDisk, Fault};
use rustix::io::Errno;
use spool::{EntryName, Folder, Limits, Quota, RESERVED, Spool};

/// Of the spool; its files are far smaller.
const MOST_BYTES: u64 = 100_000;

#[test]
fn each_call_may_fail_and_one_act_alone_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let clean = Machine::new(root.path());
    runtime.block_on(clean.everyday(None));
    let (calls, after) = (clean.disk.calls(), clean.seen());
    let mut faults = 0;
    for (number, (call, path)) in calls.iter().enumerate() {
        for fault in call.faults() {
            let machine = Machine::new(root.path());
            machine.disk.fails_at(number, fault);
            runtime.block_on(machine.everyday(Some(*call)));
            let what = format!("{fault:?} of call {number}, {call:?} {}", path.display());
            assert_eq!(machine.seen(), after, "{what}");
            // What failed to remove a file aside leaves it to the next start.
            machine.disk.restarts_with_what_was_flushed();
            drop(Spool::open_on(machine.disk.clone(), root.path()).unwrap().folder("conf").unwrap());
            assert_eq!(machine.seen(), after, "{what}, after a power cut");
            assert!(machine.left_aside().is_empty(), "{what}: {:?}", machine.left_aside());
            faults += 1;
        }
    }
    println!("counted: {faults} faults of a disk at {} calls, 0 lost", calls.len());
}

#[tokio::test]
async fn a_file_whose_flush_failed_is_lost_whatever_a_later_flush_says() {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::new(root.path());
    let folder = machine.open().unwrap();
    machine.disk.fails_next(Call::FlushData, Path::new(""), Fault::Fails(Errno::IO));
    assert!(send(&folder, "a.data", &[b"one"]).await.is_err());
    assert_eq!(machine.seen(), BTreeMap::new());
    send(&folder, "b.data", &[b"two"]).await.unwrap();
    machine.disk.restarts_with_what_was_flushed();
    assert_eq!(machine.seen(), [("b.data".to_owned(), b"two".to_vec())].into());
}

#[tokio::test]
async fn a_flush_that_hangs_holds_up_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::new(root.path());
    let folder = machine.open().unwrap();
    machine.disk.fails_next(Call::FlushData, Path::new(""), Fault::Hangs(None));
    let slow = tokio::spawn({
        let folder = folder.clone();
        async move { send(&folder, "slow.data", &[b"slow"]).await }
    });
    let hangs = async {
        while !machine.disk.hangs() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), hangs).await.unwrap();
    for file in ["a.data", "b.data"] {
        send(&folder, file, &[b"quick"]).await.unwrap();
    }
    move_out(&folder, "a.data").await.unwrap();
    assert_eq!(machine.seen().into_keys().collect::<Vec<_>>(), ["b.data"]);
    machine.disk.go_on();
    slow.await.unwrap().unwrap();
    assert_eq!(machine.seen().into_keys().collect::<Vec<_>>(), ["b.data", "slow.data"]);
}

#[tokio::test]
async fn files_that_expired_before_the_disk_failed_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::new(root.path());
    let folder = machine.open().unwrap();
    for file in ["a.data", "b.data", "c.data"] {
        send(&folder, file, &[b"body"]).await.unwrap();
    }
    let kept = "b.data";
    machine.disk.fails_next(Call::Remove, &root.path().join(kept), Fault::Fails(Errno::IO));
    let (expired, result) = folder.expire(SystemTime::now() + Duration::from_secs(9), 10);
    assert!(result.is_err());
    let seen = machine.seen();
    assert!(seen.contains_key(kept));
    assert_eq!(expired.files as usize, 3 - seen.len());
    machine.disk.restarts_with_what_was_flushed();
    assert_eq!(machine.seen(), seen);
}

#[tokio::test]
async fn a_folder_that_vanishes_is_made_again_for_the_next_file() {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::new(root.path());
    let spool = Spool::open_on(machine.disk.clone(), root.path()).unwrap();
    let folder = spool.folder("conf").unwrap();
    send(&folder, "a.conf", &[b"one"]).await.unwrap();
    let mut draft = folder.draft();
    draft.write(b"torso".to_vec()).await.unwrap();
    machine.disk.vanishes(&root.path().join("conf"));
    assert!(draft.commit(b"end".to_vec(), &name("b.conf"), false).await.is_err());
    assert_eq!(folder.list(|_| true).await.unwrap(), b"");
    send(&folder, "c.conf", &[b"two"]).await.unwrap();
    machine.disk.restarts_with_what_was_flushed();
    assert_eq!(machine.seen(), [("conf/c.conf".to_owned(), b"two".to_vec())].into());
}

/// A disk with a spool on it, whose lock is at `root` on the machine's own.
struct Machine<'a> {
    disk: CrashingDisk,
    root: &'a Path,
}

impl<'a> Machine<'a> {
    fn new(root: &'a Path) -> Self {
        Self { disk: CrashingDisk::new(root), root }
    }

    fn open(&self) -> Option<Folder<CrashingDisk>> {
        Spool::open_on(self.disk.clone(), self.root).ok()?.folder("").ok()
    }

    /// What agents, readers and probes do all day. Where something was
    /// refused, it is done once more, and must succeed.
    async fn everyday(&self, faulty: Option<Call>) {
        let limits = Limits { files: Some(9), bytes: Some(MOST_BYTES) };
        let open = async || Spool::open_within_on(self.disk.clone(), self.root, limits);
        let spool = self.retried("open", faulty, open).await;
        let quota = spool.quota().unwrap();
        let conf = self.retried("open conf", faulty, async || spool.folder("conf")).await;
        let folder = spool.folder("").unwrap();
        self.retried("send", faulty, async || send_within(quota, &folder, "a.data", &[b"one"]).await).await;
        self.retried("send pieces", faulty, async || {
            send_within(quota, &folder, "b.data", &[&[7; 2000], &[8; 300], &[9; 5]]).await
        })
        .await;
        self.retried("send below", faulty, async || send_within(quota, &conf, "a.conf", &[b"two"]).await)
            .await;
        self.retried("send old", faulty, async || send_within(quota, &conf, "old.conf", &[b"old"]).await)
            .await;
        self.retried("expire", faulty, async || expire(&conf, "old.conf").await).await;
        self.retried("send again", faulty, async || send_within(quota, &conf, "b.conf", &[b"b"]).await).await;
        self.retried("overwrite", faulty, async || overwrite(quota, &conf, "a.conf", b"three").await).await;
        self.retried("fetch", faulty, async || fetch(&folder, "b.data").await).await;
        self.retried("list", faulty, async || folder.list(|_| true).await).await;
        self.retried("probe", faulty, async || folder.probe().await).await;
        self.retried("move", faulty, async || move_out(&folder, "b.data").await).await;
        self.retried("contains", faulty, async || folder.contains(&name("a.data")).await).await;
        self.retried("space", faulty, async || folder.space().await).await;
        abandon(&folder).await;
        self.retried("flush", faulty, async || folder.flush().await).await;
        let left = MOST_BYTES - self.seen().values().map(|content| content.len() as u64).sum::<u64>();
        assert!(quota.claim(left).is_ok() && quota.claim(left + 1).is_err(), "the quota miscounts");
    }

    async fn retried<T, E: std::fmt::Debug>(
        &self,
        what: &str,
        faulty: Option<Call>,
        act: impl AsyncFn() -> Result<T, E>,
    ) -> T {
        let done = act().await;
        // Removals of what a refused file left aside are no one's to wait for.
        tokio::task::spawn_blocking(|| {}).await.unwrap();
        if !matches!(faulty, Some(Call::Remove)) && what != "open" {
            assert!(self.left_aside().is_empty(), "{what}: {:?}", self.left_aside());
        }
        match done {
            Ok(done) => done,
            Err(error) => {
                assert!(faulty.is_some(), "{what}: {error:?}");
                act().await.unwrap_or_else(|error| panic!("{what}, once more: {error:?}"))
            }
        }
    }

    fn seen(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files();
        files.retain(|path, _| !path.contains(RESERVED));
        files
    }

    fn left_aside(&self) -> Vec<String> {
        self.files().into_keys().filter(|path| path.contains(RESERVED)).collect()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.disk.files_below(self.root).into_iter();
        files.map(|(path, content)| (path.to_str().unwrap().to_owned(), content)).collect()
    }
}

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn send(folder: &Folder<CrashingDisk>, file: &str, pieces: &[&[u8]]) -> Done {
    let (last, first) = pieces.split_last().unwrap();
    let mut draft = folder.draft();
    for piece in first {
        draft.write(piece.to_vec()).await?;
    }
    Ok(draft.commit(last.to_vec(), &name(file), false).await?)
}

async fn send_within(
    quota: &Arc<Quota>,
    folder: &Folder<CrashingDisk>,
    file: &str,
    pieces: &[&[u8]],
) -> Done {
    let (last, first) = pieces.split_last().unwrap();
    let mut draft = folder.draft().with_claim(Some(quota.claim(1)?));
    for piece in first {
        draft.write(piece.to_vec()).await?;
    }
    Ok(draft.commit(last.to_vec(), &name(file), false).await?)
}

async fn overwrite(quota: &Arc<Quota>, folder: &Folder<CrashingDisk>, file: &str, content: &[u8]) -> Done {
    let old = folder.size(&name(file)).await?.unwrap_or_default();
    let claim = quota.claim_beyond(content.len() as u64, old)?;
    Ok(folder.draft().with_claim(Some(claim)).commit(content.to_vec(), &name(file), true).await?)
}

/// All but this file are offered to others.
async fn expire(folder: &Folder<CrashingDisk>, file: &str) -> Done {
    let _other = folder.lease(&name("a.conf")).await?;
    let (expired, result) = folder.expire(SystemTime::now(), 10);
    assert!(expired.files <= 1, "{expired:?}");
    result?;
    // A folder that is said not to be there holds nothing.
    if folder.size(&name(file)).await?.is_some() {
        return Err("it is there still".into());
    }
    Ok(folder.flush().await?)
}

async fn abandon(folder: &Folder<CrashingDisk>) {
    let mut draft = folder.draft();
    let _ = draft.write(vec![1; 100]).await;
    drop(draft);
    tokio::task::spawn_blocking(|| {}).await.unwrap();
}

async fn fetch(folder: &Folder<CrashingDisk>, file: &str) -> std::io::Result<Vec<u8>> {
    let mut reader = folder.open(&name(file)).await?.unwrap();
    let (mut all, mut piece) = (Vec::new(), reader.next(Vec::new()).await?);
    while !piece.is_empty() {
        all.extend_from_slice(&piece);
        piece = reader.next(piece).await?;
    }
    Ok(all)
}

async fn move_out(folder: &Folder<CrashingDisk>, file: &str) -> std::io::Result<()> {
    match folder.lease(&name(file)).await? {
        Some(lease) => lease.remove().await.map(drop),
        // The removal was refused for its flush alone.
        None => folder.flush().await,
    }
}

fn name(name: &str) -> EntryName {
    EntryName::new(name.as_bytes()).unwrap()
}
