//! Following a session by what its two sides send, without a part in it and
//! without I/O.

use std::{mem, time::SystemTime};

use bytes::Bytes;
use protocol::{Command, Refusal, Reply, Verb};
use runtime::telemetry::journey::{Journey, Passing};

use self::unjudged::Unjudged;

/// Follows one session. It is fed what either side sends, in whatever pieces,
/// before that is passed on, so that it sees what is asked before the answer.
///
/// A client may send ahead of the answers: what that is depends on them, so
/// it is kept until they come; beyond a bound, no more is to be read from it.
/// What cannot be read any more is foreign from there on.
///
/// A strict one lets nothing of the client's pass before it is known to be
/// Tentacle.
pub(crate) struct Inspector {
    strict: bool,
    phase: Phase,
    client: Unjudged,
    server: Unjudged,
    /// The body that goes over.
    passing: Passing,
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
    /// Of a plain file that went over while something is traced, and when its body began. What is packed is not
    /// unpacked for it.
    pub(crate) journey: Option<(Journey, SystemTime)>,
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
    #[error("more behind QUIT")]
    BehindQuit,
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
    /// The server has.
    Ended,
    Foreign,
}

/// What the server is to answer.
enum Asked {
    Password,
    Features,
    Transfer(Transfer),
}

// === impl Inspector ===

impl Inspector {
    pub(crate) fn new(strict: bool) -> Self {
        Self {
            strict,
            phase: Phase::Command,
            client: Unjudged::default(),
            server: Unjudged::default(),
            passing: Passing::default(),
        }
    }

    /// Whether more may be read from there: not from who is too far ahead of
    /// the other side's answers.
    pub(crate) fn listens(&self, to: Speaker) -> bool {
        match to {
            Speaker::Client => self.is_clients_turn() || self.client.len() < MOST_AHEAD,
            Speaker::Server => !self.is_clients_turn() || self.server.len() < MOST_AHEAD,
        }
    }

    /// How many of the next bytes from there are of a body; all of them once
    /// the session is foreign.
    pub(crate) fn ahead(&self, from: Speaker) -> u64 {
        match (&self.phase, from) {
            (Phase::Foreign, _) => u64::MAX,
            (Phase::Up(_, left), Speaker::Client) | (Phase::Down(_, left), Speaker::Server) => *left,
            _ => 0,
        }
    }

    /// Takes what one side sends, and tells how much of it is to be passed on
    /// at once; [`Inspector::released`] gives the rest.
    pub(crate) fn feed(&mut self, from: Speaker, bytes: &[u8]) -> (usize, Vec<Event>) {
        let body = usize::try_from(self.ahead(from)).unwrap_or(usize::MAX).min(bytes.len());
        self.passing.update(&bytes[..body]);
        let mut events = self.moved(from, body as u64);
        if body < bytes.len() {
            self.unjudged(from).extend(&bytes[body..]);
            self.judge(&mut events);
        }
        (if self.holds(from) { body } else { bytes.len() }, events)
    }

    /// What was held until it was known to be of the session, and now is.
    pub(crate) fn released(&mut self, from: Speaker) -> Vec<u8> {
        if self.holds(from) { self.client.take_judged() } else { Vec::new() }
    }

    /// Whether something is held that may still be released, though nothing
    /// more comes from there.
    pub(crate) fn keeps(&self, from: Speaker) -> bool {
        self.holds(from) && self.client.len() > 0 && !self.is_clients_turn()
    }

    fn holds(&self, from: Speaker) -> bool {
        self.strict && from == Speaker::Client
    }

    /// Counts bytes of a body, at most those that [`Inspector::ahead`] tells.
    fn moved(&mut self, from: Speaker, count: u64) -> Vec<Event> {
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
        let ended = Self { phase: Phase::Ended, ..Self::new(self.strict) };
        let event = match mem::replace(self, ended).phase {
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

    fn is_clients_turn(&self) -> bool {
        matches!(self.phase, Phase::Command | Phase::Announced(_) | Phase::Up(..) | Phase::Over)
    }

    /// Goes on for as long as there is something for whose turn it is.
    fn judge(&mut self, events: &mut Vec<Event>) {
        let end = loop {
            match self.advance(events) {
                Ok(true) => {}
                Ok(false) => break self.stands(),
                Err(foreign) => break Err(foreign),
            }
        };
        if let Err(foreign) = end {
            *self = Self { phase: Phase::Foreign, ..Self::new(self.strict) };
            events.push(Event::Foreign(foreign));
        }
        // What was not held was passed on.
        for from in [Speaker::Client, Speaker::Server] {
            if !self.holds(from) {
                self.unjudged(from).take_judged();
            }
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
                self.passing = Passing::begin();
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
            Phase::Up(transfer, left) => {
                let came = self.client.take(left);
                self.passing.update(came);
                match left - came.len() as u64 {
                    0 => Phase::Confirm(self.whole(transfer)),
                    left => {
                        self.phase = Phase::Up(transfer, left);
                        return Ok(false);
                    }
                }
            }
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
            Phase::Down(transfer, left) => {
                let came = self.server.take(left);
                self.passing.update(came);
                match left - came.len() as u64 {
                    0 => {
                        events.push(Event::Passed(self.whole(transfer)));
                        Phase::Command
                    }
                    left => {
                        self.phase = Phase::Down(transfer, left);
                        return Ok(false);
                    }
                }
            }
            Phase::Over => {
                self.phase = Phase::Over;
                if self.strict && self.client.len() > 0 {
                    return Err(Foreign::BehindQuit);
                }
                // A server reads no more of what a client sends now.
                self.client.take(u64::MAX);
                return Ok(false);
            }
            Phase::Ended => {
                self.phase = Phase::Ended;
                (self.client, self.server) = (Unjudged::default(), Unjudged::default());
                return Ok(false);
            }
            Phase::Foreign => return Ok(false),
        };
        Ok(true)
    }

    /// A transfer whose body has gone over.
    fn whole(&mut self, transfer: Transfer) -> Transfer {
        let passing = mem::take(&mut self.passing);
        let journey = match transfer.verb {
            Verb::Send | Verb::Recv | Verb::Mv => passing.end(&transfer.name),
            Verb::Zsend | Verb::Zrecv | Verb::Ls => None,
        };
        Transfer { journey, ..transfer }
    }

    /// Whether a session may stand here until more comes.
    fn stands(&self) -> Result<(), Foreign> {
        // Within its body a client cannot be answered either, but for a
        // server that gives up.
        let unasked = self.is_clients_turn() && !matches!(self.phase, Phase::Up(..));
        if unasked && self.server.len() > 0 { Err(Foreign::Unasked) } else { Ok(()) }
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
    Ok(Phase::Answer(Asked::Transfer(Transfer { verb, name, size, journey: None })))
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

/// Bytes of a line, its newline included: more than any command needs. A
/// server whose `block_size` is large may take longer ones.
const MAX_LINE: usize = 64 * 1024;

/// Bytes that a side may be ahead of the other's answers.
const MOST_AHEAD: usize = 32 * 1024;

/// The first byte of a record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What commands begin with.
const WORDS: &[&[u8]] =
    &[b"PASS ", b"SEND <", b"ZSEND <", b"RECV <", b"ZRECV <", b"LS <", b"MV <", b"FEATURES", b"QUIT"];

mod unjudged;

#[cfg(test)]
mod tests;
