//! Watching sessions for `--inspect`: what the log says of them, and what is
//! counted.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use opentelemetry::{Context, KeyValue, global};
use protocol::{Refusal, Verb};
use runtime::{
    logs::Escaped,
    telemetry::{
        METER,
        files::{Direction, FILES},
    },
};
use tokio::time::Instant;

use crate::inspect::{Event, Foreign, Inspector, Speaker, Transfer};

/// Sums of all sessions since the start; from `files` on, of what
/// `--inspect` reads in them.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Sessions that have ended, in whatever way.
    sessions: AtomicU64,
    /// Bytes from clients.
    sent: AtomicU64,
    /// Bytes to them.
    received: AtomicU64,
    /// Files that went over, in either direction.
    files: AtomicU64,
    /// Files and lists that servers refused; a file that is not there is none.
    refused: AtomicU64,
    /// Wrong passwords.
    wrong_passwords: AtomicU64,
    /// Sessions that could not be read to their end.
    foreign: AtomicU64,
}

/// Watches one session.
pub(crate) struct Watch {
    peer: SocketAddr,
    upstream: SocketAddr,
    /// Whether a session that is not Tentacle is to end.
    strict: bool,
    sums: Arc<Sums>,
    /// Both directions are of one task: nobody waits for it.
    state: Mutex<State>,
}

struct State {
    inspector: Inspector,
    /// When the transfer under way was asked for.
    asked: Instant,
    counts: Counts,
}

/// What went over in a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) refused: u64,
}

/// Sees what passes in one direction of a session, if somebody watches it.
#[derive(Clone, Copy)]
pub(crate) struct Eye<'a> {
    pub(crate) from: Speaker,
    pub(crate) watch: Option<&'a Watch>,
}

// === impl Sums ===

impl Sums {
    /// A session has ended.
    pub(crate) fn session(&self, sent: u64, received: u64) {
        self.sessions.fetch_add(1, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
        self.received.fetch_add(received, Relaxed);
    }

    /// Tells them to whoever asks for metrics.
    pub(crate) fn watch(self: &Arc<Self>) {
        let meter = global::meter(METER);
        let sums = Arc::clone(self);
        let _ = meter
            .u64_observable_counter("tentacle_proxy_sessions")
            .with_description("Sessions that were passed on and have ended")
            .with_callback(move |seen| seen.observe(sums.sessions.load(Relaxed), &[]))
            .build();
        let sums = Arc::clone(self);
        let _ = meter
            .u64_observable_counter("tentacle_proxy_bytes")
            .with_unit("By")
            .with_description("Bytes of sessions that have ended: in from clients, out to them")
            .with_callback(move |seen| {
                seen.observe(sums.sent.load(Relaxed), &[KeyValue::new("direction", "in")]);
                seen.observe(sums.received.load(Relaxed), &[KeyValue::new("direction", "out")]);
            })
            .build();
    }

    /// Tells them in the log.
    pub(crate) fn log(&self, inspected: bool) {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let (sessions, sent, received) = (of(&self.sessions), of(&self.sent), of(&self.received));
        let of = |count: &AtomicU64| inspected.then(|| count.load(Relaxed));
        let (files, refused, foreign) = (of(&self.files), of(&self.refused), of(&self.foreign));
        let wrong_passwords = of(&self.wrong_passwords);
        tracing::info!(sessions, sent, received, files, refused, wrong_passwords, foreign, "all in all");
    }
}

// === impl Eye ===

impl Eye<'_> {
    /// How many of the next bytes are of a body: none of them is kept.
    pub(crate) fn ahead(self) -> u64 {
        self.watch.map_or(u64::MAX, |watch| watch.state().inspector.ahead(self.from))
    }

    /// Whether more is to be read: not from who is too far ahead of the other
    /// side.
    pub(crate) fn listens(self) -> bool {
        self.watch.is_none_or(|watch| watch.state().inspector.listens(self.from))
    }

    /// Sees what is sent; how much of it is to be passed on at once.
    ///
    /// # Errors
    /// The session is to end, as it is not Tentacle.
    pub(crate) fn see(self, bytes: &[u8]) -> Result<usize, Foreign> {
        let Some(watch) = self.watch else { return Ok(bytes.len()) };
        let mut straight = 0;
        watch.follow(|inspector| {
            let (count, events) = inspector.feed(self.from, bytes);
            straight = count;
            events
        })?;
        Ok(straight)
    }

    /// What was held and is to be passed on now.
    pub(crate) fn released(self) -> Vec<u8> {
        self.watch.map_or_else(Vec::new, |watch| watch.state().inspector.released(self.from))
    }

