//! Reading a file, and removing it once its reader has it.

use std::{fmt, io, sync::Arc};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    blocking::spawn_blocking,
    disk::{Disk, Identity, RealDisk},
    folder::{Held, State, blocking},
    name::EntryName,
};

/// An open file, read from its beginning to the end that it had when it was
/// opened. The next piece is read while the caller uses the one before.
pub struct Reader<D: Disk = RealDisk> {
    state: Arc<State<D>>,
    file: Arc<D::File>,
    size: u64,
    identity: Identity,
    /// Bytes that were handed out.
    offset: u64,
    /// Bytes of a piece.
    piece: usize,
    /// The piece that is being read ahead, or the whole of a small file.
    ahead: Option<Ahead>,
}

enum Ahead {
    Read(Vec<u8>),
    Reading(JoinHandle<io::Result<Vec<u8>>>),
}

/// A file that is offered to one reader; given back when it is dropped.
#[derive(Debug)]
pub struct Lease<D: Disk = RealDisk> {
    held: Held<D>,
    reader: Reader<D>,
}

// === impl Reader ===

impl<D: Disk> Reader<D> {
    pub(crate) fn open(state: &Arc<State<D>>, name: &EntryName) -> io::Result<Option<Self>> {
        let file = match state.disk.open(&name.within(&state.path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = state.disk.status_of(&file)?;
        let mut ahead = None;
        if found.size <= SMALL {
            let buffer = Vec::with_capacity(found.size as usize);
            ahead = Some(Ahead::Read(read_piece(&state.disk, &file, 0, buffer, found.size)?));
        }
        let (state, file) = (Arc::clone(state), Arc::new(file));
        // A sixteenth of a large file, at most: each piece is handed from
        // thread to thread, which costs more than a copy of the smallest.
        let piece = (found.size / 16).clamp(PIECE, LARGEST_PIECE) as usize;
        Ok(Some(Self { state, file, size: found.size, identity: found.identity, offset: 0, piece, ahead }))
    }

    /// Bytes of the file, when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that reading it takes: two pieces, or the whole of a small file.
    pub fn room(&self) -> usize {
        (2 * self.piece).min(usize::try_from(self.size).unwrap_or(usize::MAX))
    }

    /// Has it read within so many bytes.
    pub fn read_within(&mut self, room: usize) {
        if room < self.room() {
            self.piece = (room / 2).max(1);
        }
    }

    /// The next piece, read into `spent` (whose capacity is a piece's size;
    /// one without any gets a sane one); empty at the end.
    ///
    /// # Errors
    /// The disk's.
    pub async fn next(&mut self, spent: Vec<u8>) -> io::Result<Vec<u8>> {
        let piece = match self.ahead.take() {
            Some(Ahead::Read(piece)) => piece,
            Some(Ahead::Reading(reading)) => reading.await.map_err(io::Error::other)??,
            None if self.offset >= self.size => return Ok(Vec::new()),
            None => self.read(Vec::new()).await.map_err(io::Error::other)??,
        };
        self.offset += piece.len() as u64;
        if self.offset < self.size && !piece.is_empty() {
            self.ahead = Some(Ahead::Reading(self.read(spent)));
        }
        Ok(piece)
    }

    /// Copies the whole file from its beginning, in pieces, on a blocking
    /// thread: for work that blocks itself, such as packing.
    ///
    /// # Errors
    /// The disk's, and those of `work`.
    pub async fn with_contents<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn io::Read) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (state, file, size) = (Arc::clone(&self.state), Arc::clone(&self.file), self.size);
        blocking(move || work(&mut Contents { state: &state, file: &file, offset: 0, size })).await
    }

    fn read(&self, mut buffer: Vec<u8>) -> JoinHandle<io::Result<Vec<u8>>> {
        if buffer.capacity() == 0 {
            buffer.reserve_exact(self.piece);
        }
        let (state, file, offset) = (Arc::clone(&self.state), Arc::clone(&self.file), self.offset);
        let left = self.size - self.offset;
        spawn_blocking(move || read_piece(&state.disk, &file, offset, buffer, left))
    }
}

impl<D: Disk> fmt::Debug for Reader<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} of {} bytes)", self.offset, self.size)
    }
}

/// [`std::io::Read`] over an open file, up to the size it had.
struct Contents<'a, D: Disk> {
    state: &'a State<D>,
    file: &'a D::File,
    offset: u64,
    size: u64,
}

impl<D: Disk> io::Read for Contents<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.size - self.offset).unwrap_or(usize::MAX));
        let count = self.state.disk.read(self.file, self.offset, &mut buffer[..room])?;
        self.offset += count as u64;
        Ok(count)
    }
}

// === impl Lease ===

impl<D: Disk> Lease<D> {
    pub(crate) fn new(held: Held<D>, reader: Reader<D>) -> Self {
        Self { held, reader }
    }

    /// The file.
    pub fn reader(&mut self) -> &mut Reader<D> {
        &mut self.reader
    }

    /// Bytes of the file, when it was opened.
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// The file's name.
    pub fn name(&self) -> &EntryName {
        &self.held.name
    }

    /// Removes the file, and makes that survive a power cut. `false`: the
    /// name stands for another file by now, which stays, or for none.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove(self) -> io::Result<bool> {
        let (tell, told) = oneshot::channel();
        // The lease goes along: the name is offered to nobody until it is
        // gone, even if the caller does not wait.
        spawn_blocking(move || {
            let Self { held, reader } = self;
            let removed = held.folder.0.remove_same(&held.name, reader.identity);
            drop(held);
            // Who waits need not wait for the close, which frees the blocks.
            let _ = tell.send(removed);
            drop(reader);
        });
        told.await.map_err(io::Error::other)?
    }
}

fn read_piece<D: Disk>(
    disk: &D,
    file: &D::File,
    offset: u64,
    mut buffer: Vec<u8>,
    left: u64,
) -> io::Result<Vec<u8>> {
    let room = buffer.capacity().min(usize::try_from(left).unwrap_or(usize::MAX));
    // What a used buffer holds is overwritten, not cleared first.
    buffer.resize(room, 0);
    let mut filled = 0;
    while filled < room {
        match disk.read(file, offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Bytes of a file that is read at once with opening it.
const SMALL: u64 = 16 * 1024;

/// Bytes of a piece.
const PIECE: u64 = 256 * 1024;

/// Bytes of a piece of a large file.
const LARGEST_PIECE: u64 = 1024 * 1024;
