//! A source, a centre and its consumer; what each has seen of every file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::settle::publish_forgotten;

/// What is there outlives the puller.
pub(super) struct Centre {
    pub(super) disk: CrashingDisk,
    wrong: Option<Wrong>,
    /// Of the incoming folder; the lock alone is on the machine's own disk.
    root: TempDir,
    /// What the source has, by folder and name. It never crashes.
    source: BTreeMap<File, Vec<u8>>,
    /// Contents that the source has given up.
    forgotten: BTreeSet<Vec<u8>>,
    /// All there ever was, and in which folder.
    sent: BTreeMap<Vec<u8>, usize>,
    /// Contents that the consumer has taken, and whether that is sure to
    /// survive a power cut.
    consumed: BTreeMap<Vec<u8>, bool>,
    /// Of these, which a power cut may have brought back.
    back: BTreeSet<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) power_cuts: u64,
    pub(super) kills: u64,
    pub(super) back: u64,
}

/// Folder and name.
type File = (usize, &'static str);

/// One puller, from its start to its end.
pub(super) struct Life<'a> {
    pub(super) centre: &'a mut Centre,
    incoming: Incoming<Misordered>,
    intakes: Vec<Intake<Misordered>>,
    /// Whether it has listed the source since it connected.
    has_listed: bool,
    /// What it staged last: the source forgets it with the next command.
    unsettled: Option<(File, Vec<u8>)>,
}

impl Centre {
    pub(super) fn new(wrong: Option<Wrong>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let staging = staging(root.path());
        std::fs::create_dir(&staging).unwrap();
        Self {
            disk: CrashingDisk::new(&staging),
            wrong,
            root,
            source: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            sent: BTreeMap::new(),
            consumed: BTreeMap::new(),
            back: BTreeSet::new(),
        }
    }

    /// Overwrites what the source has under that name.
    pub(super) fn arrives(&mut self, file: usize, size: usize) {
        let stamp = format!("<{}>", self.sent.len());
        let content: Vec<u8> = stamp.bytes().cycle().take(size).collect();
        self.sent.insert(content.clone(), ALL[file].0);
        self.source.insert(ALL[file], content);
    }

    /// Takes and removes everything that is published, as the system shows it;
    /// whether the disk still works.
    pub(super) fn consumes(&mut self) -> Result<bool, String> {
        if self.disk.is_down() {
            return Ok(false);
        }
        self.check()?;
        for (path, content) in self.published() {
            self.disk.vanishes(&self.root.path().join(path));
            self.back.remove(&content);
            self.consumed.insert(content, false);
        }
        Ok(true)
    }

    /// How many files a power cut brought back that were consumed.
    pub(super) fn loses_power(&mut self, chance: &mut Rng) -> u64 {
        self.disk.restarts_after_power_cut(chance);
        let unsure = self.consumed.iter().filter(|(_, is_sure)| !**is_sure).map(|(content, _)| content);
        self.back.extend(unsure.cloned());
        let there: BTreeSet<_> = self.files().into_values().collect();
        self.back.iter().filter(|content| there.contains(*content)).count() as u64
    }

    /// Whether every promise is kept as things are now.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut there = BTreeSet::new();
        for (path, content) in self.published() {
            if !self.sent.contains_key(&content) {
                return Err(format!("{path}: {} bytes that nobody sent", content.len()));
            }
            if self.consumed.contains_key(&content) && !self.back.contains(&content) {
                return Err(format!("{path} ({}) is published again", told(&content)));
            }
            if !there.insert(content.clone()) {
                return Err(format!("{path} ({}) is published under two names", told(&content)));
            }
        }
        there.extend(self.files().into_values());
        let lost = self
            .forgotten
            .iter()
            .find(|content| !there.contains(*content) && !self.consumed.contains_key(*content));
        lost.map_or(Ok(()), |content| Err(format!("{} is lost", told(content))))
    }

    /// A last puller, which nothing disturbs: everything is published, and
    /// nothing left; how many files.
    pub(super) async fn ends(&mut self) -> Result<u64, String> {
        // Twice: a fault may be left from before.
        for _ in 0..2 {
            let Some(mut life) = Life::begins(self).await? else { continue };
            for file in 0..FILES {
                life.takes(file, None).await?;
            }
            life.ends_round().await?;
        }
        self.consumes()?;
        let left: Vec<_> = self.files().into_keys().collect();
        if !left.is_empty() || !self.source.is_empty() {
            return Err(format!("left at the end: {left:?}, {:?}", self.source.keys()));
        }
        match self.forgotten.iter().find(|content| !self.consumed.contains_key(*content)) {
            Some(content) => Err(format!("{} is lost", told(content))),
            None => Ok(self.consumed.len() as u64),
        }
    }

    /// Rounds of an ordinary day, of which a call may fail: whoever is refused
    /// starts anew.
    pub(super) async fn everyday(&mut self) -> Result<(), String> {
        for (file, size) in [(0, 700), (2, 30), (1, 1500)] {
            self.arrives(file, size);
        }
        for _ in 0..2 {
            let Some(mut life) = Life::begins(self).await? else { continue };
            let mut cut = Some(Cut::AfterStaging);
            for file in [0, 1, 2, 0] {
                if !life.takes(file, cut.take()).await? {
                    break;
                }
                life.centre.check()?;
            }
            if life.is_taken_over().await? {
                life.ends_round().await?;
            }
            life.centre.consumes()?;
        }
        self.ends().await.map(drop)
    }

    fn published(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files();
        files.retain(|path, _| !path.contains(RESERVED));
        files
    }

    /// Published or staged, without what is being written.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.disk.files_below(self.root.path()).into_iter();
        let files = files.map(|(path, content)| (path.to_str().unwrap().to_owned(), content));
        files.filter(|(path, _)| !path.contains("~part-")).collect()
    }

    fn open(&self) -> anyhow::Result<Incoming<Misordered>> {
        let disk = Misordered::new(self.disk.clone(), self.wrong);
        let staged = Spool::shared_on(disk.clone(), &staging(self.root.path()))?;
        Ok(Incoming::on(disk, self.root.path(), staged, false))
    }
}