    /// Whether the end has to wait for what is held.
    pub(crate) fn keeps(self) -> bool {
        self.watch.is_some_and(|watch| watch.state().inspector.keeps(self.from))
    }

    /// Nothing more comes.
    pub(crate) fn ended(self) {
        // A server may still answer a client that says no more.
        if let (Speaker::Server, Some(watch)) = (self.from, self.watch) {
            let _ = watch.follow(Inspector::finish);
        }
    }
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new(peer: SocketAddr, upstream: SocketAddr, strict: bool, sums: Arc<Sums>) -> Self {
        let (inspector, asked) = (Inspector::new(strict), Instant::now());
        let state = Mutex::new(State { inspector, asked, counts: Counts::default() });
        Self { peer, upstream, strict, sums, state }
    }

    /// The session has ended.
    pub(crate) fn finish(self) -> Counts {
        // Nothing is left that could be closed.
        let _ = self.follow(Inspector::finish);
        self.state().counts
    }

    fn follow(&self, take: impl FnOnce(&mut Inspector) -> Vec<Event>) -> Result<(), Foreign> {
        let mut state = self.state();
        let events = take(&mut state.inspector);
        events.into_iter().try_for_each(|event| self.happened(&mut state, event))
    }

    fn happened(&self, state: &mut State, event: Event) -> Result<(), Foreign> {
        let Self { peer, upstream, sums, .. } = self;
        match event {
            Event::Asked => state.asked = Instant::now(),
            Event::Passed(Transfer { verb, name, size, journey }) => {
                let seconds = state.asked.elapsed().as_secs_f32();
                let recorded = journey.map(|(journey, began)| {
                    let attributes = [
                        KeyValue::new("tentacle.command", verb.as_str()),
                        KeyValue::new("tentacle.outcome", "ok"),
                        KeyValue::new("file.name", String::from_utf8_lossy(&name).into_owned()),
                        KeyValue::new("file.size", size.cast_signed()),
                        KeyValue::new("network.peer.address", peer.ip().to_string()),
                        KeyValue::new("server.address", upstream.ip().to_string()),
                        KeyValue::new("server.port", i64::from(upstream.port())),
                    ];
                    journey.record("file passed on", began, attributes)
                });
                let _within = recorded.map(Context::attach);
                let (name, bytes, verb_said) = (Escaped(&name), size, verb.as_str());
                if verb == Verb::Ls {
                    tracing::info!(%peer, %upstream, verb = verb_said, %name, bytes, seconds, "list passed on");
                } else {
                    tracing::info!(%peer, %upstream, verb = verb_said, %name, bytes, seconds, "file passed on");
                    let direction =
                        if matches!(verb, Verb::Send | Verb::Zsend) { Direction::In } else { Direction::Out };
                    FILES.whole(verb_said, direction, bytes, state.asked.into_std());
                    state.counts.files += 1;
                    sums.files.fetch_add(1, Relaxed);
                }
            }
            Event::Refused(Transfer { verb, name, .. }, Some(Refusal::Missing)) => {
                // An agent asks for its .md5 before there is one: ordinary.
                FILES.ended(verb.as_str(), "missing");
                tracing::info!(%peer, %upstream, verb = verb.as_str(), name = %Escaped(&name), "no such file");
            }
            Event::Refused(Transfer { verb, name, .. }, why) => {
                FILES.ended(verb.as_str(), "refused");
                let name = Escaped(&name);
                let reason = why.map_or_else(|| "closed without an answer".to_owned(), |why| why.to_string());
                let reason = Escaped(reason.as_bytes());
                tracing::warn!(%peer, %upstream, verb = verb.as_str(), %name, %reason, "refused by the server");
                state.counts.refused += 1;
                sums.refused.fetch_add(1, Relaxed);
            }
            Event::CutShort(Transfer { verb, name, size, .. }) => {
                FILES.ended(verb.as_str(), "cut");
                let name = Escaped(&name);
                tracing::warn!(%peer, %upstream, verb = verb.as_str(), %name, size, "file cut short");
            }
            Event::Password(true) => tracing::debug!(%peer, %upstream, "password accepted"),
            Event::Password(false) => {
                tracing::warn!(%peer, %upstream, "password refused by the server");
                sums.wrong_passwords.fetch_add(1, Relaxed);
            }
            Event::Quit => tracing::debug!(%peer, %upstream, "the client quits"),
            Event::Foreign(why) => {
                sums.foreign.fetch_add(1, Relaxed);
                if self.strict {
                    return Err(why);
                }
                tracing::info!(%peer, %upstream, "not plain Tentacle, passed on uninspected from here: {why}");
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
