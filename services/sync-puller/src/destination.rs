//! Where files go: into an incoming folder, or on to central servers.

mod central;
mod doubts;
mod gate;
mod incoming;
mod servers;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::Context as _;
use protocol::{ClientError, FileName, Verb, piece_size};
use security::CertificateCheck;
use sha2::{Digest as _, Sha256};
use spool::blocking::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use self::gate::Gate;
pub(crate) use self::{
    central::{Central, CentralSession, Offer},
    doubts::Doubts,
    incoming::{Incoming, Intake, Stagers},
    servers::Servers,
};

use crate::{
    options,
    upstream::{Session, UpstreamError, hint},
};

/// The destinations that are in use: each is opened when the first source
/// needs it, and let go of with the last.
#[derive(Debug)]
pub(crate) struct Destinations {
    open: Mutex<Vec<(options::Destination, Weak<Open>)>>,
    /// One at a time: a folder is one process's, and one destination's.
    opening: tokio::sync::Mutex<()>,
    stagers: Stagers,
    /// Whether somebody asks how they stand while nothing fails.
    watched: bool,
}

/// Where files go, for some sources. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Destination(Arc<Open>);

#[derive(Debug)]
struct Open {
    kind: Arc<Kind>,
    gate: Arc<Gate>,
    /// Keeps the gate.
    _keeping: AbortOnDropHandle<()>,
}

/// Which kind of destination it is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Staged, then published by a rename.
    Folder(Arc<Incoming>),
    /// Sent on; the receipt stands for durable and for published.
    Servers(Arc<Servers>),
}

// === impl Destinations ===

impl Destinations {
    /// None is open. Those that will be are tried again and again if they are
    /// `watched`, else only while files fail.
    pub(crate) fn new(stagers: Stagers, watched: bool) -> Self {
        Self { open: Mutex::default(), opening: tokio::sync::Mutex::default(), stagers, watched }
    }

    /// The destination of these options, which all share that name the same.
    ///
    /// # Errors
    /// The folder's, and those of files that the options name.
    pub(crate) async fn open(&self, options: &options::Destination) -> anyhow::Result<Destination> {
        let _alone = self.opening.lock().await;
        for (other, destination) in self.all() {
            if other == *options {
                return Ok(destination);
            }
            if let (
                options::Destination::Folder { path, .. },
                options::Destination::Folder { path: taken, .. },
            ) = (options, &other)
                && path == taken
            {
                let path = path.display();
                anyhow::bail!(
                    "incoming folder {path}: one source overwrites there and another does not (give all that share a folder the same)"
                );
            }
        }
        let (wanted, stagers) = (options.clone(), self.stagers);
        let kind =
            spawn_blocking(move || Kind::open(&wanted, stagers)).await.context("cannot be opened")??;
        let destination = Destination::new(kind, Gate::new(name(options)), self.watched);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, destination)| destination.strong_count() > 0);
        open.push((options.clone(), Arc::downgrade(&destination.0)));
        Ok(destination)
    }

    /// Whether all of them take files, as far as is known; else why not.
    pub(crate) fn standing(&self) -> Result<(), String> {
        // Gone ones stay in the list until the next one is opened.
        if self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Err("not known yet".to_owned());
        }
        let all = self.all();
        all.iter().try_for_each(|(options, destination)| {
            destination.0.gate.standing().map_err(|why| match all.len() {
                1 => why,
                _ => format!("{}: {why}", name(options)),
            })
        })
    }

    /// Whether the certificates for them are in order: what is wrong with the
    /// first that is not.
    pub(crate) fn check_certificates(&self) -> Result<(), String> {
        self.all().iter().flat_map(|(_, destination)| destination.checks()).try_for_each(|check| check())
    }

    fn all(&self) -> Vec<(options::Destination, Destination)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all =
            open.iter().filter_map(|(options, open)| Some((options.clone(), Destination(open.upgrade()?))));
        all.collect()
    }
}

/// What log lines and figures call it.
fn name(options: &options::Destination) -> String {
    match options {
        options::Destination::Folder { path, .. } => path.display().to_string(),
        options::Destination::Servers { addresses, .. } => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
    }
}

// === impl Destination ===

