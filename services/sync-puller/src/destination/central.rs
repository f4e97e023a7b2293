//! One connection's way to central servers.

use std::{
    io::{Read, Seek},
    sync::Arc,
    time::Duration,
};

use protocol::{ClientError, FileName, Form, NameRules, Refusal, piece_size};

use super::{DestinationError, Digest, Doubts, beside, digest_of, servers::Servers};
use crate::upstream::Session;

/// The servers, for the files of one source.
#[derive(Clone, Debug)]
pub(crate) struct Central {
    servers: Arc<Servers>,
    pub(crate) doubts: Doubts,
}

/// A connection to one of them, made when the first file comes, and anew when
/// it was lost.
#[derive(Debug)]
pub(crate) struct CentralSession {
    servers: Arc<Servers>,
    doubts: Doubts,
    /// And the server's number.
    session: Option<(usize, Session)>,
    /// The file that is under way, by its name at the source.
    file: Option<FileName>,
    /// The server that it must go to.
    bound: Option<usize>,
}

/// What became of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The body is awaited.
    Wanted,
    /// The server has a file of this name.
    NameTaken,
    /// The server does not take this file; it may take another.
    Refused(Refusal),
}

impl Central {
    pub(crate) fn new(servers: Arc<Servers>) -> Self {
        Self { servers, doubts: Doubts::default() }
    }

    pub(crate) fn session(&self) -> CentralSession {
        let (servers, doubts) = (Arc::clone(&self.servers), self.doubts.clone());
        CentralSession { servers, doubts, session: None, file: None, bound: None }
    }
}

impl CentralSession {
    /// The file of this name at the source comes next; whether it may. One
    /// that another server may have waits for that server, for a while.
    pub(crate) async fn begin(&mut self, name: &FileName) -> bool {
        (self.file, self.bound) = (Some(name.clone()), None);
        let Some(doubt) = self.doubts.of(name) else { return true };
        let index = doubt.server;
        if self.session.as_ref().is_none_or(|(number, _)| *number != index) {
            let session = match self.servers.is_left_alone(index) {
                true => None,
                false => self.servers.connect_to(index).await.ok(),
            };
            let Some(session) = session else {
                let server = self.servers.address(index);
                if doubt.since.elapsed() < COMES_BACK_WITHIN {
                    tracing::debug!(%name, %server, "waits for the server that it was offered to");
                    return false;
                }
                tracing::warn!(%name, %server, "goes to another server: the one that it was offered to is gone, and may have it");
                self.doubts.settled(name);
                return true;
            };
            if let Some((_, other)) = self.session.replace((index, session)) {
                let _ = other.quit().await;
            }
        }
        self.bound = Some(index);
        true
    }

