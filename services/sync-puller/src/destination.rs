//! Where files go: into the incoming folder, or on to a central server.

mod central;
mod incoming;

use std::{io, sync::Arc};

use protocol::{ClientError, FileName, Verb, piece_size};
use security::CertificateCheck;
use sha2::{Digest as _, Sha256};

pub(crate) use self::{
    central::{Central, CentralSession, Offer},
    incoming::{Incoming, Intake, Stagers},
};

use crate::upstream::{Session, UpstreamError, hint};

/// Where files go, for all sources. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// Staged, then published by a rename.
    Folder(Arc<Incoming>),
    /// Sent on; the receipt stands for durable and for published.
    Server(Central),
}

impl Destination {
    /// Whether files can go there: one is written and removed, or the server
    /// is connected to.
    pub(crate) async fn probe(&self) -> Result<(), DestinationError> {
        match self {
            Self::Folder(incoming) => Ok(incoming.probe().await?),
            Self::Server(central) => {
                let _ = central.0.connect().await?.quit().await;
                Ok(())
            }
        }
    }

    /// Whether the certificates for it are in order; none without any.
    pub(crate) fn check(&self) -> Option<CertificateCheck> {
        match self {
            Self::Folder(_) => None,
            Self::Server(central) => central.0.check(),
        }
    }
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
