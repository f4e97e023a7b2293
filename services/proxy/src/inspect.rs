//! Following a session by what its two sides send, without a part in it and
//! without I/O.

use std::mem;

use bytes::Bytes;
use protocol::{Command, Connection, Refusal, Reply, Verb};
use tokio::net::TcpStream;

/// Follows one session. It is fed what either side sends, in whatever pieces,
/// before that is passed on, so that it sees what is asked before the answer.
///
/// A client may send ahead of the answers: what that is depends on them, so
/// it is kept until they come, within a bound, while it is passed on. What
/// cannot be read any more is foreign from there on.
pub(crate) struct Inspector {
    phase: Phase,
    client: Unjudged,
    server: Unjudged,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    Client,
    Server,
}

// === impl Speaker ===

impl Speaker {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The client asked for a transfer.
    Asked,
    /// A body went over whole; one of the client's was confirmed.
    Passed(Transfer),
    /// The server did not take or give it; without a reason where it closed
    /// instead of an answer.
    Refused(Transfer, Option<Refusal>),
    /// The session ended within a body, or before it was confirmed.
    CutShort(Transfer),
    /// Whether the password was right.
    Password(bool),
    /// The client said that it leaves.
    Quit,
    /// The session is not Tentacle, or not any more.
    Foreign(Foreign),
}

/// A file or a list that is to go over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) verb: Verb,
    /// As it came; the filter of `LS`.
    pub(crate) name: Bytes,
    /// Bytes of the body; 0 until they are known.
    pub(crate) size: u64,
}

/// Why a session cannot be read. It never tells what was sent, which may hold
/// a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    #[error("TLS, which only its two ends can read")]
    Tls,
    #[error("an unknown command")]
    Command,
    #[error("an unknown answer")]
    Answer,
    #[error("the server spoke unasked")]
    Unasked,
    #[error("a line of more than {MAX_LINE} bytes")]
    LongLine,
    #[error("one side is too far ahead of the other's answers")]
    TooFarAhead,
}

/// Whose turn it is, and for what.
enum Phase {
    /// The client's, for a command.
    Command,
    /// The server's, for the answer.
    Answer(Asked),
    /// The client's, for whether it wants what was announced.
    Announced(Transfer),
    /// The client's, for so many more bytes of a body.
    Up(Transfer, u64),
    /// The server's, for whether it has the body.
    Confirm(Transfer),
    /// The server's, for so many more bytes of a body.
    Down(Transfer, u64),
    /// Nobody's: the client has left.
    Over,
    Foreign,
}

/// What the server is to answer.
enum Asked {
    Password,
    Features,
    Transfer(Transfer),
}

/// What a side has sent that nobody can tell yet whether it is lines or a
/// body.
#[derive(Default)]
struct Unjudged {
    bytes: Vec<u8>,
    /// Bytes that were not kept, and how many of `bytes` are before them.
    gap: u64,
    before_gap: usize,
}

// === impl Inspector ===