impl Destination {
    fn new(kind: Kind, gate: Arc<Gate>, watched: bool) -> Self {
        let kind = Arc::new(kind);
        let weak = Arc::downgrade(&kind);
        let probe = move || {
            let kind = weak.upgrade();
            async move { Some(kind?.probe().await.map_err(|error| error.to_string())) }
        };
        let keeping = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&gate).keep(watched, probe)));
        Self(Arc::new(Open { kind, gate, _keeping: keeping }))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Waits while it takes no files.
    pub(crate) async fn takes_files(&self) {
        self.0.gate.passed().await;
    }

    /// Whether it takes none, as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.gate.is_closed()
    }

    /// A file could not go there: if no other could either, pulling into it
    /// pauses.
    pub(crate) async fn failed(&self, error: &DestinationError) {
        let none = match (self.kind(), error) {
            (Kind::Servers(servers), _) => servers.are_all_troubled(),
            (Kind::Folder(_), DestinationError::Disk(error)) if is_of_the_whole_disk(error) => true,
            // It may be one folder in it, or one name.
            (kind @ Kind::Folder(_), _) => kind.probe().await.is_err(),
        };
        if none {
            self.0.gate.close(error.to_string());
        }
    }

    fn checks(&self) -> Vec<CertificateCheck> {
        match self.kind() {
            Kind::Folder(_) => Vec::new(),
            Kind::Servers(servers) => servers.checks(),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Must be called within a tokio runtime; blocks.
    fn open(options: &options::Destination, stagers: Stagers) -> anyhow::Result<Self> {
        Ok(match options {
            options::Destination::Folder { path, overwrite } => {
                Self::Folder(Arc::new(Incoming::open(path, *overwrite, stagers)?))
            }
            options::Destination::Servers { addresses, password, tls } => {
                Self::Servers(Arc::new(Servers::start(addresses, password.as_ref(), tls.as_deref())?))
            }
        })
    }

    /// Whether files can go there: one is written and removed, or a server is
    /// connected to.
    async fn probe(&self) -> Result<(), DestinationError> {
        match self {
            Self::Folder(incoming) => Ok(incoming.probe().await?),
            Self::Servers(servers) => servers.probe().await,
        }
    }
}

fn is_of_the_whole_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// Why a file is not safe at its destination. It stays at its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DestinationError {
    #[error("the incoming folder: {0}")]
    Disk(#[from] io::Error),
    #[error("the central server: {0}")]
    Upstream(#[from] UpstreamError),
    #[error("the central server: {0}{hint}", hint = hint(.0))]
    Server(#[from] ClientError),
}

/// What tells one content from another.
pub(crate) type Digest = [u8; 32];

/// A name for a file whose own is taken by another content: `web.1.data`
/// becomes `web.1.2.data`, so that what matches the ending still does.
fn beside(name: &[u8], number: u32) -> Vec<u8> {
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0).unwrap_or(name.len());
    let (stem, ending) = name.split_at(dot);
    let number = format!(".{number}");
    let room = |ending: &[u8]| protocol::MAX_NAME.saturating_sub(number.len() + ending.len());
    match room(ending) {
        // An ending so long that it leaves no room is none.
        0 => [&name[..name.len().min(room(b""))], number.as_bytes()].concat(),
        room => [&stem[..stem.len().min(room)], number.as_bytes(), ending].concat(),
    }
}

/// Reads the body of `size` bytes that `verb` announced, and hashes it.
pub(crate) async fn digest_of_body(
    session: &mut Session,
    verb: Verb,
    size: u64,
) -> Result<Digest, ClientError> {
    session.accept(verb, size).await?;
    let mut hash = Sha256::new();
    let mut piece = Vec::with_capacity(piece_size(size));
    while session.read_body(&mut piece).await? > 0 {
        hash.update(&piece);
        piece.clear();
    }
    Ok(hash.finalize().into())
}

/// The digest of a file at the other side; `None` if there is none.
pub(crate) async fn digest_of(session: &mut Session, name: &FileName) -> Result<Option<Digest>, ClientError> {
    match session.receive(name, protocol::Form::Plain).await {
        Ok(size) => digest_of_body(session, Verb::Recv, size).await.map(Some),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_beside_another_keeps_its_ending_and_fits() {
        let named = |name: &str, number| String::from_utf8(beside(name.as_bytes(), number)).unwrap();
        assert_eq!(named("web.1.data", 2), "web.1.2.data");
        assert_eq!(named("noending", 3), "noending.3");
        assert_eq!(named(".hidden", 2), ".hidden.2");
        let long = "x".repeat(250) + ".data";
        assert_eq!(named(&long, 12).len(), 255);
        assert!(named(&long, 12).ends_with("x.12.data"));
        let ending = format!("a.{}", "x".repeat(253));
        assert_eq!(named(&ending, 2), format!("{}.2", &ending[..253]));
    }
}
