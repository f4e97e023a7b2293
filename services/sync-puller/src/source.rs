//! One source: rounds of listing and taking.

mod listing;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use futures_util::future::join_all;
use protocol::{ClientError, FileName};
use runtime::telemetry::SPANS;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
};

use self::listing::{Listed, Server};
use crate::{
    bounds::{Bounds, Line, Turn},
    destination::{Central, CentralSession, Destination, DestinationError, Intake, Kind},
    lookup::Home,
    metrics::Figures,
    options,
    orphans::Orphans,
    suspects::Suspects,
    taker::{TakeError, Taken, Taker, Tally, Way},
    term::Term,
    upstream::{self, Session, Upstream, UpstreamError},
};

/// A remote buffer.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) options: options::Source,
    /// What log lines call it: its name, and which one of several.
    pub(crate) shown: String,
    upstream: Upstream,
    home: Home,
    orphans: Option<Arc<Orphans>>,
    folders: Vec<Remote>,
    destination: Destination,
    way: Onward,
    bounds: Bounds,
    line: Line,
    /// What was found out about the server, and when.
    server: Option<(Server, Instant)>,
    suspects: Suspects,
    /// So that a round says what is wrong with a listing when it changes.
    said: (usize, usize),
    /// Whether the last round held a part of the names, and none of them came.
    fruitless: bool,
    /// Ends a round after the files that are under way.
    pub(crate) term: Term,
    pub(crate) figures: Arc<Figures>,
}

/// What one round came to.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) tally: Tally,
    /// Names that were listed and not taken.
    pub(crate) left: usize,
    pub(crate) end: Result<(), SourceError>,
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the source closes on LS (it needs -I to serve LS and MV)")]
    NotServed,
    #[error("{0}{hint}", hint = upstream::hint(.0))]
    Client(#[from] ClientError),
    #[error("{0}")]
    Destination(#[from] DestinationError),
    #[error("{name}: {error}")]
    Take { name: FileName, error: TakeError },
    #[error(transparent)]
    Settle(TakeError),
    #[error("it is to be pulled here no more")]
    Ended,
}

/// A folder at the source.
#[derive(Debug)]
struct Remote {
    /// Empty: the root.
    name: String,
    argument: String,
}

/// Where the files of a source go.
#[derive(Debug)]
enum Onward {
    /// One intake a folder, in the order of the folders.
    Folder(Vec<Intake>),
    Servers(Central),
}

/// A name to be taken, and the folder that it is in, by number.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: FileName,
    pub(crate) folder: usize,
}

impl SourceError {
    /// What the disk of the destination said.
    pub(crate) fn disk(&self) -> Option<&std::io::Error> {
        match self {
            Self::Destination(DestinationError::Disk(error))
            | Self::Take { error: TakeError::Destination(DestinationError::Disk(error)), .. }
            | Self::Settle(TakeError::Destination(DestinationError::Disk(error))) => Some(error),
            _ => None,
        }
    }
}

impl Source {
    /// Blocks.
    pub(crate) fn new(
        options: options::Source,
        upstream: Upstream,
        home: Home,
        destination: Destination,
        orphans: Option<Arc<Orphans>>,
        bounds: Bounds,
        term: Term,
    ) -> anyhow::Result<Self> {
        let root = Remote { name: String::new(), argument: String::new() };
        let named =
            options.folders.iter().map(|f| Remote { name: f.name.clone(), argument: f.argument.clone() });
        let folders: Vec<_> = std::iter::once(root).chain(named).collect();
        let way = match destination.kind() {
            Kind::Servers(servers) => Onward::Servers(Central::new(Arc::clone(servers))),
            Kind::Folder(incoming) => {
                let names: Vec<_> = folders.iter().map(|folder| folder.name.clone()).collect();
                Onward::Folder(incoming.take_over(&options.address, home, &names)?)
            }
        };
        let shown = match home {
            Home::Only => options.address.to_string(),
            Home::At(address) => format!("{} ({address})", options.address),
        };
        Ok(Self {
            figures: Figures::of(&shown),
            options,
            shown,
            upstream,
            home,
            orphans,
            folders,
            destination,
            way,
            bounds,
            line: Line::default(),
            server: None,
            suspects: Suspects::default(),
            said: (0, 0),
            fruitless: false,
            term,
        })
    }