impl Inspector {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Command, client: Unjudged::default(), server: Unjudged::default() }
    }

    /// How many of the next bytes from there need not be fed, as they are of a
    /// body; [`Inspector::moved`] is to count them. All of them once the
    /// session is foreign.
    pub(crate) fn ahead(&self, from: Speaker) -> u64 {
        match (&self.phase, from) {
            (Phase::Foreign, _) => u64::MAX,
            (Phase::Up(_, left), Speaker::Client) | (Phase::Down(_, left), Speaker::Server) => *left,
            _ => 0,
        }
    }

    /// Takes what one side sends.
    pub(crate) fn feed(&mut self, from: Speaker, bytes: &[u8]) -> Vec<Event> {
        let body = usize::try_from(self.ahead(from)).unwrap_or(usize::MAX).min(bytes.len());
        let mut events = self.moved(from, body as u64);
        if body < bytes.len() {
            self.unjudged(from).bytes.extend_from_slice(&bytes[body..]);
            self.judge(&mut events);
        }
        events
    }

    /// Counts bytes of a body, at most those that [`Inspector::ahead`] tells.
    pub(crate) fn moved(&mut self, from: Speaker, count: u64) -> Vec<Event> {
        let mut events = Vec::new();
        match (&mut self.phase, from) {
            (Phase::Up(_, left), Speaker::Client) | (Phase::Down(_, left), Speaker::Server) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.judge(&mut events);
                }
            }
            _ => {}
        }
        events
    }

    /// Nothing more comes from the server.
    pub(crate) fn finish(&mut self) -> Vec<Event> {
        let event = match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Answer(Asked::Password) => Event::Password(false),
            Phase::Answer(Asked::Transfer(transfer)) => Event::Refused(transfer, None),
            Phase::Up(transfer, _) | Phase::Confirm(transfer) | Phase::Down(transfer, _) => {
                Event::CutShort(transfer)
            }
            Phase::Foreign => {
                self.phase = Phase::Foreign;
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        vec![event]
    }

    fn unjudged(&mut self, from: Speaker) -> &mut Unjudged {
        match from {
            Speaker::Client => &mut self.client,
            Speaker::Server => &mut self.server,
        }
    }

    /// Goes on for as long as there is something for whose turn it is.
    fn judge(&mut self, events: &mut Vec<Event>) {
        let end = loop {
            match self.advance(events) {
                Ok(true) => {}
                Ok(false) => break self.bound(),
                Err(foreign) => break Err(foreign),
            }
        };
        if let Err(foreign) = end {
            *self = Self { phase: Phase::Foreign, ..Self::new() };
            events.push(Event::Foreign(foreign));
        }
    }

    /// Takes one step; whether there was something for it.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<bool, Foreign> {
        self.phase = match mem::replace(&mut self.phase, Phase::Foreign) {
            Phase::Command => {
                let Some(line) = self.client.line(may_become_command)? else {
                    self.phase = Phase::Command;
                    return Ok(false);
                };
                asked(&line, events)?
            }
            Phase::Answer(asked) => {
                let Some(line) = self.server.line(|_| Ok(()))? else {
                    self.phase = Phase::Answer(asked);
                    return Ok(false);
                };
                answered(asked, Reply::parse(&line).ok_or(Foreign::Answer)?, events)?
            }
            Phase::Announced(transfer) => {
                let Some(line) = self.client.line(|_| Ok(()))? else {
                    self.phase = Phase::Announced(transfer);
                    return Ok(false);
                };
                match Reply::parse(&line) {
                    Some(Reply::Ok(verb)) if verb == transfer.verb => {
                        let size = transfer.size;
                        Phase::Down(transfer, size)
                    }
                    // Anything else declines.
                    _ => Phase::Command,
                }
            }
            Phase::Up(transfer, left) => match left - self.client.take(left) {
                0 => Phase::Confirm(transfer),
                left => {
                    self.phase = Phase::Up(transfer, left);
                    return Ok(false);
                }
            },
            Phase::Confirm(transfer) => {
                let Some(line) = self.server.line(|_| Ok(()))? else {
                    self.phase = Phase::Confirm(transfer);
                    return Ok(false);
                };
                events.push(match Reply::parse(&line) {
                    Some(Reply::Ok(verb)) if verb == transfer.verb => Event::Passed(transfer),
                    Some(Reply::Refused(verb, why)) if verb == transfer.verb => {
                        Event::Refused(transfer, Some(why))
                    }
                    _ => return Err(Foreign::Answer),
                });
                Phase::Command
            }
            Phase::Down(transfer, left) => match left - self.server.take(left) {
                0 => {
                    events.push(Event::Passed(transfer));
                    Phase::Command
                }
                left => {
                    self.phase = Phase::Down(transfer, left);
                    return Ok(false);
                }
            },
            // A server reads no more of what a client sends behind `QUIT`.
            Phase::Over => {
                self.client = Unjudged::default();
                self.phase = Phase::Over;
                return Ok(false);
            }
            Phase::Foreign => return Ok(false),
        };
        Ok(true)
    }

    /// Looks at what is kept while somebody is waited for. What is not needed
    /// of a body that is ahead of its answer is forgotten; what is too much
    /// otherwise cannot be followed.
    fn bound(&mut self) -> Result<(), Foreign> {
        let clients_turn = matches!(self.phase, Phase::Command | Phase::Announced(_) | Phase::Over);
        if clients_turn && !self.server.is_empty() {
            return Err(Foreign::Unasked);
        }
        if let Phase::Answer(Asked::Transfer(Transfer { verb: Verb::Send | Verb::Zsend, size, .. })) =
            self.phase
        {
            self.client.skip(size);
        }
        match self.client.bytes.len().max(self.server.bytes.len()) > 2 * KEPT {
            true => Err(Foreign::TooFarAhead),
            false => Ok(()),
        }
    }
}

fn asked(line: &Bytes, events: &mut Vec<Event>) -> Result<Phase, Foreign> {
    let (verb, name, size) = match Command::parse(line).ok_or(Foreign::Command)? {
        Command::Pass(_) => return Ok(Phase::Answer(Asked::Password)),
        Command::Features => return Ok(Phase::Answer(Asked::Features)),
        Command::Quit => {
            events.push(Event::Quit);
            return Ok(Phase::Over);
        }
        Command::Send { name, size, form } => (Verb::send(form), name, size),
        Command::Receive { name, form } => (Verb::receive(form), name, 0),
        Command::List { filter } => (Verb::Ls, filter, 0),
        Command::Move { name } => (Verb::Mv, name, 0),
    };
    events.push(Event::Asked);
    Ok(Phase::Answer(Asked::Transfer(Transfer { verb, name, size })))
}

