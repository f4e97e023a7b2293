//! The records of the format: how they are read, how long they are without their variable parts, and what they
//! begin with (APPNOTE 4.3).

/// A record that is there as a whole: offsets in it are fixed.
#[derive(Clone, Copy)]
pub(super) struct Record<'h>(pub(super) &'h [u8]);

impl Record<'_> {
    pub(super) fn is(self, signature: [u8; 4]) -> bool {
        self.0.starts_with(&signature)
    }

    /// Whether the 32-bit field at `at` says `value`, or that a ZIP64 field says it.
    pub(super) fn says(self, at: usize, value: u64) -> bool {
        let field = u64::from(self.u32(at));
        field == value || field == ELSEWHERE
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    fn bytes<const N: usize>(self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
    }
}

/// A 32-bit size that stands in the ZIP64 field (APPNOTE 4.4.8).
pub(super) const ELSEWHERE: u64 = u32::MAX as u64;

pub(super) const LOCAL_FILE: [u8; 4] = *b"PK\x03\x04";
pub(super) const LOCAL_FILE_SIZE: usize = 30;
pub(super) const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
pub(super) const CENTRAL: [u8; 4] = *b"PK\x01\x02";
pub(super) const CENTRAL_SIZE: usize = 46;
pub(super) const END64: [u8; 4] = *b"PK\x06\x06";
pub(super) const END64_SIZE: usize = 56;
pub(super) const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
pub(super) const LOCATOR64_SIZE: usize = 20;
pub(super) const END: [u8; 4] = *b"PK\x05\x06";
pub(super) const END_SIZE: usize = 22;

/// General-purpose bits (APPNOTE 4.4.4).
pub(super) const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
pub(super) const SIZES_BEHIND: u16 = 1 << 3;
pub(super) const PATCH: u16 = 1 << 5;
pub(super) const UTF8_NAME: u16 = 1 << 11;

pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;