impl<'a> Life<'a> {
    /// `None`: the disk refuses it.
    pub(super) async fn begins(centre: &'a mut Centre) -> Result<Option<Self>, String> {
        let Ok(incoming) = centre.open() else { return Ok(None) };
        let Ok(intakes) = take_over(&incoming) else { return Ok(None) };
        Ok(Some(Self { centre, incoming, intakes, has_listed: false, unsettled: None }))
    }

    /// Takes a file, as over one connection with those before it; whether the
    /// disk let it.
    pub(super) async fn takes(&mut self, file: usize, cut: Option<Cut>) -> Result<bool, String> {
        if !self.has_listed && !self.settles().await {
            return Ok(false);
        }
        let place = ALL[file];
        self.commands();
        if cut == Some(Cut::BeforeAnswer) {
            self.loses_connection();
            return Ok(true);
        }
        if !self.is_answered().await {
            return Ok(false);
        }
        // Where it is refused, that was the answer.
        let Some(content) = self.centre.source.get(&place).cloned() else { return Ok(true) };
        let intake = &self.intakes[place.0];
        let (mut draft, (first, last)) = (intake.draft(), content.split_at(content.len() / 2));
        if draft.write(first.to_vec()).await.is_err() {
            self.loses_connection();
            return Ok(false);
        }
        if cut == Some(Cut::InBody) {
            self.loses_connection();
            return Ok(true);
        }
        let digest = Sha256::digest(&content).into();
        let name = EntryName::new(place.1.as_bytes()).unwrap();
        if intake.stage(draft, last.to_vec(), &digest, &name).await.is_err() {
            self.loses_connection();
            return Ok(false);
        }
        self.unsettled = Some((place, content));
        if cut == Some(Cut::AfterStaging) {
            self.loses_connection();
        }
        Ok(true)
    }

    /// The last file is settled, the connection closed, the folders flushed.
    pub(super) async fn ends_round(&mut self) -> Result<bool, String> {
        if !self.has_listed && !self.settles().await {
            return Ok(false);
        }
        self.commands();
        if !self.is_answered().await {
            return Ok(false);
        }
        self.loses_connection();
        for (folder, intake) in self.intakes.iter().enumerate() {
            if intake.flush().await.is_err() {
                return Ok(false);
            }
            let Centre { sent, consumed, back, .. } = &mut *self.centre;
            for (content, is_sure) in consumed {
                *is_sure |= sent[content] == folder && !back.contains(content);
            }
        }
        Ok(true)
    }

    /// Another puller has the source from now on.
    pub(super) async fn is_taken_over(&mut self) -> Result<bool, String> {
        self.loses_connection();
        let Ok(other) = self.centre.open() else { return Ok(false) };
        let Ok(intakes) = take_over(&other) else { return Ok(false) };
        (self.incoming, self.intakes) = (other, intakes);
        Ok(true)
    }

    /// A command reaches the source, which forgets what was staged last, if
    /// it still has that.
    fn commands(&mut self) {
        let Some((place, content)) = &self.unsettled else { return };
        if self.centre.source.get(place) == Some(content) {
            self.centre.source.remove(place);
        }
        self.centre.forgotten.insert(content.clone());
    }

    /// Its answer comes back.
    async fn is_answered(&mut self) -> bool {
        let Some(((folder, name), _)) = self.unsettled.take() else { return true };
        let name = EntryName::new(name.as_bytes()).unwrap();
        let published = self.intakes[folder].publish(&name).await.is_ok();
        if !published {
            self.loses_connection();
        }
        published
    }

    /// Lists the source, and publishes what is staged and not listed.
    async fn settles(&mut self) -> bool {
        for (folder, intake) in self.intakes.iter().enumerate() {
            let names = self.centre.source.keys().filter(|(of, _)| *of == folder);
            let listed: Vec<_> = names.map(|(_, name)| Bytes::from_static(name.as_bytes())).collect();
            if publish_forgotten(intake, &listed).await.is_err() {
                return false;
            }
        }
        self.has_listed = true;
        true
    }

    fn loses_connection(&mut self) {
        (self.has_listed, self.unsettled) = (false, None);
    }
}

fn take_over(incoming: &Incoming<Misordered>) -> anyhow::Result<Vec<Intake<Misordered>>> {
    incoming.take_over(&"ship7".parse()?, Home::Only, &FOLDERS.map(str::to_owned))
}

fn staging(root: &Path) -> PathBuf {
    root.join(format!("{RESERVED}sync"))
}

fn told(content: &[u8]) -> String {
    let end = content.iter().position(|&byte| byte == b'>').map_or(content.len(), |at| at + 1);
    format!("{} {}", content[..end].escape_ascii(), content.len())
}

const FOLDERS: [&str; 2] = ["", "conf"];

const ALL: [File; FILES] = [(0, "a.data"), (0, "b.data"), (1, "a.data"), (1, "c.conf")];