    /// Offers a file. A connection that the server has closed in the meantime
    /// is made anew, once; a server without room is passed over.
    pub(crate) async fn offer(&mut self, name: &FileName, size: u64) -> Result<Offer, DestinationError> {
        loop {
            let fresh = self.session.is_none();
            let (index, session) = self.connected().await?;
            match session.offer(name, size, Form::Plain).await {
                Ok(()) => {
                    if let Some(file) = self.file.as_ref().filter(|_| !self.servers.is_one()) {
                        self.doubts.offered(file, index);
                    }
                    return Ok(Offer::Wanted);
                }
                Err(ClientError::Refused(Refusal::Exists)) => return Ok(Offer::NameTaken),
                Err(ClientError::Refused(why)) if is_full(&why) && self.bound.is_none() => {
                    self.servers.is_full(index, &why);
                    if self.servers.are_all_troubled() {
                        return Err(ClientError::Refused(why).into());
                    }
                    if let Some((_, full)) = self.session.take() {
                        let _ = full.quit().await;
                    }
                }
                Err(ClientError::Refused(why)) => return Ok(Offer::Refused(why)),
                Err(error) => {
                    self.session = None;
                    if fresh {
                        self.servers.broke(index, &error);
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// What has to be told that the source has forgotten a file.
    pub(crate) fn doubts(&self) -> Doubts {
        self.doubts.clone()
    }

    /// A piece of the body that was offered.
    pub(crate) async fn send(&mut self, piece: &[u8]) -> Result<(), DestinationError> {
        let (index, session) = self.connected().await?;
        let sent = session.send_piece(piece).await;
        sent.map_err(|error| self.broken(index, error))
    }

    /// Waits for the receipt. `false`: the name was taken while the body came.
    pub(crate) async fn receipt(&mut self) -> Result<bool, DestinationError> {
        let (index, session) = self.connected().await?;
        match session.sent(Form::Plain).await {
            Ok(()) => {
                self.servers.took(index);
                Ok(true)
            }
            Err(ClientError::Refused(why)) => {
                self.is_not_there();
                if why == Refusal::Exists {
                    return Ok(false);
                }
                if is_full(&why) {
                    self.servers.is_full(index, &why);
                }
                self.session = None;
                Err(ClientError::Refused(why).into())
            }
            Err(error) => Err(self.broken(index, error)),
        }
    }

    /// Forgets the connection: a body that was offered will not come.
    pub(crate) fn abandon(&mut self) {
        // Where the server has broken it, its end may have come nevertheless.
        if self.session.take().is_some() {
            self.is_not_there();
        }
    }

    /// What the server has under this name.
    pub(crate) async fn digest(&mut self, name: &FileName) -> Result<Option<Digest>, DestinationError> {
        let (index, session) = self.connected().await?;
        let found = digest_of(session, name).await;
        found.map_err(|error| self.broken(index, error))
    }

    /// Says good-bye.
    pub(crate) async fn quit(self) {
        if let Some((_, session)) = self.session {
            let _ = session.quit().await;
        }
    }

    /// Offers and sends what is held, under a name beside its own where that
    /// is taken.
    pub(crate) async fn deliver(
        &mut self,
        name: &FileName,
        size: u64,
        held: &mut (impl Read + Seek),
    ) -> Result<(), DestinationError> {
        let mut piece = vec![0; piece_size(size)];
        for number in 1.. {
            match self.offer(&Self::numbered(name, number), size).await? {
                Offer::Wanted => {}
                Offer::NameTaken => continue,
                Offer::Refused(why) => return Err(ClientError::Refused(why).into()),
            }
            held.rewind()?;
            loop {
                let count = held.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                self.send(&piece[..count]).await?;
            }
            if self.receipt().await? {
                break;
            }
        }
        Ok(())
    }

    /// The name, or from 2 on one beside it, for another content.
    pub(crate) fn numbered(name: &FileName, number: u32) -> FileName {
        if number < 2 {
            return name.clone();
        }
        let name = beside(name.as_bytes(), number);
        NameRules::from_invalid_chars(b"").check(&name).expect("a name with a number in it is a name")
    }

    /// The server of the session does not have the file.
    fn is_not_there(&self) {
        if let Some(file) = &self.file {
            self.doubts.settled(file);
        }
    }

    fn broken(&mut self, index: usize, error: ClientError) -> DestinationError {
        self.session = None;
        self.servers.broke(index, &error);
        error.into()
    }

    async fn connected(&mut self) -> Result<(usize, &mut Session), DestinationError> {
        if self.session.is_none() {
            self.session = Some(match self.bound {
                Some(index) => (index, self.servers.connect_to(index).await?),
                None => self.servers.connect().await?,
            });
        }
        let (index, session) = self.session.as_mut().expect("it was just made");
        Ok((*index, session))
    }
}

/// In the words of this project's receiver, and of a kernel (`ENOSPC`).
fn is_full(why: &Refusal) -> bool {
    matches!(why, Refusal::Other(why) if why.to_lowercase().contains("no space left"))
}

/// How long a file waits for a server that may have it: as long as a staged
/// one waits for a buffer that is gone.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(600);
