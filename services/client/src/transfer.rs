//! The session: connects, says the password, sends or gets each file, leaves.

mod get;
mod send;

use std::{
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use opentelemetry::KeyValue;
use protocol::{
    Client, ClientError, ConnectionError, FileName, Form, NameError, NameRules, archive::ArchiveError,
};
use runtime::telemetry::journey::Passing;
use security::Connector;
use spool::{CommitError, EntryNameError};
use transport::{DialError, Dialer, Stream, TunnelError, tls::HandshakeError};

use self::{get::Wanted, send::Source};
use crate::options::Options;

/// What ends a run. Each names the file that it is about.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Not connected.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Not connected to or through the HTTP proxy.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// A file of a certificate cannot be used.
    #[error("{0}")]
    Certificates(String),
    /// No handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server did not take the password.
    #[error("password: {0}{hint}", hint = hint(.0).unwrap_or(" (is it the server's? a server without one takes none)"))]
    Password(ClientError),
    /// The path ends in no name.
    #[error("{}: it does not end in the name of a file", .0.display())]
    NoName(PathBuf),
    /// No server can have a file of this name.
    #[error("{}: {error}", .path.display())]
    Name {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with its last part.
        error: NameError,
    },
    /// No file is written under this name.
    #[error("{name}: the name {error}")]
    Reserved {
        /// The name.
        name: FileName,
        /// What is wrong with it.
        error: EntryNameError,
    },
    /// A local file cannot be read.
    #[error("{}: cannot be read: {error}", .path.display())]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// The system's.
        error: io::Error,
    },
    /// A local file is no file, or an empty one.
    #[error("{}: {why}", .path.display())]
    Unfit {
        /// As it was given.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// A local file cannot be packed, or is changed while it is.
    #[error("{}: {error}", .path.display())]
    Pack {
        /// As it was given.
        path: PathBuf,
        /// What went wrong.
        error: ArchiveError,
    },
    /// The server does not have the file that was being sent.
    #[error("{name}: not sent: {error}{}", hint(.error).unwrap_or_default())]
    NotSent {
        /// The name.
        name: FileName,
        /// The server's answer, or the lack of one.
        error: ClientError,
    },
    /// The file that was asked for did not come.
    #[error("{name}: not fetched: {error}{}", hint(.error).unwrap_or_default())]
    NotFetched {
        /// The name.
        name: FileName,
        /// The server's answer, or the lack of one.
        error: ClientError,
    },
    /// The archive that came is none, or is damaged.
    #[error("{name}: not fetched: {error}")]
    Unpack {
        /// The name.
        name: FileName,
        /// What is wrong with it.
        error: ArchiveError,
    },
    /// What came cannot be written.
    #[error("{name}: cannot be written into this folder: {error}")]
    NotWritten {
        /// The name.
        name: FileName,
        /// The system's.
        error: CommitError,
    },
}

/// What all files of a run share.
struct Session {
    client: Client<Stream>,
    form: Form,
    shows_progress: bool,
}

/// Connects, and says the password.
pub(crate) async fn enter(options: &Options) -> Result<Client<Stream>, TransferError> {
    greet(options, connect(options).await?).await
}

/// Sends all files in turn.
pub(crate) async fn send_all(options: &Options) -> Result<(), TransferError> {
    let sources = Source::all(&options.files, options.form);
    let (mut session, sources) = enter_with(options, sources).await?;
    for source in &sources {
        let sent = send::send(&mut session, source).await;
        if let Err(TransferError::NotSent { error: ClientError::Refused(_), .. }) = &sent {
            leave(session).await;
            return sent;
        }
        sent?;
    }
    leave(session).await;
    Ok(())
}

/// Fetches all files in turn. Whatever goes wrong, a refusal too, ends it without a `QUIT`, as with the
/// peers' client.
pub(crate) async fn get_all(options: &Options) -> Result<(), TransferError> {
    let wanted = options.files.iter().map(|path| Wanted::new(path)).collect();
    let (mut session, wanted) = enter_with::<Wanted>(options, wanted).await?;
    for wanted in &wanted {
        get::get(&mut session, wanted).await?;
    }
    leave(session).await;
    Ok(())
}

/// As [`enter`]. Nothing is said to the server where the files are not fit to be transferred: it sees a connection that comes and
/// goes, as from the peers' client.
async fn enter_with<F>(
    options: &Options,
    files: Result<Vec<F>, TransferError>,
) -> Result<(Session, Vec<F>), TransferError> {
    let connected = connect(options).await;
    // Whether or not the server is there, this is what the user must mend.
    let files = files?;
    let client = greet(options, connected?).await?;
    let shows_progress = !options.is_quiet() && io::stderr().is_terminal();
    Ok((Session { client, form: options.form, shows_progress }, files))
}

async fn greet(options: &Options, stream: Stream) -> Result<Client<Stream>, TransferError> {
    let mut client = Client::new(stream, options.deadline);
    if let Some(password) = &options.password {
        client.authenticate(password).await.map_err(TransferError::Password)?;
        tracing::debug!("the password was taken");
    }
    Ok(client)
}

async fn connect(options: &Options) -> Result<Stream, TransferError> {
    // Before the server waits: to open a key may take seconds.
    let connector = Connector::once(options.tls.clone()).map_err(TransferError::Certificates)?;
    let mut dialer = Dialer::new(options.deadline.as_duration());
    if let Some(local) = options.local {
        dialer = dialer.from_local(local);
    }
    let stream = match &options.proxy {
        Some(proxy) => proxy.connect(&options.server, &dialer).await?,
        None => dialer.dial(&options.server).await?,
    };
    let stream = connector.connect(stream, &options.server, options.deadline.as_duration()).await?;
    tracing::debug!(server = %options.server, proxy = options.proxy.is_some(), "connected");
    Ok(stream)
}

/// Each file has its receipt by now, so that a server that closes first takes
/// nothing away.
async fn leave(session: Session) {
    if let Err(error) = session.client.quit().await {
        tracing::debug!("the server did not wait for QUIT: {error}");
    }
}

/// A step of a file's journey, where something is traced.
fn record(step: &'static str, name: &FileName, passing: Passing) {
    if let Some((journey, began)) = passing.end(name.as_bytes()) {
        let attributes =
            [KeyValue::new("tentacle.outcome", "ok"), KeyValue::new("file.name", name.to_string())];
        journey.record(step, began, attributes);
    }
}

/// What the user can do about it.
fn hint(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Connection(ConnectionError::Tls) => {
            Some(" (speak TLS too: -c, or -e FILE with -k and -f)")
        }
        _ => None,
    }
}

/// The last part of a path, as far as any server can have it: what it refuses
/// on top is for it to say, as its `invalid_chars` are its own.
fn base_name(path: &Path) -> Result<FileName, TransferError> {
    let name = path.file_name().ok_or_else(|| TransferError::NoName(path.to_owned()))?;
    NameRules::from_invalid_chars(b"")
        .check(name.as_bytes())
        .map_err(|error| TransferError::Name { path: path.to_owned(), error })
}
