use std::io::Write;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::record::{self, ELSEWHERE, Record};
use super::{ArchiveError, BUFFER};

/// Unpacks an archive that arrives in pieces of any size.
///
/// Takes deflated and stored members, with sizes before or behind the data, with or without ZIP64 fields. The
/// member's name is not looked at. Checksum, sizes, the central directory and its place are all checked.
///
/// What is written to `out` before [`finish`](Self::finish) returned `Ok` must not be used. After an error every
/// later call fails.
pub struct Unpacker {
    limit: u64,
    stage: Stage,
    /// Bytes to pass over before the stage goes on.
    skip: u64,
    /// The part of the present record that has arrived.
    held: Vec<u8>,
    /// Archive bytes taken in.
    position: u64,
    member: Member,
    directory_at: u64,
    directory_size: u64,
    inflater: Decompress,
    output: Vec<u8>,
    crc: Crc,
    packed: u64,
    unpacked: u64,
}

impl Unpacker {
    /// An unpacker that refuses a file of more than `limit` bytes unpacked.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            stage: Stage::LocalHeader,
            skip: 0,
            held: Vec::with_capacity(record::END64_SIZE),
            position: 0,
            member: Member::default(),
            directory_at: 0,
            directory_size: 0,
            inflater: Decompress::new(false),
            output: vec![0; BUFFER],
            crc: Crc::new(),
            packed: 0,
            unpacked: 0,
        }
    }

    /// Takes the next piece of the archive, and writes what it unpacks to at once.
    ///
    /// # Errors
    /// [`ArchiveError::TooBig`] before a byte beyond the limit is written; [`ArchiveError::Io`] when `out` fails;
    /// the others as soon as the bytes show it.
    pub fn write(&mut self, piece: &[u8], out: &mut impl Write) -> Result<(), ArchiveError> {
        let result = self.take(piece, out);
        if result.is_err() {
            self.stage = Stage::Failed;
        }
        result
    }

    /// Ends the archive, and returns the unpacked size in bytes.
    ///
    /// # Errors
    /// [`ArchiveError::Cut`] if the record that ends an archive has not arrived in full;
    /// [`ArchiveError::NotAnArchive`] if not even the beginning of one has.
    pub fn finish(self) -> Result<u64, ArchiveError> {
        match self.stage {
            Stage::Done if self.skip == 0 => Ok(self.unpacked),
            Stage::Failed => Err(ArchiveError::Damaged("an earlier piece was refused")),
            Stage::LocalHeader => {
                let begins = self.held.iter().zip(record::LOCAL_FILE).all(|(&byte, wanted)| byte == wanted);
                Err(if begins { ArchiveError::Cut } else { ArchiveError::NotAnArchive })
            }
            _ => Err(ArchiveError::Cut),
        }
    }

    fn take(&mut self, mut piece: &[u8], out: &mut impl Write) -> Result<(), ArchiveError> {
        loop {
            let skipped = self.skip.min(piece.len() as u64);
            self.advance(&mut piece, skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(());
            }
            match self.stage {
                Stage::Stored { left: 0 } => self.data_ends(),
                _ if piece.is_empty() && self.held.len() < self.stage.record_size() => return Ok(()),
                Stage::Deflated if piece.is_empty() => return Ok(()),
                Stage::Stored { .. } if piece.is_empty() => return Ok(()),
                Stage::Done if piece.is_empty() => return Ok(()),
                Stage::Deflated => self.inflate(&mut piece, out)?,
                Stage::Stored { left } => self.copy(left, &mut piece, out)?,
                Stage::Done => return Err(ArchiveError::Damaged("bytes follow its end")),
                Stage::Failed => return Err(ArchiveError::Damaged("an earlier piece was refused")),
                _ => self.gather(&mut piece)?,
            }
        }
    }

    fn advance(&mut self, piece: &mut &[u8], count: u64) {
        *piece = &piece[count as usize..];
        self.position += count;
    }

    fn inflate(&mut self, piece: &mut &[u8], out: &mut impl Write) -> Result<(), ArchiveError> {
        loop {
            let (before_in, before_out) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(piece, &mut self.output, FlushDecompress::None)
                .map_err(|_| ArchiveError::Damaged("its data does not inflate"))?;
            let consumed = self.inflater.total_in() - before_in;
            let produced = (self.inflater.total_out() - before_out) as usize;
            self.advance(piece, consumed);
            self.packed += consumed;

            check_limit(self.unpacked + produced as u64, self.limit)?;
            self.crc.update(&self.output[..produced]);
            self.unpacked += produced as u64;
            out.write_all(&self.output[..produced])?;

            if status == Status::StreamEnd {
                self.data_ends();
                return Ok(());
            }
            // A full window may hide more that is ready, without a further byte of input.
            if piece.is_empty() && produced < self.output.len() {
                return Ok(());
            }
            if consumed == 0 && produced == 0 {
                return Err(ArchiveError::Damaged("its data does not inflate"));
            }
        }
    }

    fn copy(&mut self, left: u64, piece: &mut &[u8], out: &mut impl Write) -> Result<(), ArchiveError> {
        let size = left.min(piece.len() as u64);
        check_limit(self.unpacked + size, self.limit)?;
        let data = &piece[..size as usize];
        self.crc.update(data);
        out.write_all(data)?;
        self.advance(piece, size);
        self.packed += size;
        self.unpacked += size;
        self.stage = Stage::Stored { left: left - size };
        Ok(())
    }

    fn data_ends(&mut self) {
        self.stage = if self.member.sizes_behind { Stage::Descriptor } else { Stage::Central };
    }

    /// Fills the present record, and reads it once it is whole.
    fn gather(&mut self, piece: &mut &[u8]) -> Result<(), ArchiveError> {
        let size = self.stage.record_size();
        let missing = size.saturating_sub(self.held.len()).min(piece.len());
        self.held.extend_from_slice(&piece[..missing]);
        self.advance(piece, missing as u64);
        if self.held.len() < size {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        let used = self.record(Record(&held))?;
        held.drain(..used);
        self.held = held;
        Ok(())
    }

    /// Reads one whole record, moves on to the next stage, and says how many of the bytes it took.
    fn record(&mut self, record: Record<'_>) -> Result<usize, ArchiveError> {
        match self.stage {
            Stage::LocalHeader => self.local_header(record)?,
            Stage::LocalExtra { left } => self.local_extra(record, left),
            Stage::LocalZip64 { size, left } => self.local_zip64(record, size, left)?,
            Stage::LocalPadding { .. } => self.data_begins()?,
            Stage::Descriptor => return self.descriptor(record),
            Stage::Central => self.central(record)?,
            Stage::AfterCentral => return self.after_central(record),
            Stage::End64 => self.end64(record)?,
            Stage::Locator64 => self.locator64(record)?,
            Stage::End => self.end(record)?,
            Stage::Deflated | Stage::Stored { .. } | Stage::Done | Stage::Failed => {}
        }
        Ok(record.0.len())
    }

    fn local_header(&mut self, record: Record<'_>) -> Result<(), ArchiveError> {
        if !record.is(record::LOCAL_FILE) {
            return Err(ArchiveError::NotAnArchive);
        }
        let bits = record.u16(6);
        if bits & record::ENCRYPTED != 0 {
            return Err(ArchiveError::Encrypted);
        }
        if bits & record::PATCH != 0 {
            return Err(ArchiveError::Unsupported("it is a patch"));
        }
        self.member = Member {
            sizes_behind: bits & record::SIZES_BEHIND != 0,
            method: record.u16(8),
            crc: record.u32(14),
            packed: u64::from(record.u32(18)),
            unpacked: u64::from(record.u32(22)),
        };
        self.skip = u64::from(record.u16(26));
        self.stage = Stage::extra(record.u16(28));
        Ok(())
    }

    /// The head of one extra field; only that of ZIP64 is of interest.
    fn local_extra(&mut self, record: Record<'_>, left: u16) {
        let (id, size) = (record.u16(0), record.u16(2));
        let left = left - 4;
        let zip64 = id == ZIP64_EXTRA && size <= left && usize::from(size) <= ZIP64_EXTRA_SIZE;
        self.stage = if zip64 {
            Stage::LocalZip64 { size, left: left - size }
        } else {
            self.skip = u64::from(size.min(left));
            Stage::extra(left.saturating_sub(size))
        };
    }

    fn local_zip64(&mut self, record: Record<'_>, size: u16, left: u16) -> Result<(), ArchiveError> {
        let mut at = 0;
        for field in [&mut self.member.unpacked, &mut self.member.packed] {
            if *field == ELSEWHERE && !self.member.sizes_behind {
                if at + 8 > usize::from(size) {
                    return Err(ArchiveError::Damaged("its ZIP64 field is too short"));
                }
                *field = record.u64(at);
                at += 8;
            }
        }
        self.stage = Stage::extra(left);
        Ok(())
    }

    fn data_begins(&mut self) -> Result<(), ArchiveError> {
        if !self.member.sizes_behind {
            check_limit(self.member.unpacked, self.limit)?;
        }
        self.stage = match self.member.method {
            record::DEFLATED => Stage::Deflated,
            // With its size behind it the end of a stored member cannot be told, unless the header has it too. An
            // empty one says 0, and so does one that the descriptor then shows not to be empty.
            record::STORED if self.member.sizes_behind && self.member.packed == ELSEWHERE => {
                return Err(ArchiveError::Unsupported(STORED_WITHOUT_SIZE));
            }
            record::STORED => Stage::Stored { left: self.member.packed },
            _ => return Err(ArchiveError::Unsupported("it is neither deflated nor stored")),
        };
        Ok(())
    }

    /// The descriptor has four forms (APPNOTE 4.3.9.3), and nothing that tells which. All its values are known, so
    /// the form is the one that says them and has a central directory behind it.
    fn descriptor(&mut self, record: Record<'_>) -> Result<usize, ArchiveError> {
        let crc = self.crc.sum().to_le_bytes();
        let long = [&crc[..], &self.packed.to_le_bytes(), &self.unpacked.to_le_bytes()].concat();
        let mut forms = vec![long];
        if let (Ok(packed), Ok(unpacked)) = (u32::try_from(self.packed), u32::try_from(self.unpacked)) {
            forms.push([&crc[..], &packed.to_le_bytes(), &unpacked.to_le_bytes()].concat());
        }
        for form in forms {
            for signature in [&record::DESCRIPTOR[..], b""] {
                let descriptor = [signature, &form].concat();
                let Some(next) = record.0.strip_prefix(&*descriptor) else {
                    continue;
                };
                if next.starts_with(&record::CENTRAL) {
                    self.stage = Stage::Central;
                    return Ok(descriptor.len());
                }
                if next.starts_with(&record::LOCAL_FILE) {
                    return Err(ArchiveError::TwoMembers);
                }
            }
        }
        Err(if self.member.method == record::STORED && self.member.packed == 0 {
            ArchiveError::Unsupported(STORED_WITHOUT_SIZE)
        } else {
            ArchiveError::Damaged("the checksum or the size behind the data does not match it")
        })
    }

    fn central(&mut self, record: Record<'_>) -> Result<(), ArchiveError> {
        if record.is(record::LOCAL_FILE) {
            return Err(ArchiveError::TwoMembers);
        }
        let read = (self.crc.sum(), self.packed, self.unpacked);
        if !self.member.sizes_behind && read != (self.member.crc, self.member.packed, self.member.unpacked) {
            return Err(ArchiveError::Damaged("the checksum or the size before the data does not match it"));
        }
        let matches = record.is(record::CENTRAL)
            && record.u16(10) == self.member.method
            && record.u32(16) == self.crc.sum()
            && record.says(20, self.packed)
            && record.says(24, self.unpacked)
            && record.says(42, 0);
        if !matches {
            return Err(ArchiveError::Damaged("its directory does not match the file"));
        }
        self.directory_at = self.position - record.0.len() as u64;
        self.skip = [28, 30, 32].into_iter().map(|at| u64::from(record.u16(at))).sum();
        self.directory_size = record.0.len() as u64 + self.skip;
        self.stage = Stage::AfterCentral;
        Ok(())
    }

    fn after_central(&mut self, record: Record<'_>) -> Result<usize, ArchiveError> {
        self.stage = match record.0.first_chunk() {
            Some(&record::END) => Stage::End,
            Some(&record::END64) => Stage::End64,
            Some(&record::CENTRAL) => return Err(ArchiveError::TwoMembers),
            _ => return Err(ArchiveError::Damaged("its directory does not end as one")),
        };
        Ok(0)
    }

    fn end64(&mut self, record: Record<'_>) -> Result<(), ArchiveError> {
        if record.u64(24) > 1 || record.u64(32) > 1 {
            return Err(ArchiveError::TwoMembers);
        }
        let place = (record.u64(40), record.u64(48));
        if record.u64(24) != 1 || record.u64(32) != 1 || place != (self.directory_size, self.directory_at) {
            return Err(ArchiveError::Damaged("its end does not match its directory"));
        }
        // The size leaves out the first 12 bytes; what may follow the fields is reserved.
        self.skip = record
            .u64(4)
            .checked_sub(record::END64_SIZE as u64 - 12)
            .filter(|&size| size <= END64_RESERVED)
            .ok_or(ArchiveError::Damaged("its ZIP64 end has no sensible size"))?;
        self.stage = Stage::Locator64;
        Ok(())
    }

    fn locator64(&mut self, record: Record<'_>) -> Result<(), ArchiveError> {
        if !record.is(record::LOCATOR64) || record.u64(8) != self.directory_at + self.directory_size {
            return Err(ArchiveError::Damaged("its ZIP64 end is not where it says"));
        }
        self.stage = Stage::End;
        Ok(())
    }

    fn end(&mut self, record: Record<'_>) -> Result<(), ArchiveError> {
        let counts = [record.u16(8), record.u16(10)];
        if counts.iter().any(|&count| count > 1 && count != u16::MAX) {
            return Err(ArchiveError::TwoMembers);
        }
        let matches = record.is(record::END)
            && counts.iter().all(|&count| count != 0)
            && record.u32(4) == 0
            && record.says(12, self.directory_size)
            && record.says(16, self.directory_at);
        if !matches {
            return Err(ArchiveError::Damaged("its end does not match its directory"));
        }
        self.skip = u64::from(record.u16(20));
        self.stage = Stage::Done;
        Ok(())
    }
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker")
            .field("stage", &self.stage)
            .field("unpacked", &self.unpacked)
            .finish_non_exhaustive()
    }
}

