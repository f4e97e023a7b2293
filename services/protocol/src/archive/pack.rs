use std::io::{ErrorKind, Read, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{ArchiveError, BUFFER, record};

/// Packs all that `from` gives as the member `name`, and returns the size of the archive in bytes.
///
/// The same input gives the same bytes, so a first pass into [`std::io::sink`] tells the size to announce, and a
/// second one sends it. `name` is the base name of the file, in any encoding.
///
/// # Errors
/// [`ArchiveError::TooBig`] from 4 GiB on, where the format's plain fields end, [`ArchiveError::NameTooLong`], and
/// [`ArchiveError::Io`] of either side. What was written until then is of no use.
pub fn pack(name: &[u8], from: &mut impl Read, to: &mut impl Write) -> Result<u64, ArchiveError> {
    let name_size =
        u16::try_from(name.len()).map_err(|_| ArchiveError::NameTooLong { length: name.len() })?;

    let local = local_header(name, name_size);
    to.write_all(&local)?;
    to.write_all(name)?;
    let member = deflate(from, to)?;
    let data_at = local.len() as u64 + u64::from(name_size);
    let directory_at = fits(data_at + u64::from(member.packed) + DESCRIPTOR_SIZE)?;

    let mut rest = Vec::with_capacity(record::CENTRAL_SIZE + name.len() + record::END_SIZE + 16);
    push(&mut rest, &[&record::DESCRIPTOR, &member.fields()]);
    push_directory(&mut rest, name, name_size, &member, directory_at);
    to.write_all(&rest)?;
    Ok(data_at + u64::from(member.packed) + rest.len() as u64)
}

/// What is known of the member once its data is through.
struct Member {
    crc: u32,
    packed: u32,
    unpacked: u32,
}

impl Member {
    /// As they stand in the descriptor and in the central directory.
    fn fields(&self) -> [u8; 12] {
        let mut fields = [0; 12];
        for (field, value) in fields.chunks_exact_mut(4).zip([self.crc, self.packed, self.unpacked]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        fields
    }
}

fn deflate(from: &mut impl Read, to: &mut impl Write) -> Result<Member, ArchiveError> {
    let mut deflater = Compress::new(Compression::default(), false);
    let mut crc = Crc::new();
    let (mut input, mut output) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let size = read(from, &mut input)?;
        crc.update(&input[..size]);
        let mut piece = &input[..size];
        let flush = if size == 0 { FlushCompress::Finish } else { FlushCompress::None };
        loop {
            let (before_in, before_out) = (deflater.total_in(), deflater.total_out());
            let status = deflater
                .compress(piece, &mut output, flush)
                .map_err(|_| ArchiveError::Damaged("the compressor failed"))?;
            piece = &piece[(deflater.total_in() - before_in) as usize..];
            let produced = (deflater.total_out() - before_out) as usize;
            to.write_all(&output[..produced])?;
            if status == Status::StreamEnd {
                let (packed, unpacked) = (fits(deflater.total_out())?, fits(deflater.total_in())?);
                return Ok(Member { crc: crc.sum(), packed, unpacked });
            }
            if piece.is_empty() && produced < output.len() && size > 0 {
                break;
            }
        }
        fits(deflater.total_in())?;
    }
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return Ok(result?),
        }
    }
}

fn local_header(name: &[u8], name_size: u16) -> [u8; record::LOCAL_FILE_SIZE] {
    let mut header = Vec::with_capacity(record::LOCAL_FILE_SIZE);
    push(
        &mut header,
        &[&record::LOCAL_FILE, &common_fields(name), &[0; 12], &name_size.to_le_bytes(), &[0; 2]],
    );
    header.try_into().expect("the fields above add up to a local file header")
}

/// The fields that a local header and the central directory share: version, bits, method, time.
fn common_fields(name: &[u8]) -> [u8; 10] {
    let utf8 = !name.is_ascii() && std::str::from_utf8(name).is_ok();
    let bits = record::SIZES_BEHIND | if utf8 { record::UTF8_NAME } else { 0 };
    let mut fields = [0; 10];
    for (field, value) in
        fields.chunks_exact_mut(2).zip([VERSION, bits, record::DEFLATED, MIDNIGHT, FIRST_DAY])
    {
        field.copy_from_slice(&value.to_le_bytes());
    }
    fields
}

/// The central directory with its one entry, and the record that ends the archive.
fn push_directory(out: &mut Vec<u8>, name: &[u8], name_size: u16, member: &Member, directory_at: u32) {
    let start = out.len();
    push(out, &[&record::CENTRAL, &MADE_BY.to_le_bytes(), &common_fields(name), &member.fields()]);
    // Neither extra field nor comment, disk 0, no internal attributes; the member begins at 0.
    push(out, &[&name_size.to_le_bytes(), &[0; 8], &REGULAR_FILE.to_le_bytes(), &[0; 4], name]);
    let directory_size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);

    push(out, &[&record::END, &[0; 4], &1u16.to_le_bytes(), &1u16.to_le_bytes()]);
    push(out, &[&directory_size.to_le_bytes(), &directory_at.to_le_bytes(), &[0; 2]]);
}

fn push(out: &mut Vec<u8>, fields: &[&[u8]]) {
    fields.iter().for_each(|field| out.extend_from_slice(field));
}

fn fits(size: u64) -> Result<u32, ArchiveError> {
    u32::try_from(size).map_err(|_| ArchiveError::TooBig { limit: u64::from(u32::MAX) })
}

const DESCRIPTOR_SIZE: u64 = 16;

/// 2.0, the first with deflate (APPNOTE 4.4.3).
const VERSION: u16 = 20;

/// By Unix, so that the attributes are a mode.
const MADE_BY: u16 = 3 << 8 | VERSION;

/// `-rw-r--r--`
const REGULAR_FILE: u32 = 0o100_644 << 16;

/// 1980-01-01 00:00, the earliest that the format can say: the time is not used, and a real one would make two
/// passes differ.
const MIDNIGHT: u16 = 0;
const FIRST_DAY: u16 = 1 << 5 | 1;
