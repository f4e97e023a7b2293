//! `--check`: a file goes the whole way through a receiver, and nothing of it
//! stays.
//!
//! Everything happens on one connection: a proxy may lead the next one to
//! another receiver.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use protocol::{Client, ClientError, ConnectionError, FileName, Form, NameRules, Refusal, Verb};
use transport::{Address, Stream};

use crate::{
    options::Options,
    transfer::{self, TransferError},
};

/// A receiver that works; shown, it is one line.
#[derive(Debug)]
pub struct Checked {
    server: Address,
    name: FileName,
    took: Duration,
}

/// Which step failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no session to check with.
    #[error("check: {0}")]
    Enter(#[from] TransferError),
    /// A step was not answered as it has to be.
    #[error("check: {step}: {error}{}", step.hint(.error))]
    Step {
        /// What was asked for.
        step: Step,
        /// The server's answer, or the lack of one.
        error: ClientError,
    },
    /// Other bytes came back than were sent.
    #[error(
        "check: {step}: {name} has other bytes than were sent (the receiver's disk, or a proxy on the way)"
    )]
    Altered {
        /// By which it came.
        step: Step,
        /// The file, which stays where it is.
        name: FileName,
    },
    /// A file that was never sent is there, or one that was taken still is.
    #[error("check: {step}: {name} is there, where it must not be (look at the receiver's log and its disk)")]
    There {
        /// Which shows it.
        step: Step,
        /// The file.
        name: FileName,
    },
    /// Each time somebody else was faster.
    #[error(
        "check: {TRIES} files were stored, and gone before they could be taken (another program empties this spool: stop it, and check again)"
    )]
    Taken,
}

/// A step of the check, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `RECV` of a file that is not there: whether commands are answered.
    Ask,
    /// `MV` of a file that is not there: whether files may be taken at all,
    /// asked before one lies in the spool.
    AskToTake,
    /// `SEND`, up to the receipt.
    Send,
    /// `RECV` of what was sent.
    Fetch,
    /// `MV` of it.
    Take,
    /// `RECV` once more: whose answer shows that it is gone.
    AskAgain,
}

/// Goes through all steps.
pub(crate) async fn run(options: &Options) -> Result<Checked, CheckError> {
    let started = Instant::now();
    let mut client = transfer::enter(options).await?;
    for _ in 0..TRIES {
        let name = unique_name();
        if through(&mut client, &name).await? {
            let _ = client.quit().await;
            return Ok(Checked { server: options.server.clone(), name, took: started.elapsed() });
        }
        tracing::debug!(%name, "another reader took the file; trying again with another one");
    }
    Err(CheckError::Taken)
}

/// The way of one file; `false`: somebody else took it, as a puller at work
/// may.
async fn through(client: &mut Client<Stream>, name: &FileName) -> Result<bool, CheckError> {
    let content = content(name);
    for step in [Step::Ask, Step::AskToTake] {
        if step.announced(client, name).await?.is_some() {
            return Err(CheckError::There { step, name: name.clone() });
        }
    }
    let sent = client.send(name, content.len() as u64, Form::Plain, &mut &content[..]).await;
    sent.map_err(|error| Step::Send.failed(error))?;
    for step in [Step::Fetch, Step::Take] {
        let Some(size) = step.announced(client, name).await? else { return Ok(false) };
        if size != content.len() as u64 || step.body(client, size).await? != content {
            return Err(CheckError::Altered { step, name: name.clone() });
        }
    }
    match Step::AskAgain.announced(client, name).await? {
        None => Ok(true),
        Some(_) => Err(CheckError::There { step: Step::AskAgain, name: name.clone() }),
    }
}

// === impl Step ===

impl Step {
    fn verb(self) -> Verb {
        match self {
            Self::Send => Verb::Send,
            Self::Ask | Self::Fetch | Self::AskAgain => Verb::Recv,
            Self::AskToTake | Self::Take => Verb::Mv,
        }
    }

