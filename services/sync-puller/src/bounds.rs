//! What the process gives to all sources together: connections, names that
//! are held, memory for bodies.
//!
//! Connections are waited for, in turn; of the rest, who comes while it is
//! taken gets little, and waits for nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use runtime::limits::{Buffers, LEAST, Room};
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// The bounds of this process. Cheap to clone; the clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    connections: Arc<Semaphore>,
    /// Who wait for a connection.
    waiting: Arc<AtomicUsize>,
    names: Arc<Semaphore>,
    long_listings: Arc<Semaphore>,
    buffers: Buffers,
}

/// The line of one source before the connections: one of its own waits with
/// those of other sources, so that a source with many of them gets no more
/// turns than another.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<()>);

/// A connection's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    _connection: OwnedSemaphorePermit,
    began: Instant,
    waiting: Arc<AtomicUsize>,
}

/// Names that a round holds.
#[derive(Debug)]
pub(crate) struct Names {
    of: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    /// How many it may hold.
    room: usize,
    held: usize,
}

impl Bounds {
    /// So many connections at once, or as many as the process may open.
    pub(crate) fn new(most_connections: usize) -> Self {
        let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
        let room = (files.saturating_sub(OTHER_FILES) / FILES_OF_A_CONNECTION).max(1);
        if room < most_connections {
            tracing::warn!(
                wanted = most_connections,
                connections = room,
                open_files = files,
                "--max-connections is more than the limit of open files has room for (raise it, such as by LimitNOFILE or ulimit -n)"
            );
        }
        Self {
            connections: Arc::new(Semaphore::new(most_connections.min(room))),
            waiting: Arc::default(),
            names: Arc::new(Semaphore::new(MOST_NAMES)),
            long_listings: Arc::new(Semaphore::new(1)),
            buffers: Buffers::of_this_process(),
        }
    }

    /// Waits for a connection to a source. May be dropped.
    pub(crate) async fn turn(&self, line: &Line) -> Turn {
        let _first = line.0.lock().await;
        let waiting = Waiting::new(&self.waiting);
        let connection = Arc::clone(&self.connections).acquire_owned().await;
        drop(waiting);
        Turn {
            _connection: connection.expect("nobody closes it"),
            began: Instant::now(),
            waiting: Arc::clone(&self.waiting),
        }
    }

    /// Waits until no other long listing is read: each may take hundreds of
    /// megabytes. May be dropped.
    pub(crate) async fn long_listing(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.long_listings).acquire_owned().await.expect("nobody closes it")
    }

    /// The names of one round, none yet.
    pub(crate) fn names(&self) -> Names {
        Names { of: Arc::clone(&self.names), taken: None, room: LEAST_NAMES, held: 0 }
    }

    /// Room for the body that one connection moves, and the bytes of a piece
    /// of it, at most `block`: two pieces are under way, and what is held of
    /// the file is as much as a third.
    pub(crate) fn body(&self, block: usize) -> (Room, usize) {
        let room = self.buffers.take(block.saturating_mul(3));
        let piece = if room.bytes() < block.saturating_mul(3) { LEAST / 2 } else { block };
        (room, piece.min(block))
    }
}

impl Turn {
    /// Whether it has lasted long enough, and others wait for theirs.
    pub(crate) fn is_over(&self) -> bool {
        self.waiting.load(Relaxed) > 0 && self.began.elapsed() >= SLICE
    }
}

impl Names {
    /// Whether one more may be held.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.held == self.room && !self.grow() {
            return false;
        }
        self.held += 1;
        true
    }

    fn grow(&mut self) -> bool {
        if self.room >= MOST_NAMES_OF_A_ROUND {
            return false;
        }
        let Ok(more) = Arc::clone(&self.of).try_acquire_many_owned(NAMES_AT_ONCE) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        self.room += NAMES_AT_ONCE as usize;
        true
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How long a connection works at least before it makes room for another.
const SLICE: Duration = Duration::from_secs(1);

/// Of a connection to a source: itself, the file that is written, and the
/// connection to a central server or the folder that is flushed.
const FILES_OF_A_CONNECTION: usize = 3;

/// The log, sockets of others, locks of folders, libraries.
const OTHER_FILES: usize = 128;

/// Held by all rounds, beside [`LEAST_NAMES`] of each: some 100 bytes each.
const MOST_NAMES: usize = 500_000;

/// Held by one round; what is listed beyond them comes with the next.
const MOST_NAMES_OF_A_ROUND: usize = 50_000;

/// What every round may hold.
const LEAST_NAMES: usize = 256;

const NAMES_AT_ONCE: u32 = 1024;

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_round_holds_some_names_whatever_others_hold() {
        let bounds = Bounds::new(1);
        let count = |names: &mut Names| (0..1_000_000).take_while(|_| names.has_room()).count();
        let mut rounds: Vec<_> = (0..20).map(|_| bounds.names()).collect();
        let counts: Vec<_> = rounds.iter_mut().map(count).collect();
        assert!(counts[0] >= MOST_NAMES_OF_A_ROUND && counts[0] < MOST_NAMES_OF_A_ROUND + 2048);
        assert_eq!(counts[19], LEAST_NAMES);
        assert!(counts.iter().sum::<usize>() <= MOST_NAMES + 20 * LEAST_NAMES);
        rounds.truncate(1);
        assert!(count(&mut bounds.names()) >= MOST_NAMES_OF_A_ROUND, "given back");
    }

    #[tokio::test]
    async fn a_turn_is_over_when_others_wait_and_not_before_it_has_lasted() {
        let (bounds, one, other) = (Bounds::new(1), Line::default(), Line::default());
        let mut turn = bounds.turn(&one).await;
        assert!(!turn.is_over());
        let waiting = bounds.clone();
        let second = tokio::spawn(async move { drop(waiting.turn(&other).await) });
        while turn.waiting.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!turn.is_over(), "it has just begun");
        turn.began -= SLICE;
        assert!(turn.is_over());
        drop(turn);
        second.await.unwrap();
        let mut turn = bounds.turn(&one).await;
        turn.began -= SLICE;
        assert!(!turn.is_over(), "nobody waits");
    }

    #[tokio::test]
    async fn a_source_waits_once_however_many_connections_it_wants() {
        let (bounds, large, small) = (Bounds::new(1), Arc::new(Line::default()), Line::default());
        let turn = bounds.turn(&large).await;
        let greedy: Vec<_> = (0..10)
            .map(|_| {
                let (bounds, large) = (bounds.clone(), Arc::clone(&large));
                tokio::spawn(async move {
                    let turn = bounds.turn(&large).await;
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                    drop(turn);
                })
            })
            .collect();
        while bounds.waiting.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let mut small = std::pin::pin!(bounds.turn(&small));
        assert!(timeout(Duration::ZERO, &mut small).await.is_err());
        assert_eq!(bounds.waiting.load(Relaxed), 2);
        drop(turn);
        // The first of the ten has it now; the second one stands behind.
        tokio::task::yield_now().await;
        greedy[0].abort();
        timeout(Duration::from_secs(20), small).await.unwrap();
        greedy.iter().for_each(|task| task.abort());
    }

    #[test]
    fn a_body_has_its_room_or_small_pieces() {
        let bounds = Bounds { buffers: Buffers::new(1 << 20), ..Bounds::new(1) };
        let (first, piece) = bounds.body(256 * 1024);
        assert_eq!((first.bytes(), piece), (768 * 1024, 256 * 1024));
        assert_eq!(bounds.body(256 * 1024).1, LEAST / 2);
        assert_eq!(bounds.body(512).1, 512);
    }
}
