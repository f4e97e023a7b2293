//! Taking files over one connection: fetched, made safe, forgotten by the
//! source, published; in this order.

mod forward;

use std::time::{Instant, SystemTime};

use opentelemetry::{Context, KeyValue};
use protocol::{ClientError, FileName, Form, Verb, piece_size};
use runtime::telemetry::{
    SPANS,
    files::{Direction, FILES},
    is_tracing,
    journey::Journey,
};
use sha2::{Digest as _, Sha256};
use spool::{Draft, EntryName};
use tracing::{
    Instrument as _,
    field::{Empty, display},
};

use crate::{
    destination::{CentralSession, DestinationError, Digest, Doubts, Intake},
    term::Term,
    upstream::Session,
};

/// One connection to a source, taking files one after the other.
#[derive(Debug)]
pub(crate) struct Taker {
    session: Session,
    safe: bool,
    block_size: usize,
    /// The file that was made safe last. The source forgets it on the next
    /// command; the answer to that shows that it has, but for an `MV SIZE`:
    /// the body behind it does.
    unsettled: Option<Unsettled>,
    /// Over, no further command is given: somebody else may give them.
    term: Term,
    pub(crate) tally: Tally,
}

/// Where a file goes.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// Into a folder.
    Folder(&'a Intake),
    /// To a central server.
    Server(&'a mut CentralSession),
}

/// What was taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is safe at the centre.
    Yes,
    /// The source does not hand it out.
    Refused,
    /// The central server does not take it.
    Unwanted,
    /// A central server that is away may have it.
    Waits,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    Source(#[from] ClientError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("the file was overwritten while it was fetched")]
    Overwritten,
    #[error("the central server was given another file of this name meanwhile")]
    NameTaken,
    #[error("the right to pull it could not be extended in time")]
    TermOver,
}

#[derive(Debug)]
struct Unsettled {
    name: FileName,
    bytes: u64,
    digest: Digest,
    held: Held,
}

/// Where a file is that its source may still have.
#[derive(Debug)]
enum Held {
    /// Not published.
    Staged(Intake, EntryName),
    /// On a server, and published with its receipt.
    Sent(Doubts),
}

/// A body that has arrived whole.
struct Fetched {
    draft: Draft,
    last: Vec<u8>,
    digest: Digest,
}

impl Tally {
    pub(crate) fn add(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

impl Taker {
    pub(crate) fn new(session: Session, safe: bool, block_size: usize, term: Term) -> Self {
        Self { session, safe, block_size, unsettled: None, term, tally: Tally::default() }
    }

    /// Takes one file.
    pub(crate) async fn take(&mut self, name: &FileName, way: Way<'_>) -> Result<Taken, TakeError> {
        let span = tracing::info_span!(
            target: SPANS,
            "fetch",
            file.name = %name,
            file.size = Empty,
            tentacle.outcome = Empty,
            tentacle.reason = Empty,
        );
        let (began, at) = (Instant::now(), SystemTime::now());
        let taken = self.take_one(name, way).instrument(span.clone()).await;
        let outcome = match &taken {
            Ok(Taken::Yes) => "ok",
            Ok(Taken::Refused) => "refused",
            Ok(Taken::Unwanted | Taken::Waits) => "unwanted",
            Err(_) => "failed",
        };
        if !matches!(taken, Ok(Taken::Yes)) {
            FILES.ended(COMMAND.as_str(), outcome);
        }
        span.record("tentacle.outcome", outcome);
        match &taken {
            Ok(_) => {}
            Err(error) => _ = span.record("tentacle.reason", display(error)),
        }
        if let (Ok(Taken::Yes), Some(fetched)) = (&taken, &self.unsettled) {
            FILES.whole(COMMAND.as_str(), Direction::In, fetched.bytes, began);
            span.record("file.size", fetched.bytes);
            let step = match fetched.held {
                Held::Staged(..) => "file fetched",
                Held::Sent(_) => "file forwarded",
            };
            span.in_scope(|| drop(record(step, &fetched.name, &fetched.digest, fetched.bytes, at)));
        }
        taken
    }

    async fn take_one(&mut self, name: &FileName, way: Way<'_>) -> Result<Taken, TakeError> {
        match (way, self.safe) {
            (Way::Folder(intake), false) => self.move_to_folder(name, intake).await,
            (Way::Folder(intake), true) => self.copy_to_folder(name, intake).await,
            (Way::Server(server), false) => self.move_to_server(name, server).await,
            (Way::Server(server), true) => self.copy_to_server(name, server).await,
        }
    }

    /// Settles the last file, and says good-bye.
    pub(crate) async fn end(mut self) -> (Tally, Result<(), TakeError>) {
        let settled = self.settle_last().await;
        if settled.is_ok() && !self.term.is_over() {
            let _ = self.session.quit().await;
        }
        (self.tally, settled)
    }

    /// `MV`: the source keeps the file until our next command.
    async fn move_to_folder(&mut self, name: &FileName, intake: &Intake) -> Result<Taken, TakeError> {
        let Some(size) = self.asked(Verb::Mv, name).await? else { return Ok(Taken::Refused) };
        let entry = entry(name)?;
        let fetched = self.fetch(Verb::Mv, size, intake).await?;
        let digest = fetched.digest;
        intake.stage(fetched.draft, fetched.last, &digest, &entry).await?;
        let held = Held::Staged(intake.clone(), entry);
        self.unsettled = Some(Unsettled { name: name.clone(), bytes: size, digest, held });
        Ok(Taken::Yes)
    }

    /// `RECV`, made safe, then `MV`, with which the source forgets the file
    /// at once. If it was overwritten in between, both contents are kept.
    async fn copy_to_folder(&mut self, name: &FileName, intake: &Intake) -> Result<Taken, TakeError> {
        let Some(size) = self.asked(Verb::Recv, name).await? else { return Ok(Taken::Refused) };
        let entry = entry(name)?;
        let copy = self.fetch(Verb::Recv, size, intake).await?;
        intake.stage(copy.draft, copy.last, &copy.digest, &entry).await?;
        // Refused: gone in the meantime. What is staged is settled by the
        // next listing.
        let Some(size) = self.asked(Verb::Mv, name).await? else { return Ok(Taken::Refused) };
        let moved = self.fetch(Verb::Mv, size, intake).await?;
        let digest = moved.digest;
        intake.stage(moved.draft, moved.last, &digest, &entry).await?;
        let held = Held::Staged(intake.clone(), entry);
        self.unsettled = Some(Unsettled { name: name.clone(), bytes: size, digest, held });
        Ok(Taken::Yes)
    }

    /// Reads the body of `size` bytes that `verb` announced into a draft.
    async fn fetch(&mut self, verb: Verb, size: u64, intake: &Intake) -> Result<Fetched, TakeError> {
        self.session.accept(verb, size).await?;
        let mut draft = intake.draft();
        let (mut hash, mut piece) = (Sha256::new(), self.buffer(size));
        let mut hashed = 0;
        loop {
            let ended = self.read_body(&mut piece).await? == 0;
            hash.update(&piece[hashed..]);
            hashed = piece.len();
            if ended && piece.len() < piece.capacity() {
                break;
            }
            if piece.len() == piece.capacity() {
                piece = draft.write(piece).await.map_err(DestinationError::Disk)?;
                hashed = 0;
            }
        }
        Ok(Fetched { draft, last: piece, digest: hash.finalize().into() })
    }

    /// Reads more of a body; its first byte shows that the source has
    /// forgotten the last file.
    async fn read_body(&mut self, piece: &mut Vec<u8>) -> Result<usize, TakeError> {
        let read = self.session.read_body(piece).await?;
        if read > 0 {
            self.settle().await?;
        }
        Ok(read)
    }

    /// Asks for a file; the announced size, or `None` if it is refused. Any
    /// answer shows that the source has forgotten the last file, but for an
    /// `MV SIZE` with a body to come.
    async fn asked(&mut self, verb: Verb, name: &FileName) -> Result<Option<u64>, TakeError> {
        if self.term.is_over() {
            return Err(TakeError::TermOver);
        }
        let answer = match verb {
            Verb::Mv => self.session.take(name).await,
            _ => self.session.receive(name, Form::Plain).await,
        };
        match answer {
            Ok(size) => {
                if verb != Verb::Mv || size == 0 {
                    self.settle().await?;
                }
                Ok(Some(size))
            }
            Err(ClientError::Refused(why)) => {
                tracing::debug!(%name, %why, verb = verb.as_str(), "refused");
                self.settle().await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes the last file, of which the source has shown that it has
    /// forgotten it.
    async fn settle(&mut self) -> Result<(), TakeError> {
        let Some(last) = self.unsettled.take() else { return Ok(()) };
        let mut journey = None;
        match &last.held {
            Held::Staged(intake, entry) => {
                let at = SystemTime::now();
                intake.publish(entry).await?;
                journey = record("file published", &last.name, &last.digest, last.bytes, at);
            }
            Held::Sent(doubts) => doubts.settled(&last.name),
        }
        self.tally.files += 1;
        self.tally.bytes += last.bytes;
        let _within = journey.map(Context::attach);
        tracing::info!(name = %last.name, bytes = last.bytes, "file fetched");
        Ok(())
    }

    /// Asks a last question that any server answers, so that the last file
    /// can be settled: a closed connection would not tell.
    async fn settle_last(&mut self) -> Result<(), TakeError> {
        let Some(last) = &self.unsettled else { return Ok(()) };
        let name = last.name.clone();
        if self.asked(Verb::Recv, &name).await?.is_some() {
            // Another file of this name has come by now.
            self.session.decline(Verb::Recv).await?;
        }
        Ok(())
    }

    fn buffer(&self, size: u64) -> Vec<u8> {
        Vec::with_capacity(piece_size(size).min(self.block_size))
    }
}

/// A step of a file's journey.
fn record(
    step: &'static str,
    name: &FileName,
    digest: &Digest,
    bytes: u64,
    began: SystemTime,
) -> Option<Context> {
    let attributes = || {
        [
            KeyValue::new("tentacle.outcome", "ok"),
            KeyValue::new("file.name", name.to_string()),
            KeyValue::new("file.size", bytes.cast_signed()),
        ]
    };
    is_tracing().then(|| Journey::of(name.as_bytes(), digest).record(step, began, attributes))
}

fn entry(name: &FileName) -> Result<EntryName, TakeError> {
    EntryName::new(name.as_bytes())
        .map_err(|error| DestinationError::Disk(std::io::Error::other(error)).into())
}

/// However a file is fetched, that is how its source is told to forget it.
const COMMAND: Verb = Verb::Mv;
