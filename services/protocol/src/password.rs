//! The digest that `PASS` carries.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// A password as it goes on the wire: `hex(md5(md5(password)))`, the inner digest as raw bytes
/// (`docs/protocol.md`, "Password").
///
/// Whoever has the digest can log in, so it is as secret as the password: it is not shown by `Debug`, and there
/// is no `==`, only [`matches`](Self::matches).
#[derive(Clone)]
pub struct PasswordDigest([u8; 32]);

impl PasswordDigest {
    /// The digest of a password given in clear.
    pub fn of(password: &[u8]) -> Self {
        let digest = Md5::digest(Md5::digest(password));
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
            pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
            pair[1] = HEX_DIGITS[usize::from(byte & 15)];
        }
        Self(hex)
    }

    /// The digest that a client sent: exactly 32 hexadecimal digits, the letters in lower case, because the peers
    /// compare text.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let hex: [u8; 32] = hex.try_into().ok()?;
        hex.iter().all(|digit| HEX_DIGITS.contains(digit)).then_some(Self(hex))
    }

    /// The 32 digits for the wire.
    pub fn to_hex(&self) -> [u8; 32] {
        self.0
    }

    /// Whether both are the same, in a time that does not tell how much of them is.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest(..)")
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; 32] = b"9e769017c85f064977fe6a658f207fa6";

    #[test]
    fn the_digest_is_the_one_that_the_peers_send() {
        assert_eq!(&PasswordDigest::of(b"secret").to_hex(), SECRET);
    }

    #[test]
    fn a_sent_digest_matches_its_own_password_alone() {
        let sent = PasswordDigest::from_hex(SECRET).unwrap();
        assert!(sent.matches(&PasswordDigest::of(b"secret")));
        assert!(!sent.matches(&PasswordDigest::of(b"Secret")));
    }

    #[test]
    fn only_thirty_two_lower_case_digits_are_a_digest() {
        for hex in [&b""[..], &SECRET[1..], b"9E769017C85F064977FE6A658F207FA6", &[b'g'; 32], &[b'0'; 33]] {
            assert!(PasswordDigest::from_hex(hex).is_none());
        }
    }

    #[test]
    fn a_log_line_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", PasswordDigest::of(b"secret")), "PasswordDigest(..)");
    }
}