fn answered(asked: Asked, reply: Reply, events: &mut Vec<Event>) -> Result<Phase, Foreign> {
    match (asked, reply) {
        (Asked::Password, Reply::PassOk) => events.push(Event::Password(true)),
        (Asked::Features, Reply::Features(_)) => {}
        (Asked::Transfer(transfer), Reply::Ok(verb))
            if verb == transfer.verb && matches!(verb, Verb::Send | Verb::Zsend) =>
        {
            let size = transfer.size;
            return Ok(Phase::Up(transfer, size));
        }
        (Asked::Transfer(transfer), Reply::Size(verb, size))
            if verb == transfer.verb && !matches!(verb, Verb::Send | Verb::Zsend) =>
        {
            return Ok(Phase::Announced(Transfer { size, ..transfer }));
        }
        (Asked::Transfer(transfer), Reply::Refused(verb, why)) if verb == transfer.verb => {
            events.push(Event::Refused(transfer, Some(why)));
        }
        _ => return Err(Foreign::Answer),
    }
    Ok(Phase::Command)
}

/// Whether what came of a line may still become a command: what is none is
/// known by its first bytes, as other protocols have no newline to wait for.
fn may_become_command(start: &[u8]) -> Result<(), Foreign> {
    if start.first() == Some(&TLS_HANDSHAKE) {
        return Err(Foreign::Tls);
    }
    let begins = |word: &&[u8]| word.starts_with(start) || start.starts_with(word);
    WORDS.iter().any(begins).then_some(()).ok_or(Foreign::Command)
}

// === impl Unjudged ===

impl Unjudged {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.gap == 0
    }

    /// Bytes that can be looked at.
    fn run(&self) -> usize {
        if self.gap > 0 { self.before_gap } else { self.bytes.len() }
    }

    /// The next line without its newline, if it is there and its start passes.
    fn line(&mut self, start_passes: fn(&[u8]) -> Result<(), Foreign>) -> Result<Option<Bytes>, Foreign> {
        let run = &self.bytes[..self.run()];
        let newline = run.iter().take(MAX_LINE).position(|&byte| byte == b'\n');
        start_passes(&run[..newline.unwrap_or(run.len())])?;
        let Some(newline) = newline else {
            return match () {
                () if run.len() >= MAX_LINE => Err(Foreign::LongLine),
                () if self.gap > 0 => Err(Foreign::TooFarAhead),
                () => Ok(None),
            };
        };
        let line = Bytes::copy_from_slice(&run[..newline]);
        self.take(newline as u64 + 1);
        Ok(Some(line))
    }

    /// Takes at most `most` bytes of a body away; how many there were.
    fn take(&mut self, most: u64) -> u64 {
        let mut left = most;
        while left > 0 && !self.is_empty() {
            if self.gap > 0 && self.before_gap == 0 {
                let skipped = self.gap.min(left);
                self.gap -= skipped;
                left -= skipped;
            } else {
                let count = self.run().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.bytes.drain(..count);
                self.before_gap = self.before_gap.saturating_sub(count);
                left -= count as u64;
            }
        }
        if self.bytes.is_empty() {
            // A session that waits holds nothing.
            self.bytes = Vec::new();
        }
        most - left
    }

    /// Does not keep what is within the first `body` bytes, but for the very
    /// first.
    fn skip(&mut self, body: u64) {
        if self.gap == 0 {
            self.before_gap = KEPT;
        }
        // Another gap stands where an earlier body was refused.
        if self.before_gap != KEPT || self.bytes.len() <= KEPT {
            return;
        }
        let left = body.saturating_sub(KEPT as u64 + self.gap);
        let count = (self.bytes.len() - KEPT).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.drain(KEPT..KEPT + count);
        self.gap += count as u64;
    }
}

/// Bytes of a line, its newline included.
const MAX_LINE: usize = Connection::<TcpStream>::MAX_LINE;

/// Bytes kept of a body that may turn out to be none, and about as many of
/// what comes behind it.
const KEPT: usize = 16 * 1024;

/// The first byte of a record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What commands begin with.
const WORDS: &[&[u8]] =
    &[b"PASS ", b"SEND <", b"ZSEND <", b"RECV <", b"ZRECV <", b"LS <", b"MV <", b"FEATURES", b"QUIT"];

#[cfg(test)]
mod tests;
