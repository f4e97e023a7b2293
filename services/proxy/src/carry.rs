//! Carrying a session's bytes in both directions.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use transport::Stream;

use crate::{
    inspect::{Foreign, Speaker},
    relay::{Direction, Side},
    watch::{Eye, Sums, Watch},
};

/// What went over, and how it ended.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Bytes from the client.
    pub(crate) sent: u64,
    /// Bytes to the client.
    pub(crate) received: u64,
    pub(crate) end: Result<(), Broken>,
}

/// Why a session did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client's connection failed: {0}")]
    Client(io::Error),
    #[error("the server's connection failed: {0}")]
    Server(io::Error),
    /// Another server may serve the client yet.
    #[error("the server closed the connection at once")]
    ClosedAtOnce,
    #[error("no byte in either direction for {} s", .0.as_secs_f32())]
    Idle(Duration),
    #[error("it is not plain Tentacle (--strict): {0}")]
    Foreign(#[from] Foreign),
}

/// Carries what each side sends to the other, until both have ended; each
/// direction ends by itself. `head` is what has come from the client already.
/// A side that cannot be read ends both, and so does silence of both for
/// `idle`; from one that cannot be written to, the other still gets the last
/// words. With `watch`, what passes is seen, and may end it.
///
/// Unless both have ended well, both see a reset: also where this is dropped
/// half-way. But a client whose server has closed before anything was said
/// sees nothing of it ([`Broken::ClosedAtOnce`]).
pub(crate) async fn carry(
    client: &mut Stream,
    head: Bytes,
    server: &mut Stream,
    idle: Duration,
    sums: &Sums,
    watch: Option<&Watch>,
) -> Carried {
    let mut session = Session {
        client,
        server,
        up: Direction::default(),
        down: Direction::default(),
        client_first: true,
        began: Instant::now(),
        failed: None,
        end: End::Broken,
        watch,
        sums,
    };
    let end = match session.begin(head) {
        Ok(()) => session.until_silent(idle).await,
        Err(foreign) => Err(foreign.into()),
    };
    session.end = match end {
        Ok(()) => End::Whole,
        Err(Broken::ClosedAtOnce) => End::NotBegun,
        Err(_) => End::Broken,
    };
    Carried { sent: session.up.written(), received: session.down.written(), end }
}

struct Session<'a> {
    client: &'a mut Stream,
    server: &'a mut Stream,
    /// From the client, and from the server.
    up: Direction,
    down: Direction,
    /// Whose turn it is to be looked at first: each could take all the time
    /// that a task has.
    client_first: bool,
    began: Instant,
    /// Why one direction has stopped, while the other goes on.
    failed: Option<Broken>,
    end: End,
    watch: Option<&'a Watch>,
    sums: &'a Sums,
}

/// What a session comes to, as far as is known.
#[derive(PartialEq, Eq)]
enum End {
    Broken,
    /// Both directions have ended well.
    Whole,
    /// It is begun once more with another server.
    NotBegun,
}

// === impl Session ===

impl Session<'_> {
    fn begin(&mut self, head: Bytes) -> Result<(), Foreign> {
        self.up.begin(head, Eye { from: Speaker::Client, watch: self.watch })
    }

    /// Carries until the end, or until nothing has moved for `idle`.
    async fn until_silent(&mut self, idle: Duration) -> Result<(), Broken> {
        // Looked at now and then: the path of bytes needs no clock for it.
        let step = idle / LOOKS;
        let mut look = pin!(sleep(step));
        let (mut before, mut quiet) = (self.moves(), 0);
        poll_fn(|context| {
            // First, as what has come while this process stood still has come
            // in time.
            if let Poll::Ready(end) = self.poll(context) {
                return Poll::Ready(end);
            }
            while look.as_mut().poll(context).is_ready() {
                let (now, moves) = (Instant::now(), self.moves());
                if moves != before {
                    (before, quiet) = (moves, 0);
                } else if now < look.deadline() + step {
                    quiet += 1;
                }
                // A look that comes late tells of this process alone.
                if quiet == LOOKS {
                    return Poll::Ready(Err(Broken::Idle(idle)));
                }
                look.as_mut().reset(now + step);
            }
            Poll::Pending
        })
        .await
    }

    /// Moves what there is; ready when the session has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let before = self.moves();
            self.client_first = !self.client_first;
            let turns = match self.client_first {
                true => [Speaker::Client, Speaker::Server],
                false => [Speaker::Server, Speaker::Client],
            };
            for from in turns {
                self.one(from, context)?;
            }
            if self.up.is_over() && self.down.is_over() {
                return Poll::Ready(self.failed.take().map_or(Ok(()), Err));
            }
            // One that is inspected may have waited for what the other said.
            if self.watch.is_none() || self.moves() == before {
                return Poll::Pending;
            }
        }
    }

    /// Moves what comes from this side.
    fn one(&mut self, speaker: Speaker, context: &mut Context<'_>) -> Result<(), Broken> {
        let (direction, other, from, to) = match speaker {
            Speaker::Client => (&mut self.up, &self.down, &mut *self.client, &mut *self.server),
            Speaker::Server => (&mut self.down, &self.up, &mut *self.server, &mut *self.client),
        };
        let eye = Eye { from: speaker, watch: self.watch };
        // The last one that is plain ends as the sockets are closed. And where
        // a reset follows, it must not come behind a good end.
        let closes = other.is_over() && matches!(to, Stream::Plain(_));
        let at_once = speaker == Speaker::Server
            && other.is_untouched()
            && direction.is_untouched()
            && self.began.elapsed() < AT_ONCE;
        let pass_end = self.failed.is_none() && !closes && !at_once;
        let moved = direction.poll(context, from, to, eye, pass_end);
        let closed = matches!(moved, Poll::Ready(Ok(()) | Err(Side::From(_))));
        if at_once && closed && direction.written() == 0 {
            return Err(Broken::ClosedAtOnce);
        }
        match moved {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Side::To(error))) => {
                direction.stop();
                let why = Broken::by(speaker.other(), error);
                self.failed.get_or_insert(why);
                Ok(())
            }
            Poll::Ready(Err(Side::From(error))) => {
                let why = Broken::by(speaker, error);
                Err(self.failed.take().unwrap_or(why))
            }
            Poll::Ready(Err(Side::Foreign(why))) => Err(why.into()),
        }
    }

    fn moves(&self) -> u64 {
        self.up.moves() + self.down.moves()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.end != End::NotBegun {
            self.sums.session(self.up.written(), self.down.written());
        }
        if self.end == End::Broken {
            // Who waits for the rest must not take this for its end.
            for side in [&*self.client, &*self.server] {
                side.reset_when_closed();
            }
        }
    }
}

// === impl Broken ===

impl Broken {
    fn by(side: Speaker, error: io::Error) -> Self {
        match side {
            Speaker::Client => Self::Client(error),
            Speaker::Server => Self::Server(error),
        }
    }
}

/// How soon a server closes that takes no sessions: what stands before it
/// accepts them all.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Looks at a session within its deadline.
const LOOKS: u32 = 8;
