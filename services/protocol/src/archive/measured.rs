use std::io::{self, Read, Write};

use super::{ArchiveError, pack};

/// An archive whose size is known: it is announced before the first byte.
///
/// A small archive is kept from the measuring; a large one is packed again
/// ([`Measured::pieces`]), so that no copy of it lies on a disk or in memory.
#[derive(Debug)]
pub struct Measured {
    size: u64,
    /// All of the archive, or its beginning that was found to be no use.
    kept: Vec<u8>,
    keep: usize,
}

impl Measured {
    /// The most bytes of an archive that are worth keeping, and the bytes of
    /// a piece of one that is packed again: few calls, little memory.
    pub const PIECE: usize = 256 * 1024;

    /// Packs all that `from` gives as the member `name`, and keeps the result
    /// if it has at most `keep` bytes.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn of(name: &[u8], mut from: impl Read, keep: usize) -> Result<Self, ArchiveError> {
        let mut measured = Self { size: 0, kept: Vec::new(), keep };
        pack(name, &mut from, &mut measured)?;
        if measured.kept().is_none() {
            measured.kept = Vec::new();
        }
        Ok(measured)
    }

    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The whole archive, if it was kept.
    pub fn kept(&self) -> Option<&[u8]> {
        (self.kept.len() as u64 == self.size).then_some(&*self.kept)
    }

    /// Packs the same once more, and hands it to `each` in pieces: never more
    /// bytes than were measured.
    ///
    /// # Errors
    /// As [`pack`]; [`ArchiveError::Changed`] if the archive has another size
    /// now; those of `each`.
    pub fn pieces(
        size: u64,
        name: &[u8],
        mut from: impl Read,
        each: impl FnMut(Vec<u8>) -> io::Result<()>,
    ) -> Result<(), ArchiveError> {
        let mut pieces = Pieces { left: size, piece: Vec::with_capacity(Self::PIECE), each };
        match pack(name, &mut from, &mut pieces).and_then(|_| Ok(pieces.hand_over()?)) {
            Err(ArchiveError::Io(error)) if error.kind() == io::ErrorKind::WriteZero => {
                Err(ArchiveError::Changed)
            }
            Ok(()) if pieces.left > 0 => Err(ArchiveError::Changed),
            result => result,
        }
    }
}

/// Counts, and keeps while it is small.
impl Write for Measured {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.kept().is_some() && self.kept.len() + piece.len() <= self.keep {
            self.kept.extend_from_slice(piece);
        }
        self.size += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pieces<F> {
    /// Bytes that may still come.
    left: u64,
    piece: Vec<u8>,
    each: F,
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Pieces<F> {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(Measured::PIECE);
        (self.each)(std::mem::replace(&mut self.piece, next))
    }
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Write for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // 0 where more comes than was measured: `write_all` ends with WriteZero.
        let room = (Measured::PIECE - self.piece.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = bytes.len().min(room);
        self.piece.extend_from_slice(&bytes[..count]);
        self.left -= count as u64;
        if self.piece.len() == Measured::PIECE {
            self.hand_over()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not deflate.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(step).take(size).collect()
    }

    fn again(size: u64, content: &[u8]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let mut pieces = Vec::new();
        Measured::pieces(size, b"a", content, |piece| {
            pieces.push(piece);
            Ok(())
        })?;
        Ok(pieces)
    }

    #[test]
    fn a_small_archive_is_kept_and_a_large_one_packed_again_is_the_same() {
        let content = noise(1_000_000);
        let mut archive = Vec::new();
        pack(b"a", &mut &*content, &mut archive).unwrap();
        let small = Measured::of(b"a", &*content, archive.len()).unwrap();
        assert_eq!(small.kept(), Some(&*archive));
        let large = Measured::of(b"a", &*content, archive.len() - 1).unwrap();
        assert_eq!((large.size(), large.kept()), (archive.len() as u64, None));
        let pieces = again(large.size(), &content).unwrap();
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.len() == Measured::PIECE));
        assert!(pieces.concat() == archive);
    }

    #[test]
    fn what_was_changed_after_it_was_measured_is_not_sent_as_if_it_were_not() {
        let content = noise(600_000);
        let size = Measured::of(b"a", &*content, 0).unwrap().size();
        for other in [noise(599_000), noise(700_000)] {
            let handed = again(size, &other);
            assert!(matches!(handed, Err(ArchiveError::Changed)), "{handed:?}");
        }
    }

    #[test]
    fn who_takes_the_pieces_can_end_it() {
        let content = noise(600_000);
        let size = Measured::of(b"a", &*content, 0).unwrap().size();
        let ended = Measured::pieces(size, b"a", &*content, |_| Err(io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(ended, Err(ArchiveError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    }
}
