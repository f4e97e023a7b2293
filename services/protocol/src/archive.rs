//! Bodies of `ZSEND` and `ZRECV`: a ZIP archive with one member, packed and unpacked as a stream.
//!
//! Sizes stand behind the data (general-purpose bit 3), so neither side needs the file as a whole or a seek
//! (`docs/protocol.md`, "ZIP"; the layout is PKWARE's APPNOTE 6.3.10). Memory is fixed, whatever
//! the archive: buffers of 32 kB and deflate's own state. The calls are blocking: run them on a thread where that
//! does no harm.

use std::io;

mod measured;
mod pack;
mod record;
mod unpack;

pub use measured::Measured;
pub use pack::pack;
pub use unpack::Unpacker;

/// Why an archive cannot be unpacked or packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The first bytes are not those of an archive with a member.
    #[error("the body is no ZIP archive with a file in it")]
    NotAnArchive,
    /// The bytes ended before the archive did.
    #[error("the ZIP archive is cut short")]
    Cut,
    /// A checksum, a size or a record is not what it must be.
    #[error("the ZIP archive is damaged: {0}")]
    Damaged(&'static str),
    /// There is more than one file in it.
    #[error("the ZIP archive holds more than one file (send one archive a file)")]
    TwoMembers,
    /// The file in it is encrypted.
    #[error("the file in the ZIP archive is encrypted (send it without a password)")]
    Encrypted,
    /// It is stored in a way that this is not made for.
    #[error("the file in the ZIP archive is stored in a way that is not supported: {0}")]
    Unsupported(&'static str),
    /// The file is larger than allowed.
    #[error("the file in the ZIP archive is too big: more than {limit} bytes")]
    TooBig {
        /// The most bytes that are allowed.
        limit: u64,
    },
    /// The name does not fit its field.
    #[error("the name for the ZIP archive has {length} bytes, allowed are 65535")]
    NameTooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// The file does not pack to the size that was measured before.
    #[error("the file was changed in place while it was sent (send it again)")]
    Changed,
    /// Reading the file, or writing it, failed.
    #[error("reading or writing while packing failed: {0}")]
    Io(#[from] io::Error),
}

/// One piece of input or output, in bytes: deflate's own window.
const BUFFER: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    const ANY_SIZE: u64 = u64::MAX;

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        let size = pack(b"a.data", &mut &*content, &mut archive).unwrap();
        assert_eq!(size, archive.len() as u64);
        archive
    }

    fn unpacked(archive: &[u8], piece: usize, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let (mut unpacker, mut out) = (Unpacker::new(limit), Vec::new());
        archive.chunks(piece).try_for_each(|piece| unpacker.write(piece, &mut out))?;
        assert_eq!(unpacker.finish()?, out.len() as u64);
        Ok(out)
    }

    /// An archive in each of the forms that the format leaves open.
    #[derive(Debug, Clone, Copy)]
    struct Form {
        stored: bool,
        /// Sizes behind the data: with a signature, with 64-bit sizes.
        behind: Option<(bool, bool)>,
        zip64: bool,
    }

    impl Form {
        fn all() -> impl Iterator<Item = Self> {
            let behind =
                [None, Some((true, true)), Some((true, false)), Some((false, true)), Some((false, false))];
            let flags = [(true, true), (true, false), (false, true), (false, false)];
            behind.into_iter().flat_map(move |behind| {
                flags.into_iter().map(move |(stored, zip64)| Self { stored, behind, zip64 })
            })
        }

        fn archive(self, content: &[u8]) -> Vec<u8> {
            let data = if self.stored { content.to_vec() } else { deflated(content) };
            let mut crc = flate2::Crc::new();
            crc.update(content);
            let sizes = [data.len() as u64, content.len() as u64];
            let (mut behind, mut wide) = (crc.sum().to_le_bytes().to_vec(), Vec::new());
            for size in sizes {
                behind.extend_from_slice(&(size as u32).to_le_bytes());
                wide.splice(0..0, size.to_le_bytes());
            }
            let said = if self.zip64 { [&behind[..4], &[0xff; 8]].concat() } else { behind.clone() };
            let in_local = match self.behind {
                Some(_) if !self.stored => vec![0; 12],
                Some(_) => behind.clone(),
                None => said.clone(),
            };
            let descriptor = self.behind.map_or(Vec::new(), |(signed, long)| {
                let signature = if signed { &record::DESCRIPTOR[..] } else { b"" };
                let sizes = if long { sizes.map(u64::to_le_bytes).concat() } else { behind[4..].to_vec() };
                [signature, &behind[..4], &sizes].concat()
            });
            let extra =
                if self.zip64 { [&[1, 0, 16, 0], &wide[..]].concat() } else { vec![9, 9, 1, 0, 7, 1, 2] };
            let common = [
                20,
                0,
                if self.behind.is_some() { 8 } else { 0 },
                0,
                if self.stored { 0 } else { 8 },
                0,
                0,
                0,
                33,
                0,
            ];
            let lengths = [1, 0, extra.len() as u8, 0];

            let mut archive =
                [&record::LOCAL_FILE[..], &common, &in_local, &lengths, b"n", &extra, &data, &descriptor]
                    .concat();
            let at = archive.len() as u64;
            archive.extend(
                [&record::CENTRAL[..], &[45, 3], &common, &said, &lengths, &[0; 14], b"n", &extra].concat(),
            );
            let directory = [archive.len() as u64 - at, at];
            if self.zip64 {
                let place = directory.map(u64::to_le_bytes).concat();
                let end = archive.len() as u64;
                let one = 1u64.to_le_bytes();
                archive.extend(
                    [&record::END64[..], &44u64.to_le_bytes(), &[0; 12], &one, &one, &place].concat(),
                );
                archive.extend([&record::LOCATOR64[..], &[0; 4], &end.to_le_bytes(), &[1, 0, 0, 0]].concat());
                archive.extend([&record::END[..], &[0; 4], &[0xff; 12], &[0; 2]].concat());
            } else {
                let place = directory.map(|field| (field as u32).to_le_bytes()).concat();
                archive.extend([&record::END[..], &[0; 4], &[1, 0, 1, 0], &place, &[3, 0], b"etc"].concat());
            }
            archive
        }
    }

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, content).unwrap();
        encoder.finish().unwrap()
    }

    /// A recorded session, and the archive in it.
    fn recorded(session: &str) -> (serde_json::Value, Vec<u8>) {
        let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire").join(session);
        let session: serde_json::Value = serde_json::from_slice(&std::fs::read(wire).unwrap()).unwrap();
        let steps = session["steps"].as_array().unwrap();
        let archive = steps
            .iter()
            .flat_map(|step| step.as_object().unwrap().values())
            .flat_map(|pieces| pieces.as_array().cloned().unwrap_or_else(|| vec![pieces.clone()]))
            .find_map(|piece| piece["base64"].as_str().map(str::to_owned))
            .unwrap();
        let archive = base64::engine::general_purpose::STANDARD.decode(archive).unwrap();
        (session, archive)
    }

    #[test]
    fn the_archives_of_the_peers_are_unpacked() {
        let (session, archive) = recorded("server/zsend.json");
        let content = session["spool_after"]["a1.data"].as_str().unwrap();
        assert_eq!(unpacked(&archive, 7, ANY_SIZE).unwrap(), content.as_bytes());

        let (session, archive) = recorded("client/zsend.json");
        let content = session["files_before"]["a.data"].as_str().unwrap();
        assert_eq!(unpacked(&archive, 1000, ANY_SIZE).unwrap(), content.as_bytes());
    }

    #[test]
    fn every_form_of_the_format_is_unpacked_in_any_pieces() {
        let content = b"one two three two one ".repeat(20);
        for form in Form::all() {
            let archive = form.archive(&content);
            for piece in [1, 2, 13, 29, archive.len()] {
                let result = unpacked(&archive, piece, content.len() as u64);
                assert_eq!(result.unwrap(), content, "{form:?} in pieces of {piece}");
            }
            assert_eq!(unpacked(&form.archive(b""), 5, 0).unwrap(), b"", "{form:?}");
        }
    }

    #[test]
    fn two_passes_give_the_same_archive() {
        let content = vec![b'x'; 100_000];
        let announced = pack(b"a.data", &mut &*content, &mut io::sink()).unwrap();
        assert_eq!(announced, packed(&content).len() as u64);
        assert_eq!(packed(&content), packed(&content));
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_fails() {
        for archive in Form::all().map(|form| form.archive(b"abcabcabcabc")).chain([packed(b"abc")]) {
            for end in 0..archive.len() {
                assert!(unpacked(&archive[..end], 4096, ANY_SIZE).is_err(), "cut at {end}");
            }
            let cut = unpacked(&archive[..archive.len() - 1], 4096, ANY_SIZE);
            assert!(matches!(cut, Err(ArchiveError::Cut)), "{cut:?}");
        }
    }

    #[test]
    fn a_flipped_bit_never_gives_another_content() {
        let content = b"abcdefghabcdefgh 123";
        for archive in Form::all().map(|form| form.archive(content)).chain([packed(content)]) {
            for bit in 0..archive.len() * 8 {
                let mut archive = archive.clone();
                archive[bit / 8] ^= 1 << (bit % 8);
                if let Ok(out) = unpacked(&archive, 4096, ANY_SIZE) {
                    assert_eq!(out, content, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        for garbage in [&b"garbage"[..], &[b'x'; 100], b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            let refused = unpacked(garbage, 10, ANY_SIZE);
            assert!(matches!(refused, Err(ArchiveError::NotAnArchive)), "{refused:?}");
        }
        assert!(matches!(unpacked(b"", 10, ANY_SIZE), Err(ArchiveError::Cut)));
        let trailing = [packed(b"abc"), b"x".to_vec()].concat();
        assert!(matches!(unpacked(&trailing, 10, ANY_SIZE), Err(ArchiveError::Damaged(_))));
    }

    #[test]
    fn an_archive_with_two_files_is_refused() {
        for form in Form::all() {
            let one = form.archive(b"abc abc abc abc");
            let directory = one.windows(4).position(|bytes| bytes == record::CENTRAL).unwrap();
            let two = [&one[..directory], &one].concat();
            assert!(matches!(unpacked(&two, 9, ANY_SIZE), Err(ArchiveError::TwoMembers)), "{form:?}");
        }
        let one = packed(b"abc");
        let end = one.len() - record::END_SIZE;
        let directory = end - record::CENTRAL_SIZE - b"a.data".len();
        let twice_listed = [&one[..end], &one[directory..]].concat();
        assert!(matches!(unpacked(&twice_listed, 9, ANY_SIZE), Err(ArchiveError::TwoMembers)));
    }

    #[test]
    fn an_encrypted_file_is_refused() {
        let mut archive = packed(b"abc");
        archive[6] |= 1;
        assert!(matches!(unpacked(&archive, 9, ANY_SIZE), Err(ArchiveError::Encrypted)));
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let archive = packed(&vec![0; 10_000_000]);
        assert!(archive.len() < 20_000);
        let (mut unpacker, mut out) = (Unpacker::new(100_000), Vec::new());
        let refused = unpacker.write(&archive, &mut out);
        assert!(matches!(refused, Err(ArchiveError::TooBig { limit: 100_000 })));
        assert!(out.len() <= 100_000);
        assert!(unpacker.write(b"", &mut out).is_err());
        assert!(unpacker.finish().is_err());
    }

    #[test]
    fn a_file_of_just_the_limit_passes_and_one_byte_more_does_not() {
        for form in Form::all() {
            let archive = form.archive(b"0123456789");
            assert!(unpacked(&archive, 3, 10).is_ok());
            assert!(matches!(unpacked(&archive, 3, 9), Err(ArchiveError::TooBig { limit: 9 })));
        }
    }

    #[test]
    fn a_disk_that_is_full_is_told_apart_from_a_bad_archive() {
        let mut full: &mut [u8] = &mut [];
        let refused = Unpacker::new(ANY_SIZE).write(&packed(b"abc"), &mut full);
        assert!(matches!(refused, Err(ArchiveError::Io(_))));
        let mut full: &mut [u8] = &mut [];
        assert!(matches!(pack(b"n", &mut &b"abc"[..], &mut full), Err(ArchiveError::Io(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_out_again(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..50),
            repeat in 1_usize..40,
            piece in 1_usize..70_000,
        ) {
            let content = words.concat().repeat(repeat);
            prop_assert_eq!(unpacked(&packed(&content), piece, content.len() as u64).unwrap(), content);
        }

        #[test]
        fn no_bytes_panic(
            start in any::<prop::sample::Index>(),
            garbage in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let archive = packed(b"abcabcabc");
            let kept = start.index(archive.len() + 1);
            let _ = unpacked(&[&archive[..kept], &garbage].concat(), 11, 1000);
        }
    }
}
