//! A central Tentacle server, to which files are sent on.

use std::io::{Read, Seek};

use protocol::{ClientError, FileName, Form, NameRules, Refusal, piece_size};

use super::{DestinationError, Digest, beside, digest_of};
use crate::upstream::{Session, Upstream};

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct Central(pub(crate) Upstream);

/// One connection to it, made when the first file comes, and anew when it was
/// lost.
#[derive(Debug)]
pub(crate) struct CentralSession {
    central: Central,
    session: Option<Session>,
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
    pub(crate) fn session(&self) -> CentralSession {
        CentralSession { central: self.clone(), session: None }
    }
}

impl CentralSession {
    /// Offers a file. A connection that the server has closed in the meantime
    /// is made anew, once.
    pub(crate) async fn offer(&mut self, name: &FileName, size: u64) -> Result<Offer, DestinationError> {
        let fresh = self.session.is_none();
        match self.connected().await?.offer(name, size, Form::Plain).await {
            Ok(()) => Ok(Offer::Wanted),
            Err(ClientError::Refused(Refusal::Exists)) => Ok(Offer::NameTaken),
            Err(ClientError::Refused(why)) => Ok(Offer::Refused(why)),
            Err(error) => {
                self.session = None;
                match fresh {
                    true => Err(error.into()),
                    false => Box::pin(self.offer(name, size)).await,
                }
            }
        }
    }

    /// A piece of the body that was offered.
    pub(crate) async fn send(&mut self, piece: &[u8]) -> Result<(), DestinationError> {
        let sent = self.connected().await?.send_piece(piece).await;
        sent.inspect_err(|_| self.session = None).map_err(Into::into)
    }

    /// Waits for the receipt. `false`: the name was taken while the body came.
    pub(crate) async fn receipt(&mut self) -> Result<bool, DestinationError> {
        match self.connected().await?.sent(Form::Plain).await {
            Ok(()) => Ok(true),
            Err(ClientError::Refused(Refusal::Exists)) => Ok(false),
            Err(error) => {
                self.session = None;
                Err(error.into())
            }
        }
    }

    /// Forgets the connection: a body that was offered will not come.
    pub(crate) fn abandon(&mut self) {
        self.session = None;
    }

    /// What the server has under this name.
    pub(crate) async fn digest(&mut self, name: &FileName) -> Result<Option<Digest>, DestinationError> {
        let found = digest_of(self.connected().await?, name).await;
        found.inspect_err(|_| self.session = None).map_err(Into::into)
    }

    /// Says good-bye.
    pub(crate) async fn quit(self) {
        if let Some(session) = self.session {
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

    async fn connected(&mut self) -> Result<&mut Session, DestinationError> {
        if self.session.is_none() {
            self.session = Some(self.central.0.connect().await?);
        }
        Ok(self.session.as_mut().expect("it was just made"))
    }
}
