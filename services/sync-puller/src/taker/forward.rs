//! Taking files that are sent on to a central server.

use std::io::Write as _;

use protocol::{ClientError, FileName, Verb};
use sha2::{Digest as _, Sha256};
use tempfile::SpooledTempFile;

use super::{Held, TakeError, Taken, Taker, Unsettled};
use crate::destination::{CentralSession, DestinationError, Digest, Offer, digest_of, digest_of_body};

/// What became of a file on its way to a central server.
enum Forwarded {
    /// The server has it.
    Whole {
        bytes: u64,
        digest: Digest,
    },
    Not(Taken),
}

impl Taker {
    /// Sent on as it comes; the receipt of the server stands for safe.
    pub(super) async fn move_to_server(
        &mut self,
        name: &FileName,
        server: &mut CentralSession,
    ) -> Result<Taken, TakeError> {
        let (bytes, digest) = match self.forward(Verb::Mv, name, server).await? {
            Forwarded::Whole { bytes, digest } => (bytes, digest),
            Forwarded::Not(taken) => return Ok(taken),
        };
        let held = Held::Sent(server.doubts());
        self.unsettled = Some(Unsettled { name: name.clone(), bytes, digest, held });
        Ok(Taken::Yes)
    }

    /// As [`Taker::copy_to_folder`]. What was overwritten in between is held
    /// in a temporary file, because the source has it no more.
    pub(super) async fn copy_to_server(
        &mut self,
        name: &FileName,
        server: &mut CentralSession,
    ) -> Result<Taken, TakeError> {
        let copied = match self.forward(Verb::Recv, name, server).await? {
            Forwarded::Whole { digest, .. } => digest,
            Forwarded::Not(taken) => return Ok(taken),
        };
        let Some(bytes) = self.asked(Verb::Mv, name).await? else { return Ok(Taken::Refused) };
        self.session.accept(Verb::Mv, bytes).await?;
        let mut held = SpooledTempFile::new(self.block_size);
        let (mut hash, mut piece) = (Sha256::new(), self.buffer(bytes));
        while self.read_body(&mut piece).await? > 0 {
            hash.update(&piece);
            held.write_all(&piece).map_err(DestinationError::Disk)?;
            piece.clear();
        }
        let digest = Digest::from(hash.finalize());
        if copied != digest {
            server.deliver(name, bytes, &mut held).await?;
        }
        let held = Held::Sent(server.doubts());
        self.unsettled = Some(Unsettled { name: name.clone(), bytes, digest, held });
        Ok(Taken::Yes)
    }

    /// Asks for a file by `verb` and sends it on, under a name beside its own
    /// where that is taken by another content.
    async fn forward(
        &mut self,
        verb: Verb,
        name: &FileName,
        server: &mut CentralSession,
    ) -> Result<Forwarded, TakeError> {
        if !server.begin(name).await {
            return Ok(Forwarded::Not(Taken::Waits));
        }
        for number in 1.. {
            let target = CentralSession::numbered(name, number);
            let Some(bytes) = self.asked(verb, name).await? else { return Ok(REFUSED) };
            match server.offer(&target, bytes).await? {
                Offer::Wanted => {
                    let digest = self.send_on(verb, bytes, server).await?;
                    match (server.receipt().await?, verb) {
                        (true, _) => return Ok(Forwarded::Whole { bytes, digest }),
                        // Another question would tell the source that its file is safe.
                        (false, Verb::Mv) => return Err(TakeError::NameTaken),
                        (false, _) => {}
                    }
                }
                Offer::Refused(why) => {
                    tracing::warn!(%name, bytes, error = %DestinationError::from(ClientError::Refused(why)), "file not taken");
                    self.session.decline(verb).await?;
                    return Ok(Forwarded::Not(Taken::Unwanted));
                }
                Offer::NameTaken => self.session.decline(verb).await?,
            }
            // Perhaps our own, from before a crash: look before it is sent
            // once more.
            let Some(known) = digest_of(&mut self.session, name).await? else { return Ok(REFUSED) };
            if server.digest(&target).await? == Some(known) {
                let Some(bytes) = self.asked(verb, name).await? else { return Ok(REFUSED) };
                let digest = digest_of_body(&mut self.session, verb, bytes).await?;
                self.settle().await?;
                // Overwritten by another content since: that one is not safe.
                return if digest == known {
                    Ok(Forwarded::Whole { bytes, digest })
                } else {
                    Err(TakeError::Overwritten)
                };
            }
        }
        unreachable!("there is always another number")
    }

    /// Sends the body of `size` bytes that `verb` announced on to `server`,
    /// which waits for it.
    async fn send_on(
        &mut self,
        verb: Verb,
        size: u64,
        server: &mut CentralSession,
    ) -> Result<Digest, TakeError> {
        let sent = self.send_pieces(verb, size, server).await;
        if sent.is_err() {
            server.abandon();
        }
        sent
    }

    async fn send_pieces(
        &mut self,
        verb: Verb,
        size: u64,
        server: &mut CentralSession,
    ) -> Result<Digest, TakeError> {
        self.session.accept(verb, size).await?;
        let (mut hash, mut piece) = (Sha256::new(), self.buffer(size));
        while self.read_body(&mut piece).await? > 0 {
            hash.update(&piece);
            server.send(&piece).await?;
            piece.clear();
        }
        Ok(hash.finalize().into())
    }
}

const REFUSED: Forwarded = Forwarded::Not(Taken::Refused);
