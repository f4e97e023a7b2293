//! Names of files as they stand between `<` and `>` on the wire.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A file name that passed [`NameRules::check`]: never empty, `.` or `..`, at most [`MAX_NAME`] bytes, without
/// `/`, NUL, a newline or a byte that the rules refuse.
///
/// Names are bytes, as on the wire and on disk; they need not be UTF-8. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Arc<[u8]>);

impl FileName {
    /// The bytes as they go on the wire and to the disk.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for FileName {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for FileName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// For people: control characters escaped, what is not UTF-8 replaced by U+FFFD.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Which bytes a name must not hold.
///
/// The default is the set that the peers refuse, `? [ ] / \ = + < > : ; ' , * ~` (`docs/protocol.md`, "Names").
/// Whatever the set, `/`, NUL and newline are refused: they would leave the folder, end a path, end a command.
#[derive(Clone)]
pub struct NameRules {
    refused: [bool; 256],
}

impl NameRules {
    /// Rules from the value of `invalid_chars`, which replaces the default set.
    ///
    /// A backslash makes the next byte literal, as in the character class that the peers paste the value into;
    /// a lone backslash at the end stands for itself.
    pub fn from_invalid_chars(value: &[u8]) -> Self {
        let mut rules = Self { refused: [false; 256] };
        let mut bytes = value.iter().copied();
        while let Some(byte) = bytes.next() {
            let literal = if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte };
            rules.refuse(literal);
        }
        ALWAYS_REFUSED.iter().for_each(|&byte| rules.refuse(byte));
        rules
    }

    /// Turns `name` into a [`FileName`], or says why it is refused.
    pub fn check(&self, name: &[u8]) -> Result<FileName, NameError> {
        match name {
            b"" => return Err(NameError::Empty),
            b"." | b".." => return Err(NameError::Dots),
            _ => self.check_listing_argument(name)?,
        }
        Ok(FileName(name.into()))
    }

    /// Checks the argument of `LS <…>`, which only picks a folder: as [`check`](Self::check), but empty, `.` and
    /// `..` pass.
    pub fn check_listing_argument(&self, argument: &[u8]) -> Result<(), NameError> {
        if argument.len() > MAX_NAME {
            return Err(NameError::TooLong { length: argument.len() });
        }
        match argument.iter().position(|&byte| self.refused[usize::from(byte)]) {
            Some(offset) => Err(NameError::RefusedByte { byte: argument[offset], offset }),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, byte: u8) {
        self.refused[usize::from(byte)] = true;
    }
}

impl Default for NameRules {
    fn default() -> Self {
        Self::from_invalid_chars(PEERS_INVALID_CHARS)
    }
}

impl fmt::Debug for NameRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: Vec<u8> = (0..=u8::MAX).filter(|&byte| self.refused[usize::from(byte)]).collect();
        write!(f, "NameRules(\"{}\")", refused.escape_ascii())
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing between `<` and `>`.
    #[error("the file name is empty")]
    Empty,
    /// The name is `.` or `..`.
    #[error("the file name is '.' or '..', which are folders")]
    Dots,
    /// The name has more than [`MAX_NAME`] bytes.
    #[error("the file name has {length} bytes, allowed are {MAX_NAME}")]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// The name holds a byte that the rules refuse.
    #[error("the file name holds '{}' at byte {offset}, which invalid_chars refuses", .byte.escape_ascii())]
    RefusedByte {
        /// The first refused byte.
        byte: u8,
        /// Where it stands, counted from 0.
        offset: usize,
    },
}

/// The longest name in bytes: NAME_MAX of Linux file systems (limits.h(0p)).
pub const MAX_NAME: usize = 255;

const PEERS_INVALID_CHARS: &[u8] = br"\?\[\]\/\\\=\+\<\>\:\;\'\,\*\~";

const ALWAYS_REFUSED: &[u8] = b"/\0\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(name: &[u8]) -> NameError {
        NameRules::default().check(name).unwrap_err()
    }

    #[test]
    fn each_byte_that_the_peers_refuse_is_refused() {
        for &byte in b"?[]/\\=+<>:;',*~" {
            assert_eq!(refusal(&[b'a', byte, b'b']), NameError::RefusedByte { byte, offset: 1 });
        }
    }

    #[test]
    fn spaces_dots_and_bytes_outside_ascii_are_allowed() {
        for name in [&b"a b.data"[..], b"...", b".hidden", b"\xff\xfe", "é.conf".as_bytes(), b"a|b(c)$\t"] {
            assert_eq!(NameRules::default().check(name).unwrap().as_bytes(), name);
        }
    }

    #[test]
    fn what_no_folder_can_hold_is_refused_whatever_the_rules() {
        let rules = NameRules::from_invalid_chars(b"");
        assert_eq!(rules.check(b"").unwrap_err(), NameError::Empty);
        assert_eq!(rules.check(b".").unwrap_err(), NameError::Dots);
        assert_eq!(rules.check(b"..").unwrap_err(), NameError::Dots);
        for byte in [b'/', 0, b'\n'] {
            assert_eq!(rules.check(&[byte]).unwrap_err(), NameError::RefusedByte { byte, offset: 0 });
        }
        assert_eq!(rules.check(&[b'a'; 256]).unwrap_err(), NameError::TooLong { length: 256 });
        assert!(rules.check(&[b'a'; 255]).is_ok());
        assert!(rules.check(b"a*b?c").is_ok());
    }

    #[test]
    fn a_backslash_in_invalid_chars_makes_the_next_byte_literal() {
        let rules = NameRules::from_invalid_chars(br"\a\\b\");
        for byte in [b'a', b'\\', b'b'] {
            assert!(rules.check(&[byte]).is_err());
        }
        assert!(rules.check(b"c").is_ok());
        assert!(NameRules::from_invalid_chars(br"\a").check(br"\").is_ok());
    }

    #[test]
    fn a_listing_argument_may_be_empty_or_dots_but_holds_no_refused_byte() {
        let rules = NameRules::default();
        for argument in [&b""[..], b".", b"..", b".conf"] {
            assert_eq!(rules.check_listing_argument(argument), Ok(()));
        }
        assert!(rules.check_listing_argument(b"*.data").is_err());
        assert!(rules.check_listing_argument(b"../x").is_err());
    }

    #[test]
    fn a_shown_name_cannot_steer_a_terminal() {
        let name = NameRules::default().check(b"a\x1b[2J\xff").unwrap_err();
        assert_eq!(name.to_string(), "the file name holds '[' at byte 2, which invalid_chars refuses");
        let name = NameRules::default().check("é\x1b\r\u{85}\t".as_bytes()).unwrap();
        assert_eq!(name.to_string(), "é\\u{1b}\\r\\u{85}\\t");
        assert_eq!(NameRules::default().check(b"a\xff").unwrap().to_string(), "a\u{fffd}");
    }

    proptest! {
        #[test]
        fn a_file_name_is_always_one_component_of_a_path(
            invalid: Vec<u8>,
            name in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(name) = NameRules::from_invalid_chars(&invalid).check(&name) {
                let bytes = name.as_bytes();
                prop_assert!(!bytes.is_empty() && bytes.len() <= MAX_NAME);
                prop_assert!(bytes != b"." && bytes != b"..");
                prop_assert!(!bytes.iter().any(|byte| b"/\0\n".contains(byte)));
                prop_assert!(!name.to_string().chars().any(char::is_control));
            }
        }
    }
}