    /// The size of the file, or `None` if there is none for this reader.
    async fn announced(
        self,
        client: &mut Client<Stream>,
        name: &FileName,
    ) -> Result<Option<u64>, CheckError> {
        let size = match self.verb() {
            Verb::Mv => client.take(name).await,
            _ => client.receive(name, Form::Plain).await,
        };
        match size {
            Ok(size) => Ok(Some(size)),
            Err(ClientError::Refused(Refusal::Missing)) => Ok(None),
            // It gives no reason.
            Err(ClientError::Refused(Refusal::Unsaid)) if self.verb() == Verb::Mv => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn body(self, client: &mut Client<Stream>, size: u64) -> Result<Vec<u8>, CheckError> {
        client.accept(self.verb(), size).await.map_err(|error| self.failed(error))?;
        // Its own size, which is known to be a small one.
        let mut body = Vec::with_capacity(SIZE + 1);
        while client.read_body(&mut body).await.map_err(|error| self.failed(error))? > 0 {}
        Ok(body)
    }

    fn failed(self, error: ClientError) -> CheckError {
        CheckError::Step { step: self, error }
    }

    /// What the user can do about it.
    fn hint(self, error: &ClientError) -> &'static str {
        let is_closed = match error {
            ClientError::Connection(ConnectionError::Closed) => true,
            // It closed before it had read the command.
            ClientError::Connection(ConnectionError::Io(error)) => {
                matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
            }
            _ => false,
        };
        match (self, error) {
            (_, ClientError::Connection(ConnectionError::Tls)) => {
                " (speak TLS too: -c, or -e FILE with -k and -f)"
            }
            (Self::Ask, _) if is_closed => {
                " (does it want a password, -x, or a certificate? its log says what it refused)"
            }
            (Self::Ask, ClientError::Refused(Refusal::InvalidRequest)) => {
                " (invalid_chars on the receiver must let letters, digits, dots and dashes pass)"
            }
            (Self::AskToTake, _) if is_closed => {
                " (a receiver gives files to a puller with -I alone: start it with -I)"
            }
            (Self::Send, ClientError::Refused(Refusal::Other(_))) => {
                " (look at the receiver's log, and at its disk)"
            }
            (Self::Send, ClientError::Refused(Refusal::TooBig)) => " (raise -m on the receiver)",
            (Self::Fetch | Self::Take | Self::AskAgain, _) => " (look at the receiver's log)",
            _ => "",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask => "RECV, the first command",
            Self::AskToTake => "MV",
            Self::Send => "SEND",
            Self::Fetch => "RECV of the file that was sent",
            Self::Take => "MV of the file that was sent",
            Self::AskAgain => "RECV of the file that was taken",
        })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, name, took } = self;
        let took = took.as_secs_f64() * 1000.0;
        write!(f, "{server} works: {name} was sent, fetched, taken, and is gone, in {took:.0} ms")
    }
}

/// A name that nobody has. The documented filters lead it to the spool's root,
/// and no consumer looks for its ending.
fn unique_name() -> FileName {
    // Keyed by the system's own randomness, anew for each process and call.
    let chance = RandomState::new().hash_one(std::process::id());
    let name = format!("tentacle-check-{chance:016x}.check");
    NameRules::from_invalid_chars(b"").check(name.as_bytes()).expect("letters, digits, dashes and a dot")
}

/// Every byte there is, so that whatever changes one on the way is seen; and
/// the name, so that one file is not another.
fn content(name: &FileName) -> Vec<u8> {
    let mut content = [name.as_bytes(), b"\n"].concat();
    content.extend((0..SIZE - content.len()).map(|number| number.to_le_bytes()[0]));
    content
}

/// Bytes of the file: more than a line, less than any bound that is in use.
const SIZE: usize = 1024;

/// Files that are sent before another reader is believed to take them all.
const TRIES: u32 = 3;
