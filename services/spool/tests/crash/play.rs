//! A case, played on a disk.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crashing_disk::CrashingDisk;
use fastrand::Rng;
use proptest::test_runner::TestCaseError;
use spool::{CommitError, Disk, EntryName, Folder, RESERVED, Reader, Spool};
use tokio::{runtime, task::JoinSet};

use crate::{
    case::{Act, Case, End, FOLDERS, Life, NAMES, Place, What},
    ledger::{Ledger, Outcome},
};

/// What was played so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Receipts, removals, and what was shown.
    pub(crate) promises: u64,
    pub(crate) power_cuts: u64,
    pub(crate) kills: u64,
}

/// Plays a case, each life on what the one before it left. The lock is at
/// `root` on the machine's own disk.
pub(crate) fn play<D: Disk + Clone>(
    case: &Case,
    root: &Path,
    on: impl Fn(CrashingDisk) -> D,
    counts: &mut Counts,
) -> Result<(), TestCaseError> {
    let disk = CrashingDisk::new(root);
    let (mut chance, mut ledger) = (Rng::with_seed(case.chance), Ledger::default());
    for life in &case.lives {
        let runtime = runtime::Builder::new_current_thread().max_blocking_threads(case.threads).build()?;
        let spool = Spool::open_on(on(disk.clone()), root).map_err(failed)?;
        open_all(&spool)?;
        ledger.settle(&seen(&disk, root)).map_err(failed)?;
        let left = left_aside(&disk, root);
        if !left.is_empty() {
            return Err(failed(format!("left aside after the sweep: {left:?}")));
        }
        disk.goes_down_after(life.calls);
        runtime.block_on(live(life, case.overwrite, (&disk, root), &spool, &mut ledger, counts))?;
        // Waits for what runs on threads of its own.
        drop((spool, runtime));
        match life.end {
            End::PowerCut => {
                counts.power_cuts += 1;
                disk.restarts_after_power_cut(&mut chance);
            }
            End::Kill => {
                counts.kills += 1;
                disk.restarts();
            }
        }
        // Before the sweep too.
        let mut shown = seen(&disk, root);
        shown.retain(|place, content| ledger.check_read(*place, content).is_err());
        if let Some((place, content)) = shown.pop_first() {
            return Err(failed(format!("{place:?}: a torso of {} bytes", content.len())));
        }
    }
    open_all(&Spool::open_on(on(disk.clone()), root).map_err(failed)?)?;
    ledger.settle(&seen(&disk, root)).map_err(failed)
}

async fn live<D: Disk + Clone>(
    life: &Life,
    overwrite: bool,
    (disk, root): (&CrashingDisk, &Path),
    spool: &Spool<D>,
    ledger: &mut Ledger,
    counts: &mut Counts,
) -> Result<(), TestCaseError> {
    for group in &life.groups {
        let mut tasks = JoinSet::new();
        for act in group {
            let folder = spool.folder(act.place.folder).map_err(failed);
            let Ok(folder) = folder else { return Ok(()) };
            let content = content(act);
            if let What::Send(_) = act.what {
                ledger.is_sent(act.place, content.concat());
            }
            tasks.spawn(run(act.clone(), folder, content, overwrite, disk.clone()));
        }
        let mut outcomes = BTreeMap::<Place, Vec<Outcome>>::new();
        while let Some(done) = tasks.join_next().await {
            let (place, done) = done.map_err(failed)?;
            let (outcome, read) = done.map_err(failed)?;
            if let Some(read) = read {
                ledger.check_read(place, &read).map_err(failed)?;
            }
            counts.promises += u64::from(matches!(outcome, Outcome::Is(_)));
            outcomes.entry(place).or_default().push(outcome);
        }
        for (place, outcomes) in outcomes {
            ledger.enter(place, outcomes);
        }
        if disk.is_down() {
            break;
        }
        ledger.settle(&seen(disk, root)).map_err(failed)?;
    }
    Ok(())
}

type Done = (Outcome, Option<Vec<u8>>);