/// What comes next in the archive.
#[derive(Debug, Clone, Copy)]
enum Stage {
    LocalHeader,
    /// The head of an extra field; `left` bytes of extra fields, head and all.
    LocalExtra {
        left: u16,
    },
    /// The ZIP64 extra field, with `left` bytes of others behind it.
    LocalZip64 {
        size: u16,
        left: u16,
    },
    /// What is left of the extra fields, fewer bytes than a head.
    LocalPadding {
        left: u16,
    },
    Deflated,
    Stored {
        left: u64,
    },
    Descriptor,
    Central,
    AfterCentral,
    End64,
    Locator64,
    End,
    /// Nothing but the rest of the comment.
    Done,
    Failed,
}

impl Stage {
    fn extra(left: u16) -> Self {
        // Fewer bytes than a head are padding, which some programs leave.
        if left >= 4 { Self::LocalExtra { left } } else { Self::LocalPadding { left } }
    }

    /// How many bytes must be there before the stage can be read.
    fn record_size(self) -> usize {
        match self {
            Self::LocalHeader => record::LOCAL_FILE_SIZE,
            Self::LocalExtra { .. } => 4,
            Self::LocalZip64 { size, .. } => usize::from(size),
            Self::LocalPadding { left } => usize::from(left),
            // The longest form, and the signature behind it: an archive has always that many bytes left.
            Self::Descriptor => 24 + 4,
            Self::Central => record::CENTRAL_SIZE,
            Self::AfterCentral => 4,
            Self::End64 => record::END64_SIZE,
            Self::Locator64 => record::LOCATOR64_SIZE,
            Self::End => record::END_SIZE,
            Self::Deflated | Self::Stored { .. } | Self::Done | Self::Failed => 0,
        }
    }
}

/// What the local header says of the member.
#[derive(Debug, Default)]
struct Member {
    /// Bit 3: the fields below say nothing yet.
    sizes_behind: bool,
    method: u16,
    crc: u32,
    packed: u64,
    unpacked: u64,
}

fn check_limit(size: u64, limit: u64) -> Result<(), ArchiveError> {
    if size > limit { Err(ArchiveError::TooBig { limit }) } else { Ok(()) }
}

const STORED_WITHOUT_SIZE: &str = "it is not compressed, and its size stands behind it";

const ZIP64_EXTRA: u16 = 1;

/// Two sizes, an offset and a disk (APPNOTE 4.5.3).
const ZIP64_EXTRA_SIZE: usize = 28;

/// Nobody writes any; a bound, so that an archive cannot go on for ever.
const END64_RESERVED: u64 = 4096;