    /// Lists what the source has, settles what a crash or a lost connection
    /// left staged, and takes everything.
    pub(crate) async fn round(&mut self) -> Round {
        let span = tracing::info_span!(
            target: SPANS,
            "round",
            otel.kind = "client",
            tentacle.source = self.shown,
            server.address = %self.options.address,
            tentacle.files = Empty,
            tentacle.bytes = Empty,
            tentacle.left = Empty,
            tentacle.outcome = Empty,
            tentacle.reason = Empty,
        );
        let round = self.list_and_take().instrument(span.clone()).await;
        span.record("tentacle.files", round.tally.files)
            .record("tentacle.bytes", round.tally.bytes)
            .record("tentacle.left", round.left);
        self.figures.brought(round.tally.files);
        match &round.end {
            Ok(()) => {
                span.record("tentacle.outcome", "ok");
                self.figures.succeeded(round.left);
            }
            Err(error) => {
                span.record("tentacle.outcome", "failed").record("tentacle.reason", display(error));
                self.figures.failed();
            }
        }
        round
    }

    /// Waits while its destination takes no files.
    pub(crate) async fn may_go_on(&self) {
        self.destination.takes_files().await;
    }

    /// A round has failed: whether that is because its destination takes no
    /// files, and it will be waited for.
    pub(crate) async fn is_paused_by(&self, error: &SourceError) -> bool {
        if let SourceError::Destination(error) | SourceError::Settle(TakeError::Destination(error)) = error {
            self.destination.failed(error).await;
        }
        self.destination.is_closed()
    }

    async fn list_and_take(&mut self) -> Round {
        let span = tracing::info_span!(target: SPANS, "listing", tentacle.source = self.shown);
        let listed = match self.list().instrument(span).await {
            Ok(listed) => listed,
            Err(error) => return Round { tally: Tally::default(), left: 0, end: Err(error) },
        };
        let Listed { items, _names, more, safe, settled } = listed;
        if let Onward::Servers(central) = &self.way
            && more == 0
        {
            central.doubts.keep(items.iter().map(|item| &item.name));
        }
        let (items, left_alone) = self.suspects.sort(items, more == 0);
        self.figures.listed(items.len() + left_alone + self.said.0 + more);
        let mut round = self.take_all(&items, safe).await;
        // Names that are refused here are left too.
        round.left += left_alone + self.said.0 + more;
        self.fruitless = more > 0 && round.tally.files == 0;
        round.end = round.end.and(settled.map_err(SourceError::from));
        if let Onward::Folder(intakes) = &self.way
            && round.tally.files > 0
        {
            for intake in intakes {
                if let Err(error) = intake.flush().await {
                    round.end = round.end.and(Err(error.into()));
                }
            }
        }
        round
    }

    /// Waits for a connection; none when the term ends.
    async fn turn(&self) -> Option<Turn> {
        tokio::select! {
            turn = self.bounds.turn(&self.line) => Some(turn),
            () = self.term.ending() => None,
        }
    }

