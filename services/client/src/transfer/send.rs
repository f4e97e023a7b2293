//! Files that are sent: checked before the first is offered.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use protocol::{ClientError, FileName, Form, archive::Measured, piece_size};
use runtime::telemetry::journey::Passing;
use rustix::fs::OFlags;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{Session, TransferError, base_name, record};
use crate::progress::Progress;

/// A local file that can be sent.
///
/// Files are read on the runtime's thread: this program has nothing else to
/// do meanwhile, and a thread of its own would cost more than a small file.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    name: FileName,
    /// Of a file that is packed. All are, before the server waits for the
    /// first: packing a large one takes longer than a server's patience.
    packed: Option<Measured>,
    /// Of its content, once that was read.
    passing: Passing,
}

impl Source {
    /// Checks all files, and packs them where they travel packed.
    pub(crate) fn all(paths: &[PathBuf], form: Form) -> Result<Vec<Self>, TransferError> {
        let mut sources = paths.iter().map(|path| Self::check(path)).collect::<Result<Vec<_>, _>>()?;
        if form == Form::Zip {
            let mut keep = KEPT;
            for source in &mut sources {
                keep -= source.pack(keep)?;
            }
        }
        Ok(sources)
    }

    fn check(path: &Path) -> Result<Self, TransferError> {
        let name = base_name(path)?;
        open(path)?;
        Ok(Self { path: path.to_owned(), name, packed: None, passing: Passing::default() })
    }

    /// Returns how many bytes are kept in memory, at most `keep`.
    fn pack(&mut self, keep: usize) -> Result<usize, TransferError> {
        let (file, _) = open(&self.path)?;
        self.passing = Passing::begin();
        let file = self.passing.reading(file);
        let packed = Measured::of(self.name.as_bytes(), file, keep.min(Measured::PIECE));
        let packed = packed.map_err(|error| TransferError::Pack { path: self.path.clone(), error })?;
        let kept = packed.kept().map_or(0, <[u8]>::len);
        self.packed = Some(packed);
        Ok(kept)
    }
}

/// Sends a file, and returns when the server says that it has it.
pub(crate) async fn send(session: &mut Session, source: &Source) -> Result<(), TransferError> {
    let (size, passing) = match &source.packed {
        None => send_plain(session, source).await?,
        Some(packed) => (send_packed(session, source, packed).await?, source.passing.clone()),
    };
    record("file sent", &source.name, passing);
    tracing::debug!(name = %source.name, bytes = size, "sent");
    Ok(())
}

async fn send_plain(session: &mut Session, source: &Source) -> Result<(u64, Passing), TransferError> {
    let not_sent = |error| TransferError::NotSent { name: source.name.clone(), error };
    let (mut file, size) = open(&source.path)?;
    session.client.offer(&source.name, size, Form::Plain).await.map_err(not_sent)?;

    let mut progress = Progress::new(&source.name, size, session.shows_progress);
    let mut piece = vec![0; piece_size(size)];
    let (mut left, mut passing) = (size, Passing::begin());
    while left > 0 {
        let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = read(&mut file, &mut piece[..room])
            .map_err(|error| TransferError::Unreadable { path: source.path.clone(), error })?;
        if count == 0 {
            return Err(TransferError::Unfit { path: source.path.clone(), why: SHRUNK });
        }
        passing.update(&piece[..count]);
        session.client.send_piece(&piece[..count]).await.map_err(not_sent)?;
        left -= count as u64;
        progress.advance(count);
    }
    session.client.sent(Form::Plain).await.map_err(not_sent)?;
    Ok((size, passing))
}

async fn send_packed(
    session: &mut Session,
    source: &Source,
    packed: &Measured,
) -> Result<u64, TransferError> {
    let not_sent = |error| TransferError::NotSent { name: source.name.clone(), error };
    session.client.offer(&source.name, packed.size(), Form::Zip).await.map_err(not_sent)?;
    match packed.kept() {
        Some(archive) => session.client.send_piece(archive).await.map_err(not_sent)?,
        None => send_packed_again(session, source, packed.size()).await?,
    }
    session.client.sent(Form::Zip).await.map_err(not_sent)?;
    Ok(packed.size())
}

/// Packs a file on a thread of its own, while what it packs to is sent.
async fn send_packed_again(session: &mut Session, source: &Source, size: u64) -> Result<(), TransferError> {
    let (file, _) = open(&source.path)?;
    let name = source.name.clone();
    let mut progress = Progress::new(&source.name, size, session.shows_progress);
    let (pieces, packed) = mpsc::channel::<Vec<u8>>(2);
    let packing = spawn_blocking(move || {
        let hand_over = |piece| pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into());
        Measured::pieces(size, name.as_bytes(), file, hand_over)
    });
    let sending = async {
        // By value: where the server is gone, the thread that packs is to end.
        let mut packed = packed;
        while let Some(piece) = packed.recv().await {
            session.client.send_piece(&piece).await?;
            progress.advance(piece.len());
        }
        Ok::<_, ClientError>(())
    };
    let (packed, sent) = tokio::join!(packing, sending);
    sent.map_err(|error| TransferError::NotSent { name: source.name.clone(), error })?;
    packed
        .map_err(|panic| io::Error::other(panic).into())
        .flatten()
        .map_err(|error| TransferError::Pack { path: source.path.clone(), error })
}

/// Opens a file that a server takes: a regular one, and not an empty one.
fn open(path: &Path) -> Result<(File, u64), TransferError> {
    let unreadable = |error| TransferError::Unreadable { path: path.to_owned(), error };
    let unfit = |why| Err(TransferError::Unfit { path: path.to_owned(), why });
    // A pipe must not block the opener.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    match found.len() {
        _ if found.is_dir() => unfit("it is a folder (name the files in it)"),
        _ if !found.is_file() => unfit("it is no regular file, and nothing else can be sent"),
        0 => unfit("it is empty, and servers refuse empty files (leave it out)"),
        size => Ok((file, size)),
    }
}

fn read(file: &mut File, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Bytes of archives that are kept while they wait for their turn, all
/// together.
const KEPT: usize = 1024 * 1024;

const SHRUNK: &str = "it was cut short in place while it was sent (send it again)";
