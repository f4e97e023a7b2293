//! Asking a source what it has.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{ClientError, ConnectionError, FileName, NameRules};
use tokio::sync::OwnedSemaphorePermit;

use super::{Item, Onward, Source, SourceError};
use crate::{bounds::Names, destination::DestinationError, options::Mode, settle, upstream::Session};

/// Which kind of server a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// Keeps a file until its reader's next command.
    TwoPhase,
    /// Forgets a file with its last byte.
    Plain,
}

/// What there is to take.
pub(super) struct Listed {
    pub(super) items: Vec<Item>,
    /// Holds their place.
    pub(super) _names: Names,
    /// How many more than a round may hold are there.
    pub(super) more: usize,
    /// Whether to take it the safe way.
    pub(super) safe: bool,
    /// Whether everything that was staged and forgotten is published. A folder
    /// where it is not has none of the items.
    pub(super) settled: Result<(), DestinationError>,
}

impl Source {
    /// Asks for the names in all folders, and settles what is staged.
    pub(super) async fn list(&mut self) -> Result<Listed, SourceError> {
        let (mut names, mut settled) = (self.bounds.names(), Ok(()));
        let (mut items, mut seen, mut unusable, mut more) = (Vec::new(), HashSet::new(), 0, 0);
        let Some(_turn) = self.turn().await else {
            return Ok(Listed { items, _names: names, more, safe: true, settled });
        };
        let (mut session, safe) = self.greet().await?;
        let rules = NameRules::default();
        for (folder, remote) in self.folders.iter().enumerate() {
            let (listed, _long) = match self.list_folder(&mut session, &remote.argument).await {
                Err(SourceError::Client(ClientError::Connection(ConnectionError::Closed))) if folder == 0 => {
                    return Err(SourceError::NotServed);
                }
                Err(SourceError::Client(ClientError::Refused(why))) if folder > 0 => {
                    tracing::debug!(source = %self.shown, folder = remote.name, %why, "folder is not listed");
                    continue;
                }
                listed => listed?,
            };
            if let Onward::Folder(intakes) = &self.way {
                let published = settle::publish_forgotten(&intakes[folder], &listed).await;
                // What would be taken there now could not be published either.
                if let Err(error) = published {
                    settled = settled.and(Err(error));
                    continue;
                }
                if let Some(orphans) = &self.orphans {
                    let (own, intake) = (self.home, &intakes[folder]);
                    orphans.settle(&mut session, own, folder, &listed, intake).await?;
                }
            }
            // The same part again would keep the rest back for ever.
            let first = if self.fruitless { fastrand::usize(..listed.len().max(1)) } else { 0 };
            for line in listed[first..].iter().chain(&listed[..first]) {
                match self.usable(&rules, line, safe) {
                    // Without filters, a source lists its root for every
                    // argument; and what it lists twice is one file.
                    Usable::Yes(name) if seen.contains(&name) => {}
                    Usable::Yes(name) if names.has_room() => {
                        seen.insert(name.clone());
                        items.push(Item { name, folder });
                    }
                    Usable::Yes(_) => more += 1,
                    Usable::Folder => {}
                    Usable::No => unusable += 1,
                }
            }
        }
        let _ = session.quit().await;
        if unusable > 0 && self.said.0 != unusable {
            tracing::warn!(source = %self.shown, names = unusable, "the source lists names that are refused here");
        }
        self.said.0 = unusable;
        Ok(Listed { items, _names: names, more, safe, settled })
    }

    /// The names that the source lists for `argument`. A long listing waits
    /// until no other is held, by what is returned beside it.
    async fn list_folder(
        &self,
        session: &mut Session,
        argument: &str,
    ) -> Result<(Vec<Bytes>, Option<OwnedSemaphorePermit>), SourceError> {
        if self.term.is_over() {
            return Err(SourceError::Ended);
        }
        match session.list(argument.as_bytes(), SHORT_LISTING).await {
            Err(ClientError::ListTooLong { .. }) => {
                let alone = tokio::select! {
                    alone = self.bounds.long_listing() => alone,
                    // All who wait would list in turn, while others wait for
                    // the source.
                    () = self.term.ending() => return Err(SourceError::Ended),
                };
                // The other one has waited too, and not every server goes on
                // after a list that was declined.
                *session = self.connect().await?;
                Ok((session.list(argument.as_bytes(), MAX_LISTING).await?, Some(alone)))
            }
            listed => Ok((listed?, None)),
        }
    }

    /// A connection on which names can be listed, and whether files are to be
    /// taken the safe way.
    async fn greet(&mut self) -> Result<(Session, bool), SourceError> {
        match self.options.mode {
            Mode::Safe => return Ok((self.connect().await?, true)),
            Mode::Fast => return Ok((self.connect().await?, false)),
            Mode::Auto => {}
        }
        if let Some((Server::Plain, since)) = self.server
            && since.elapsed() < REMEMBERED
        {
            return Ok((self.connect().await?, true));
        }
        let mut session = self.connect().await?;
        match session.features().await {
            Ok(features) => {
                let server = if features.two_phase_move { Server::TwoPhase } else { Server::Plain };
                self.learn(server);
                Ok((session, server == Server::Plain))
            }
            // One that speaks TLS alone has not understood a word.
            Err(error @ ClientError::Connection(ConnectionError::Tls)) => Err(error.into()),
            // A server of the peers closes on every unknown command; whatever
            // else another one does, the safe way suits it.
            Err(_) => {
                self.learn(Server::Plain);
                Ok((self.connect().await?, true))
            }
        }
    }

    fn learn(&mut self, server: Server) {
        if self.server.map(|(known, _)| known) != Some(server) {
            let mode = if server == Server::TwoPhase { Mode::Fast } else { Mode::Safe };
            tracing::info!(source = %self.shown, %mode, "the source is known now");
        }
        self.server = Some((server, Instant::now()));
    }

    fn usable(&self, rules: &NameRules, line: &Bytes, safe: bool) -> Usable {
        // A server of the peers may announce a size for a folder.
        let folder = |name: &str| name.as_bytes() == &line[..];
        if safe
            && (DOCUMENTED_FOLDERS.into_iter().any(folder) || self.folders.iter().any(|f| folder(&f.name)))
        {
            return Usable::Folder;
        }
        match rules.check(line) {
            Ok(name) if spool::EntryName::new(line).is_ok() => Usable::Yes(name),
            _ => Usable::No,
        }
    }
}

/// What a line of a listing is good for.
enum Usable {
    Yes(FileName),
    Folder,
    No,
}

/// The folders of the documented filters.
const DOCUMENTED_FOLDERS: [&str; 6] = ["conf", "md5", "collections", "trans", "commands", "agent"];

/// Bytes of a listing that many sources may hold at once: some ten thousand
/// names.
const SHORT_LISTING: u64 = 512 << 10;

/// Bytes of a listing: some million names.
const MAX_LISTING: u64 = 256 << 20;

/// How long a server that does not know `FEATURES` is not asked again.
const REMEMBERED: Duration = Duration::from_secs(3600);
