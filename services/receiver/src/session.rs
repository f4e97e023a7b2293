//! One connection: commands in turn, until `QUIT` or an end of another kind.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use opentelemetry::{Context, KeyValue};
use protocol::{Command, Connection, ConnectionError, PasswordDigest, Refusal, Reply, Verb};
use runtime::{
    drain::DrainWatch,
    logs::Escaped,
    telemetry::{
        SPANS,
        files::{Direction, FILES},
        journey::Passing,
    },
};
use security::{Permit, TooManyWait};
use spool::Lease;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
};
use transport::Stream;

use crate::{commands, site::Site};

/// A connection and what it needs.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection<Stream>,
    pub(crate) site: Arc<Site>,
    pub(crate) peer: SocketAddr,
    drain: DrainWatch,
    /// When the command that is served came.
    began: Instant,
    /// The file that the last command handed out by `MV`. The next command
    /// shows that the reader has it.
    pub(crate) handed_out: Option<Lease>,
}

/// How a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    /// By `QUIT`.
    #[error("quit")]
    Quit,
    /// The service ends.
    #[error("the service is ending")]
    Drained,
    /// A line that is no command, or none that is served here.
    #[error("{0}")]
    NotServed(&'static str),
    /// Not the one that is needed.
    #[error("a wrong password")]
    WrongPassword,
    /// Nor looked at.
    #[error(transparent)]
    TooManyWait(#[from] TooManyWait),
    /// The file that was handed out could not be removed: an answer would
    /// say that it was.
    #[error("a file that was fetched cannot be removed: {0}")]
    NotRemoved(std::io::Error),
    /// A file could not be read to the end that was announced.
    #[error("a file cannot be read to its end: {0}")]
    NotRead(std::io::Error),
    /// The connection's.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl Session {
    pub(crate) fn new(stream: Stream, peer: SocketAddr, site: Arc<Site>, drain: DrainWatch) -> Self {
        let connection = Connection::new(stream, site.deadline).with_max_line(site.max_line);
        Self { connection, site, peer, drain, began: Instant::now(), handed_out: None }
    }

    /// Serves commands until the session ends, and says how it did.
    /// Gives the permit back once it has.
    pub(crate) async fn run(mut self, _permit: Permit) {
        let end = match self.serve().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        let peer = self.peer;
        let is_well = matches!(end, SessionEnd::Quit | SessionEnd::Drained);
        Span::current()
            .record("tentacle.outcome", if is_well { "ok" } else { "broken" })
            .record("tentacle.reason", display(&end));
        match &end {
            SessionEnd::Quit | SessionEnd::Drained => tracing::info!(%peer, "connection closed: {end}"),
            // A client may leave without a word: many do.
            SessionEnd::Connection(ConnectionError::Closed) => {
                tracing::info!(%peer, "connection closed: {end}")
            }
            SessionEnd::NotRemoved(_) | SessionEnd::NotRead(_) => {
                tracing::error!(%peer, "connection closed: {end}")
            }
            SessionEnd::NotServed(_)
            | SessionEnd::WrongPassword
            | SessionEnd::TooManyWait(_)
            | SessionEnd::Connection(_) => {
                tracing::warn!(%peer, "connection closed: {end}")
            }
        }
        if let Some(lease) = &self.handed_out {
            let name = Escaped(lease.name().as_bytes());
            tracing::info!(%peer, %name, "file kept: its reader did not show that it has it");
        }
        let _ = self.connection.shutdown().await;
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, SessionEnd> {
        if let Some(password) = self.site.password.as_ref().map(|password| password.digest()) {
            self.authenticate(&password).await?;
        }
        loop {
            let Some(command) = self.next_command().await? else {
                return Err(SessionEnd::NotServed("an unknown command"));
            };
            self.began = Instant::now();
            let (span, verb) = (command_span(&command), file_verb(&command));
            let served = self.serve_one(command).instrument(span.clone()).await;
            if let Err(end) = &served {
                let outcome = if matches!(end, SessionEnd::NotServed(_)) { "refused" } else { "cut" };
                span.record("tentacle.outcome", outcome).record("tentacle.reason", display(end));
                if let Some(verb) = verb {
                    FILES.ended(verb.as_str(), outcome);
                }
            }
            served?;
        }
    }

    async fn serve_one(&mut self, command: Command) -> Result<(), SessionEnd> {
        // `MV` does so itself, beside its other work.
        if !matches!(command, Command::Move { .. }) {
            settle(self.handed_out.take()).await?;
        }
        match command {
            Command::Send { name, size, form } => commands::send::run(self, &name, size, form).await,
            Command::Receive { name, form } => commands::receive::run(self, &name, form).await,
            Command::List { filter } if self.site.insecure => commands::list::run(self, &filter).await,
            Command::Move { name } if self.site.insecure => commands::r#move::run(self, &name).await,
            Command::List { .. } | Command::Move { .. } => {
                Err(SessionEnd::NotServed("LS and MV are not served (-I allows them)"))
            }
            Command::Features => {
                let features = protocol::Features { two_phase_move: self.site.insecure };
                Ok(self.connection.write_reply(&Reply::Features(features)).await?)
            }
            Command::Pass(_) => Err(SessionEnd::NotServed("PASS, which is not asked for here")),
            Command::Quit => Err(SessionEnd::Quit),
        }
    }

    async fn authenticate(&mut self, password: &PasswordDigest) -> Result<(), SessionEnd> {
        let Some(Command::Pass(digest)) = self.next_command().await? else {
            return Err(SessionEnd::NotServed("no password, where one is needed"));
        };
        let (penalties, peer) = (&self.site.penalties, self.peer.ip());
        tokio::select! {
            waited = penalties.wait(peer) => waited?,
            () = self.drain.started() => return Err(SessionEnd::Drained),
        }
        match PasswordDigest::from_hex(&digest) {
            Some(digest) if digest.matches(password) => {
                penalties.right_password(peer);
                Ok(self.connection.write_reply(&Reply::PassOk).await?)
            }
            _ => {
                penalties.wrong_password(peer);
                Err(SessionEnd::WrongPassword)
            }
        }
    }

    /// The next command. A drain ends the wait for it, unless a reader has
    /// yet to show that it has its file.
    async fn next_command(&mut self) -> Result<Option<Command>, SessionEnd> {
        let patient = self.handed_out.is_some();
        tokio::select! {
            biased;
            command = self.connection.read_command() => Ok(command?),
            () = self.drain.started(), if !patient => Err(SessionEnd::Drained),
        }
    }

    /// Answers no, and says so.
    pub(crate) async fn refuse(
        &mut self,
        verb: Verb,
        name: &[u8],
        refusal: Refusal,
        why: &(dyn std::fmt::Display + Sync),
    ) -> Result<(), SessionEnd> {
        tracing::warn!(peer = %self.peer, verb = verb.as_str(), name = %Escaped(name), reason = %why, "refused");
        self.ended(verb, "refused", why);
        Ok(self.connection.write_reply(&Reply::Refused(verb, refusal)).await?)
    }

    /// Announces a body of `size` bytes; whether the client wants it.
    pub(crate) async fn announce(&mut self, verb: Verb, size: u64) -> Result<bool, SessionEnd> {
        self.connection.write_reply(&Reply::Size(verb, size)).await?;
        let answer = self.connection.read_reply_line().await?;
        let wanted = Reply::parse(&answer) == Some(Reply::Ok(verb));
        if wanted {
            self.connection.begin_writing(size);
        }
        Ok(wanted)
    }

    /// Says that a file went out or came in, and adds that to the file's journey.
    pub(crate) fn transferred(
        &self,
        verb: Verb,
        name: &[u8],
        bytes: u64,
        what: &'static str,
        passing: Passing,
    ) {
        FILES.whole(verb.as_str(), direction(verb), bytes, self.began);
        Span::current().record("tentacle.outcome", "ok");
        let recorded = passing.end(name).map(|(journey, began)| {
            let attributes = || {
                [
                    KeyValue::new("tentacle.command", verb.as_str()),
                    KeyValue::new("tentacle.outcome", "ok"),
                    KeyValue::new("file.name", String::from_utf8_lossy(name).into_owned()),
                    KeyValue::new("file.size", bytes.cast_signed()),
                    KeyValue::new("network.peer.address", self.peer.ip().to_string()),
                ]
            };
            journey.record(what, began, attributes)
        });
        let _within = recorded.map(Context::attach);
        tracing::info!(peer = %self.peer, verb = verb.as_str(), name = %Escaped(name), bytes, "{what}");
    }

    /// Counts a command for a file that came to another end than its transfer.
    pub(crate) fn ended(&self, verb: Verb, outcome: &'static str, why: &(dyn std::fmt::Display + Sync)) {
        if verb != Verb::Ls {
            FILES.ended(verb.as_str(), outcome);
        }
        Span::current().record("tentacle.outcome", outcome).record("tentacle.reason", display(why));
    }
}

/// The span of one command.
fn command_span(command: &Command) -> Span {
    let (verb, name, size) = match command {
        Command::Send { name, size, form } => (Verb::send(*form).as_str(), &name[..], Some(*size)),
        Command::Receive { name, form } => (Verb::receive(*form).as_str(), &name[..], None),
        Command::List { filter } => (Verb::Ls.as_str(), &filter[..], None),
        Command::Move { name } => (Verb::Mv.as_str(), &name[..], None),
        // Nothing that lasts, and a digest that is nobody's business.
        Command::Features | Command::Pass(_) | Command::Quit => return Span::none(),
    };
    tracing::info_span!(
        target: SPANS,
        "command",
        otel.name = verb,
        tentacle.command = verb,
        file.name = %Escaped(name),
        file.size = size,
        tentacle.outcome = Empty,
        tentacle.reason = Empty,
    )
}

fn direction(verb: Verb) -> Direction {
    match verb {
        Verb::Send | Verb::Zsend => Direction::In,
        Verb::Recv | Verb::Zrecv | Verb::Ls | Verb::Mv => Direction::Out,
    }
}

/// What counts as a command for a file.
fn file_verb(command: &Command) -> Option<Verb> {
    match command {
        Command::Send { form, .. } => Some(Verb::send(*form)),
        Command::Receive { form, .. } => Some(Verb::receive(*form)),
        Command::Move { .. } => Some(Verb::Mv),
        Command::List { .. } | Command::Features | Command::Pass(_) | Command::Quit => None,
    }
}

/// Removes a file that its reader has shown to have.
pub(crate) async fn settle(handed_out: Option<Lease>) -> Result<(), SessionEnd> {
    match handed_out {
        Some(lease) => lease.remove().await.map(drop).map_err(SessionEnd::NotRemoved),
        None => Ok(()),
    }
}