    /// Takes all of `items`, over several connections.
    async fn take_all(&mut self, items: &[Item], safe: bool) -> Round {
        let (next, not_taken) = (AtomicUsize::new(0), NotTaken::default());
        let connections = self.options.connections.min(items.len());
        let workers = (0..connections).map(|_| self.work(items, &next, &not_taken, safe));
        let ends = join_all(workers).await;
        let mut round = Round { tally: Tally::default(), left: 0, end: Ok(()) };
        for (tally, end) in ends {
            round.tally.add(tally);
            if let Err(error) = end {
                if let SourceError::Take { name, .. } = &error {
                    self.suspects.failed(name.clone());
                }
                // What concerns all files is more than what concerns one.
                let keep = round.end.is_err() && !matches!(error, SourceError::Destination(_));
                round.end = if keep { round.end } else { Err(error) };
            }
        }
        let (refused, unwanted, waiting) = not_taken.into_inner();
        // A name without a dot is a folder of the filters, as a rule.
        let (left, folders): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|name: &FileName| name.as_bytes().contains(&b'.'));
        for folder in folders {
            self.suspects.is_folder(folder);
        }
        if left.len() != self.said.1
            && let Some(first) = left.first()
        {
            tracing::warn!(source = %self.shown, names = left.len(), %first, "the source lists files that it does not hand out");
        }
        self.said.1 = left.len();
        round.left = left.len() + unwanted.len() + waiting;
        for name in unwanted {
            self.suspects.failed(name);
        }
        round
    }

    /// One connection's share: as many turns as it takes.
    async fn work(
        &self,
        items: &[Item],
        next: &AtomicUsize,
        not_taken: &NotTaken,
        safe: bool,
    ) -> (Tally, Result<(), SourceError>) {
        let mut tally = Tally::default();
        // Others may take the rest while this one waits.
        while next.load(Relaxed) < items.len()
            && let Some(turn) = self.turn().await
            && next.load(Relaxed) < items.len()
        {
            let span = tracing::info_span!(
                target: SPANS,
                "connection",
                otel.kind = "client",
                tentacle.source = self.shown,
                server.address = %self.options.address,
                network.transport = "tcp",
                tentacle.outcome = Empty,
                tentacle.reason = Empty,
            );
            let (taken, end) = self.take_in(&turn, items, next, not_taken, safe).instrument(span).await;
            tally.add(taken);
            if end.is_err() {
                return (tally, end);
            }
        }
        (tally, Ok(()))
    }

    /// Takes files over one connection, for as long as its turn lasts.
    async fn take_in(
        &self,
        turn: &Turn,
        items: &[Item],
        next: &AtomicUsize,
        not_taken: &NotTaken,
        safe: bool,
    ) -> (Tally, Result<(), SourceError>) {
        let session = match self.connect().await {
            Ok(session) => session,
            Err(error) => {
                Span::current()
                    .record("tentacle.outcome", "failed")
                    .record("tentacle.reason", display(&error));
                return (Tally::default(), Err(error.into()));
            }
        };
        let (_room, piece) = self.bounds.body(self.options.block_size);
        let mut taker = Taker::new(session, safe, piece, self.term.clone());
        let mut central = match &self.way {
            Onward::Servers(central) => Some(central.session()),
            Onward::Folder(_) => None,
        };
        while !turn.is_over()
            && !self.term.is_ending()
            && let Some(item) = items.get(next.fetch_add(1, Relaxed))
        {
            match taker.take(&item.name, self.way_of(item, &mut central)).await {
                Ok(Taken::Yes) => {}
                Ok(why) => not_taken.push(&item.name, why),
                Err(TakeError::Destination(error)) => return (taker.tally, Err(error.into())),
                Err(error) => {
                    Span::current()
                        .record("tentacle.outcome", "failed")
                        .record("tentacle.reason", display(&error));
                    return (taker.tally, Err(SourceError::Take { name: item.name.clone(), error }));
                }
            }
        }
        if let Some(central) = central {
            central.quit().await;
        }
        let (tally, end) = taker.end().await;
        Span::current().record("tentacle.outcome", if end.is_ok() { "ok" } else { "failed" });
        (tally, end.map_err(SourceError::Settle))
    }

    fn way_of<'a>(&'a self, item: &Item, central: &'a mut Option<CentralSession>) -> Way<'a> {
        match (&self.way, central) {
            (Onward::Folder(intakes), _) => Way::Folder(&intakes[item.folder]),
            (Onward::Servers(_), Some(central)) => Way::Server(central),
            (Onward::Servers(_), None) => unreachable!("a connection to the server goes with the way there"),
        }
    }

    async fn connect(&self) -> Result<Session, UpstreamError> {
        self.upstream.connect().await
    }
}

/// What was listed and did not come, of all connections.
#[derive(Default)]
struct NotTaken(Mutex<(Vec<FileName>, Vec<FileName>, usize)>);

impl NotTaken {
    fn push(&self, name: &FileName, why: Taken) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Taken::Yes => {}
            Taken::Refused => all.0.push(name.clone()),
            Taken::Unwanted => all.1.push(name.clone()),
            Taken::Waits => all.2 += 1,
        }
    }

    /// What the source refused, what no server took, and how many wait for a
    /// server.
    fn into_inner(self) -> (Vec<FileName>, Vec<FileName>, usize) {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
