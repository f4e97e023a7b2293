//! What is staged for an address that its name no longer stands for.
//!
//! Whether its buffer has forgotten such a file cannot be asked there any
//! more. The buffer may be back at another address, as a pod is with its
//! volume: so each of the name's buffers is asked. One that lists the file,
//! with the same content, has it from then on as if it had been fetched from
//! there. Only when none of them has it, and time enough has passed for one
//! to come back, it is published.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use protocol::NameRules;
use spool::{EntryName, blocking::spawn_blocking};
use tokio::{sync::Mutex, time::Instant};
use transport::Address;

use crate::{
    destination::{DestinationError, Incoming, Intake, digest_of},
    lookup::Home,
    source::SourceError,
    upstream::Session,
};

/// The orphans of one name.
#[derive(Debug)]
pub(crate) struct Orphans {
    source: Address,
    /// As the sources have them; the root is empty.
    folders: Vec<String>,
    incoming: Arc<Incoming>,
    /// How long a buffer may take to come back at another address.
    patience: Duration,
    /// Held over work on the disk: what a file turns out to be must still
    /// hold when it is moved.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The buffers that the name stands for now.
    current: BTreeSet<Home>,
    homes: BTreeMap<Home, Orphan>,
}

/// What is left of a buffer.
#[derive(Debug)]
struct Orphan {
    since: Instant,
    /// In the order of the folders.
    intakes: Vec<Intake>,
    /// The buffers that do not have a file.
    denied: HashMap<(usize, EntryName), BTreeSet<Home>>,
}

impl Orphans {
    pub(crate) fn new(
        source: Address,
        folders: Vec<String>,
        incoming: Arc<Incoming>,
        patience: Duration,
    ) -> Self {
        Self { source, folders, incoming, patience, state: Mutex::default() }
    }

