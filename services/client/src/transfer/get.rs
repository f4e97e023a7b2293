//! Files that are fetched: written aside, and whole under their name.

use std::path::Path;

use protocol::{FileName, Form, Verb, archive::Unpacker, piece_size};
use runtime::telemetry::journey::Passing;
use spool::{Draft, EntryName, Folder};

use super::{Session, TransferError, base_name, record};
use crate::progress::Progress;

/// A file that can be asked for and written.
#[derive(Debug)]
pub(crate) struct Wanted {
    name: FileName,
    entry: EntryName,
}

impl Wanted {
    /// Checks the last part of a path.
    pub(crate) fn new(path: &Path) -> Result<Self, TransferError> {
        let name = base_name(path)?;
        match EntryName::new(name.as_bytes()) {
            Ok(entry) => Ok(Self { name, entry }),
            Err(error) => Err(TransferError::Reserved { name, error }),
        }
    }
}

/// Gets a file into the working folder, in place of one that is there.
pub(crate) async fn get(session: &mut Session, wanted: &Wanted) -> Result<(), TransferError> {
    let not_fetched = |error| TransferError::NotFetched { name: wanted.name.clone(), error };
    let verb = Verb::receive(session.form);
    let size = session.client.receive(&wanted.name, session.form).await.map_err(not_fetched)?;
    session.client.accept(verb, size).await.map_err(not_fetched)?;
    let mut arriving = Arriving {
        draft: Folder::shared(Path::new("."), "").draft(),
        progress: Progress::new(&wanted.name, size, session.shows_progress),
        wanted,
        left: size,
        passing: Passing::begin(),
    };
    let last = match session.form {
        Form::Plain => arriving.write(session).await?,
        Form::Zip => arriving.unpack(session).await?,
    };
    arriving.passing.update(&last);
    let committed = arriving.draft.commit(last, &wanted.entry, true).await;
    committed.map_err(|error| TransferError::NotWritten { name: wanted.name.clone(), error })?;
    record("file fetched", &wanted.name, arriving.passing);
    tracing::debug!(name = %wanted.name, bytes = size, "fetched");
    Ok(())
}

/// A body that is being written.
struct Arriving<'a> {
    wanted: &'a Wanted,
    /// Bytes that did not come yet.
    left: u64,
    draft: Draft,
    progress: Progress,
    passing: Passing,
}

impl Arriving<'_> {
    /// Writes the body but for its last piece, which it returns: a small file
    /// goes to the disk at one go.
    async fn write(&mut self, session: &mut Session) -> Result<Vec<u8>, TransferError> {
        let mut piece = Vec::with_capacity(piece_size(self.left));
        loop {
            while self.left > 0 && piece.len() < piece.capacity() {
                self.read(session, &mut piece).await?;
            }
            if self.left == 0 {
                return Ok(piece);
            }
            piece = self.store(piece).await?;
        }
    }

    /// As [`Arriving::write`], of what the body unpacks to.
    async fn unpack(&mut self, session: &mut Session) -> Result<Vec<u8>, TransferError> {
        let name = self.wanted.name.clone();
        let damaged = |error| TransferError::Unpack { name: name.clone(), error };
        let mut unpacker = Unpacker::new(MAX_UNPACKED);
        let mut packed = Vec::with_capacity(piece_size(self.left));
        let mut plain = Vec::new();
        while self.left > 0 {
            packed.clear();
            self.read(session, &mut packed).await?;
            for bite in packed.chunks(BITE) {
                unpacker.write(bite, &mut plain).map_err(damaged)?;
                if plain.len() >= piece_size(u64::MAX) {
                    plain = self.store(plain).await?;
                }
            }
        }
        unpacker.finish().map_err(damaged)?;
        Ok(plain)
    }

    async fn read(&mut self, session: &mut Session, piece: &mut Vec<u8>) -> Result<(), TransferError> {
        let read = session.client.read_body(piece).await;
        let count =
            read.map_err(|error| TransferError::NotFetched { name: self.wanted.name.clone(), error })?;
        self.left -= count as u64;
        self.progress.advance(count);
        Ok(())
    }

    /// Returns an empty buffer for the next piece.
    async fn store(&mut self, piece: Vec<u8>) -> Result<Vec<u8>, TransferError> {
        self.passing.update(&piece);
        let stored = self.draft.write(piece).await;
        stored.map_err(|error| TransferError::NotWritten {
            name: self.wanted.name.clone(),
            error: error.into(),
        })
    }
}

/// Bytes that an archive may unpack to: the bound of the format's plain
/// fields. A client has no `-m`.
const MAX_UNPACKED: u64 = u32::MAX as u64;

/// Bytes of an archive that are unpacked at once. Deflate expands at most 1032
/// times, so that a small bite bounds what is held.
const BITE: usize = 512;