/// Does what one client wants. Only a crash may refuse it, or a name that is
/// taken.
async fn run<D: Disk>(
    act: Act,
    folder: Folder<D>,
    mut content: Vec<Vec<u8>>,
    overwrite: bool,
    disk: CrashingDisk,
) -> (Place, Result<Done, String>) {
    let name = EntryName::new(act.place.name.as_bytes()).unwrap();
    let done = match act.what {
        What::Send(_) => {
            let last = content.pop().unwrap();
            let all = [content.concat(), last.clone()].concat();
            match send(&folder, content, last, &name, overwrite).await {
                Ok(()) => Ok((Outcome::Is(Some(all)), None)),
                Err(CommitError::Exists) if !overwrite => Ok((Outcome::Nothing, None)),
                Err(CommitError::Io(_)) if disk.is_down() => Ok((Outcome::MayBe(Some(all)), None)),
                Err(error) => Err(error.to_string()),
            }
        }
        What::Abandon(_) => {
            let mut draft = folder.draft();
            for piece in content {
                if draft.write(piece).await.is_err() {
                    break;
                }
            }
            Ok((Outcome::Nothing, None))
        }
        What::Move => move_out(&folder, &name).await,
        // What is shown is there, or gone, for good.
        What::Fetch => fetch(&folder, &name).await.map(|read| (Outcome::Is(read.clone()), read)),
        What::List => list(&folder).await.map(|()| (Outcome::Nothing, None)),
    };
    // What a crash broke off has changed nothing, or was told above.
    let done = done.or_else(|why| if disk.is_down() { Ok((Outcome::Nothing, None)) } else { Err(why) });
    (act.place, done)
}

async fn send<D: Disk>(
    folder: &Folder<D>,
    pieces: Vec<Vec<u8>>,
    last: Vec<u8>,
    name: &EntryName,
    overwrite: bool,
) -> Result<(), CommitError> {
    let mut draft = folder.draft();
    for piece in pieces {
        draft.write(piece).await?;
    }
    draft.commit(last, name, overwrite).await
}

async fn move_out<D: Disk>(folder: &Folder<D>, name: &EntryName) -> Result<Done, String> {
    let Some(mut lease) = folder.lease(name).await.map_err(|error| error.to_string())? else {
        return Ok((Outcome::Nothing, None));
    };
    let read = read(lease.reader()).await?;
    let outcome = match lease.remove().await {
        Ok(true) => Outcome::Is(None),
        // Another file has come under its name.
        Ok(false) => Outcome::Nothing,
        Err(_) => Outcome::MayBe(None),
    };
    Ok((outcome, Some(read)))
}

async fn fetch<D: Disk>(folder: &Folder<D>, name: &EntryName) -> Result<Option<Vec<u8>>, String> {
    match folder.open(name).await.map_err(|error| error.to_string())? {
        Some(mut reader) => read(&mut reader).await.map(Some),
        None => Ok(None),
    }
}

async fn read<D: Disk>(reader: &mut Reader<D>) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    loop {
        let piece = reader.next(Vec::new()).await.map_err(|error| error.to_string())?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}

async fn list<D: Disk>(folder: &Folder<D>) -> Result<(), String> {
    let names = folder.list(|_| true).await.map_err(|error| error.to_string())?;
    let own = names.split(|&byte| byte == b'\n').find(|name| name.starts_with(RESERVED.as_bytes()));
    own.map_or(Ok(()), |own| Err(format!("{} is listed", own.escape_ascii())))
}

fn open_all<D: Disk + Clone>(spool: &Spool<D>) -> Result<(), TestCaseError> {
    FOLDERS.iter().try_for_each(|folder| spool.folder(folder).map(drop)).map_err(failed)
}

/// The files that anybody may see, by their place.
fn seen(disk: &CrashingDisk, root: &Path) -> BTreeMap<Place, Vec<u8>> {
    let files = disk.files_below(root).into_iter();
    files.filter_map(|(path, content)| Some((place(&path)?, content))).collect()
}

fn left_aside(disk: &CrashingDisk, root: &Path) -> Vec<String> {
    let paths = disk.files_below(root).into_keys();
    paths.filter(|path| place(path).is_none()).map(|path| path.display().to_string()).collect()
}

/// `None` for the spool's own.
fn place(path: &Path) -> Option<Place> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with(RESERVED) {
        return None;
    }
    let folder = FOLDERS.into_iter().find(|folder| Path::new(folder) == path.parent().unwrap())?;
    Some(Place { folder, name: NAMES.into_iter().find(|known| *known == name)? })
}

/// Pieces that nobody else sends, of which no end could be missed unseen.
fn content(act: &Act) -> Vec<Vec<u8>> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (What::Send(sizes) | What::Abandon(sizes)) = &act.what else { return Vec::new() };
    let stamp = format!("<{}>", COUNT.fetch_add(1, Relaxed));
    let mut bytes = stamp.bytes().cycle();
    sizes.iter().map(|&size| bytes.by_ref().take(size).collect()).collect()
}

fn failed(why: impl ToString) -> TestCaseError {
    TestCaseError::fail(why.to_string())
}