    /// Looks what is staged for none of `current`. Nothing may be under way
    /// from any other buffer.
    pub(crate) async fn look(&self, current: BTreeSet<Home>) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        let (incoming, source) = (Arc::clone(&self.incoming), self.source.clone());
        let (folders, homes) = (self.folders.clone(), current.clone());
        let known: BTreeSet<_> = state.homes.keys().copied().collect();
        let found = spawn_blocking(move || {
            let mut found = Vec::new();
            for home in incoming.homes(&source)?.into_iter().filter(|home| !homes.contains(home)) {
                if incoming.forget_if_empty(&source, home) {
                    continue;
                }
                let intakes = match known.contains(&home) {
                    true => None,
                    false => Some(incoming.take_over(&source, home, &folders)?),
                };
                found.push((home, intakes));
            }
            anyhow::Ok(found)
        });
        let mut before = std::mem::take(&mut state.homes);
        for (home, intakes) in found.await?? {
            let new = |intakes| Orphan { since: Instant::now(), intakes, denied: HashMap::new() };
            let orphan = intakes.map(new).or_else(|| before.remove(&home));
            state.homes.extend(orphan.map(|orphan| (home, orphan)));
        }
        state.current = current;
        Ok(())
    }

    /// Whether there are none.
    pub(crate) async fn is_empty(&self) -> bool {
        for folder in 0..self.folders.len() {
            for (_, orphaned) in self.of(folder).await {
                if !orphaned.staged().await.is_ok_and(|staged| staged.is_empty()) {
                    return false;
                }
            }
        }
        true
    }

    /// Settles the files of one folder with the buffer `own`, which has just
    /// `listed` that folder on `session`. Nothing may be under way from there
    /// into `intake`.
    pub(crate) async fn settle(
        &self,
        session: &mut Session,
        own: Home,
        folder: usize,
        listed: &[Bytes],
        intake: &Intake,
    ) -> Result<(), SourceError> {
        for (home, orphaned) in self.of(folder).await {
            for name in orphaned.staged().await? {
                let is_listed = listed.iter().any(|line| line[..] == *name.as_bytes());
                match NameRules::default().check(name.as_bytes()) {
                    Ok(file) if is_listed => match digest_of(session, &file).await? {
                        // Taken since it was listed: the next listing tells.
                        None => {}
                        Some(here) if orphaned.digest(&name).await? == Some(here) => {
                            self.adopt(home, &orphaned, &name, intake).await?;
                        }
                        Some(_) => self.deny(home, own, folder, &name).await?,
                    },
                    _ => self.deny(home, own, folder, &name).await?,
                }
            }
        }
        Ok(())
    }

    async fn of(&self, folder: usize) -> Vec<(Home, Intake)> {
        let state = self.state.lock().await;
        state.homes.iter().map(|(home, orphan)| (*home, orphan.intakes[folder].clone())).collect()
    }

    /// The buffer of `intake` has the file: it is the same one, or as good.
    async fn adopt(
        &self,
        home: Home,
        orphaned: &Intake,
        name: &EntryName,
        intake: &Intake,
    ) -> Result<(), DestinationError> {
        let state = self.state.lock().await;
        if state.homes.contains_key(&home) && intake.adopt(orphaned, name).await? {
            tracing::info!(source = %self.source, ?name, "settled: the buffer that it was fetched from is back at another address");
        }
        Ok(())
    }

    /// The buffer `own` does not have the file, or another content under its
    /// name. If no other has it, it is published.
    async fn deny(
        &self,
        home: Home,
        own: Home,
        folder: usize,
        name: &EntryName,
    ) -> Result<(), DestinationError> {
        let mut state = self.state.lock().await;
        let State { current, homes } = &mut *state;
        let Some(orphan) = homes.get_mut(&home) else { return Ok(()) };
        let key = (folder, name.clone());
        let denied = orphan.denied.entry(key.clone()).or_default();
        denied.insert(own);
        if !current.is_subset(denied) || orphan.since.elapsed() < self.patience {
            return Ok(());
        }
        let intake = &orphan.intakes[folder];
        intake.publish(name).await?;
        intake.flush().await?;
        orphan.denied.remove(&key);
        tracing::warn!(
            source = %self.source,
            ?name,
            buffers = current.len(),
            "settled: the address that it was fetched from is gone, and none of the name's buffers has it"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::destination::Stagers;

    const TEN_MINUTES: Duration = Duration::from_secs(600);

    fn at(number: u8) -> Home {
        Home::At([10, 0, 0, number].into())
    }

    /// `a.data` is staged for the buffer 9, which is gone.
    async fn orphans(folder: &TempDir, current: &[Home]) -> Orphans {
        let incoming = Arc::new(Incoming::open(folder.path(), false, Stagers::One).unwrap());
        let source: Address = "buffers".parse().unwrap();
        let staged = folder.path().join(".tentacle~sync/buffers%3A41121/10.0.0.9/files");
        std::fs::create_dir_all(&staged).unwrap();
        std::fs::write(staged.join("a.data"), "hello").unwrap();
        let orphans = Orphans::new(source, vec![String::new()], incoming, TEN_MINUTES);
        orphans.look(current.iter().copied().collect()).await.unwrap();
        orphans
    }

    async fn deny(orphans: &Orphans, own: Home) {
        orphans.deny(at(9), own, 0, &EntryName::new(b"a.data").unwrap()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_buffer_has_is_published_after_a_while() {
        let folder = TempDir::new().unwrap();
        let published = folder.path().join("a.data");
        let orphans = orphans(&folder, &[at(1), at(2)]).await;
        deny(&orphans, at(1)).await;
        deny(&orphans, at(2)).await;
        assert!(!published.exists(), "its buffer may come back");
        tokio::time::advance(TEN_MINUTES).await;
        // A third one has come meanwhile, and has not answered yet.
        orphans.look([at(1), at(2), at(3)].into()).await.unwrap();
        deny(&orphans, at(1)).await;
        assert!(!published.exists());
        deny(&orphans, at(3)).await;
        assert!(published.exists() && orphans.is_empty().await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_when_the_address_went_last() {
        let folder = TempDir::new().unwrap();
        let orphans = orphans(&folder, &[at(1)]).await;
        tokio::time::advance(TEN_MINUTES).await;
        // It is back, and gone again: what was said of it before is not true
        // any more.
        orphans.look([at(1), at(9)].into()).await.unwrap();
        deny(&orphans, at(1)).await;
        orphans.look([at(1)].into()).await.unwrap();
        deny(&orphans, at(1)).await;
        assert!(!folder.path().join("a.data").exists());
        tokio::time::advance(TEN_MINUTES).await;
        deny(&orphans, at(1)).await;
        assert!(folder.path().join("a.data").exists());
    }
}
