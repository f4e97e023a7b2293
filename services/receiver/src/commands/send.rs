//! `SEND` and `ZSEND`: a file is stored.

use std::io;

use protocol::{
    ConnectionError, Form, Refusal, Reply, Verb,
    archive::{ArchiveError, Unpacker},
    piece_size,
};
use runtime::telemetry::journey::Passing;
use spool::CommitError;

use crate::{
    quota::NotAdmitted,
    session::{Session, SessionEnd},
    site::{Place, Room, said_to_peer},
};

/// Answers the offer, takes the body, and confirms when the file is on the
/// disk.
pub(crate) async fn run(session: &mut Session, name: &[u8], size: u64, form: Form) -> Result<(), SessionEnd> {
    let verb = Verb::send(form);
    let place = match session.site.place(name) {
        Ok(place) => place,
        Err(why) => return session.refuse(verb, name, Refusal::InvalidName, &why).await,
    };
    if size == 0 || size > session.site.max_size {
        let why = format!("{size} bytes, where 1 to {} are taken", session.site.max_size);
        return session.refuse(verb, name, Refusal::TooBig, &why).await;
    }
    if !session.site.overwrite {
        match place.folder.contains(&place.entry).await {
            Ok(false) => {}
            Ok(true) => return session.refuse(verb, name, Refusal::Exists, &Refusal::Exists).await,
            Err(error) => {
                return session.refuse(verb, name, Refusal::Other(said_to_peer(&error).into()), &error).await;
            }
        }
    }
    let room = match session.site.admit(&place, size).await {
        Ok(room) => room,
        Err(why) => {
            return session.refuse(verb, name, Refusal::Other(why.said_to_peer().into()), &why).await;
        }
    };
    session.connection.write_reply(&Reply::Ok(verb)).await?;
    session.connection.begin_body(size);
    let stored = match form {
        Form::Plain => store(session, &place, size, room).await,
        Form::Zip => store_unpacked(session, &place, size, room).await,
    };
    match stored {
        Ok((bytes, passing)) => {
            session.connection.write_reply(&Reply::Ok(verb)).await?;
            session.transferred(verb, name, bytes, "file stored", passing);
            Ok(())
        }
        Err(NotStored::Connection(error)) => Err(cut(session, verb, &place, &error.to_string(), error)),
        Err(why) => {
            // The body has been announced: it comes, whatever is answered.
            match session.connection.discard_body().await {
                Ok(()) => session.refuse(verb, name, why.said_to_peer(), &why).await,
                Err(error) => Err(cut(session, verb, &place, &why.to_string(), error)),
            }
        }
    }
}

/// Says that a body did not come to its end.
fn cut(session: &Session, verb: Verb, place: &Place, why: &str, error: ConnectionError) -> SessionEnd {
    tracing::warn!(peer = %session.peer, verb = verb.as_str(), name = %place.name, reason = why, "nothing stored");
    error.into()
}

/// Why there is no file after a body.
#[derive(Debug, thiserror::Error)]
enum NotStored {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("the archive is refused: {0}")]
    Archive(#[from] ArchiveError),
    #[error("the archive unpacks to no byte at all")]
    Empty,
    #[error("the name was taken while the body came")]
    Exists,
    #[error(transparent)]
    Over(NotAdmitted),
    #[error("the disk: {0}")]
    Disk(io::Error),
}

impl NotStored {
    fn said_to_peer(&self) -> Refusal {
        match self {
            Self::Archive(_) | Self::Empty | Self::Connection(_) => Refusal::Unsaid,
            Self::Exists => Refusal::Exists,
            Self::Over(_) => Refusal::Other(said_to_peer(&io::ErrorKind::QuotaExceeded.into()).into()),
            Self::Disk(error) => Refusal::Other(said_to_peer(error).into()),
        }
    }
}

impl From<CommitError> for NotStored {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Exists => Self::Exists,
            CommitError::Io(error) => error.into(),
        }
    }
}

impl From<io::Error> for NotStored {
    fn from(error: io::Error) -> Self {
        // An archive that unpacks to more than there is room for, or a file
        // whose name stood for another that is gone by now.
        match error.downcast() {
            Ok(over) => Self::Over(NotAdmitted::over(over)),
            Err(error) => Self::Disk(error),
        }
    }
}

async fn store(
    session: &mut Session,
    place: &Place,
    size: u64,
    mut room: Room,
) -> Result<(u64, Passing), NotStored> {
    let mut passing = Passing::begin();
    let mut draft = place.folder.draft().with_claim(room.claim.take());
    // One is filled while the other is written.
    let buffers = session.site.buffers.take(piece_size(size).saturating_mul(2));
    let mut piece = Vec::with_capacity(buffers.bytes().div_ceil(2));
    loop {
        while session.connection.body_left() > 0 && piece.len() < piece.capacity() {
            session.connection.read_body(&mut piece).await?;
        }
        passing.update(&piece);
        if session.connection.body_left() == 0 {
            draft.commit(piece, &place.entry, session.site.overwrite).await?;
            return Ok((size, passing));
        }
        piece = draft.write(piece).await?;
    }
}

async fn store_unpacked(
    session: &mut Session,
    place: &Place,
    size: u64,
    mut room: Room,
) -> Result<(u64, Passing), NotStored> {
    let mut passing = Passing::begin();
    let mut draft = place.folder.draft().with_claim(room.claim.take());
    let mut unpacker = Unpacker::new(session.site.max_size.saturating_mul(MAX_EXPANSION));
    let buffers = session.site.buffers.take(3 * PIECE.min(piece_size(size)));
    let piece = buffers.bytes().div_ceil(3);
    let mut packed = Vec::with_capacity(piece);
    let mut plain = Vec::with_capacity(piece);
    while session.connection.read_body(&mut packed).await? > 0 {
        // Deflate expands at most 1032 times, so that a small bite bounds
        // what `plain` grows to.
        for bite in packed.chunks(BITE) {
            unpacker.write(bite, &mut plain)?;
            if plain.len() >= piece {
                passing.update(&plain);
                plain = draft.write(plain).await?;
            }
        }
        packed.clear();
    }
    let unpacked = unpacker.finish()?;
    if unpacked == 0 {
        // What `SIZE 0` says of a plain file.
        return Err(NotStored::Empty);
    }
    passing.update(&plain);
    draft.commit(plain, &place.entry, session.site.overwrite).await?;
    Ok((unpacked, passing))
}

/// How many times `-m` an archive may unpack to. XML packs about twenty times;
/// a bomb, a thousand times.
const MAX_EXPANSION: u64 = 32;

const BITE: usize = 512;

/// Bytes that go to the disk at once: how far an archive unpacks is not known.
const PIECE: usize = 256 * 1024;
