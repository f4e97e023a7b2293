//! Perl's patterns in the engine's syntax.
//!
//! The result is ASCII: bytes that are not letters or digits and stand for themselves become `\xHH`, so nothing
//! that one language finds special and the other does not can slip through. Facts are from perlre(1),
//! perlrebackslash(1) and perlrecharclass(1).

use std::fmt::Write as _;

/// Translates one pattern. What is wrong with it beyond its escapes and classes is left to the engine to say.
pub(super) fn translate(pattern: &[u8]) -> Result<String, PatternError> {
    let mut translation = Translation { rest: pattern, out: String::new(), groups: 0 };
    while let Some(byte) = translation.next() {
        match byte {
            b'\\' => translation.escape()?,
            b'[' => translation.class()?,
            b'(' => translation.group()?,
            _ if byte.is_ascii() && byte != 0 => translation.out.push(char::from(byte)),
            _ => translation.literal(byte),
        }
    }
    Ok(translation.out)
}

/// What Perl would refuse too, or what a byte pattern cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("it ends in a lone backslash")]
    TrailingBackslash,
    #[error("a '[' has no ']'")]
    UnclosedClass,
    #[error("the range {from}-{to} in a [class] runs backwards")]
    BackwardRange { from: String, to: String },
    #[error("[:{0}:] is no class")]
    UnknownClass(String),
    #[error("a code in braces is not valid after '\\{0}'")]
    InvalidCode(char),
    #[error("the code {0:#x} is above 0xff, but names are bytes")]
    NotAByte(u32),
    #[error("the Unicode property {0} is not supported, because names are bytes")]
    Property(String),
    #[error("the group (?{0}…) is not supported")]
    GroupFlag(char),
    #[error("there is no group {0} before it is referred to")]
    NoSuchGroup(String),
}

struct Translation<'p> {
    rest: &'p [u8],
    out: String,
    /// Capture groups opened so far.
    groups: usize,
}

/// One element of a class: a byte, which may begin or end a range, or a set in the engine's syntax.
enum Element {
    Byte(u8),
    Set(String),
}

impl<'p> Translation<'p> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take_if(&mut self, prefix: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, most: usize, wanted: impl Fn(u8) -> bool) -> &'p [u8] {
        let length = self.rest.iter().take(most).take_while(|&&byte| wanted(byte)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// What stands between `open` and the next `close`, if it is there as a whole.
    fn take_between(&mut self, open: u8, close: u8) -> Option<&'p [u8]> {
        let inner = self.rest.strip_prefix(&[open])?;
        let end = inner.iter().position(|&byte| byte == close)?;
        self.rest = &inner[end + 1..];
        Some(&inner[..end])
    }

    fn literal(&mut self, byte: u8) {
        push_literal(&mut self.out, byte);
    }

    fn group(&mut self) -> Result<(), PatternError> {
        if let Some(after) = self.rest.strip_prefix(b"?") {
            // The engine has flags of its own under letters that recurse or do nothing of the kind in Perl.
            let flags = after.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-');
            let end = after.get(flags.clone().count());
            let foreign = flags.copied().find(|flag| b"RUu".contains(flag));
            if let (Some(flag), Some(b')' | b':')) = (foreign, end) {
                return Err(PatternError::GroupFlag(char::from(flag)));
            }
        }
        if self.captures() {
            self.groups += 1;
        }
        self.out.push('(');
        Ok(())
    }

    /// Whether the group that opens here captures.
    fn captures(&self) -> bool {
        let starts = |openings: &[&[u8]]| openings.iter().any(|opening| self.rest.starts_with(opening));
        let named = starts(&[b"?<", b"?'", b"?P<"]) && !starts(&[b"?<=", b"?<!"]);
        named || !starts(&[b"?", b"*"])
    }

    /// After a backslash outside of a class.
    fn escape(&mut self) -> Result<(), PatternError> {
        let byte = self.next().ok_or(PatternError::TrailingBackslash)?;
        match byte {
            b'w' | b'W' | b'd' | b'D' | b's' | b'S' | b'b' | b'B' | b'A' | b'K' => {
                self.out.extend(['\\', char::from(byte)]);
            }
            b'z' | b'Z' if self.at_an_end() => self.out.push_str("\\z"),
            b'G' => self.out.push_str("\\A"),
            b'N' => self.out.push_str("[^\\n]"),
            b'X' => self.out.push_str("(?s:.)"),
            b'R' => self.out.push_str("(?>\\r\\n|[\\n\\x0B\\f\\r\\x85])"),
            b'V' => self.out.push_str("[^\\n\\x0B\\f\\r\\x85]"),
            b'Q' => self.quoted(),
            b'E' => {}
            b'k' => self.named_reference(),
            b'g' => self.reference()?,
            b'1'..=b'9' => self.number(byte)?,
            _ => match self.shared_escape(byte)? {
                Element::Byte(byte) => self.literal(byte),
                Element::Set(set) => {
                    let _ = write!(self.out, "[{set}]");
                }
            },
        }
        Ok(())
    }

    /// `\z` is an anchor only where one makes sense; `\zip` is an extension.
    fn at_an_end(&self) -> bool {
        matches!(self.rest.first(), None | Some(b')' | b'|'))
    }

    fn quoted(&mut self) {
        while !self.rest.is_empty() && !self.take_if(b"\\E") {
            let byte = self.rest[0];
            self.rest = &self.rest[1..];
            self.literal(byte);
        }
    }

    fn named_reference(&mut self) {
        let name = [(b'<', b'>'), (b'{', b'}'), (b'\'', b'\'')]
            .into_iter()
            .find_map(|(open, close)| self.take_between(open, close));
        match name {
            Some(name) => self.push_named_reference(name),
            None => self.literal(b'k'),
        }
    }

    fn push_named_reference(&mut self, name: &[u8]) {
        let _ = write!(self.out, "\\k<{}>", name.escape_ascii());
    }

    /// `\g1`, `\g{1}`, `\g{-1}`, `\g{name}`; `\gz` is an extension.
    fn reference(&mut self) -> Result<(), PatternError> {
        let inner = match self.take_between(b'{', b'}') {
            Some(inner) => inner,
            None => self.take_while(3, |byte| byte.is_ascii_digit()),
        };
        let text = String::from_utf8_lossy(inner);
        match text.parse::<i64>() {
            _ if inner.is_empty() => self.literal(b'g'),
            Err(_) => self.push_named_reference(inner),
            Ok(number) => {
                let groups = i64::try_from(self.groups).unwrap_or(i64::MAX);
                let group = if number < 0 { groups.saturating_add(number).saturating_add(1) } else { number };
                if group < 1 || group > groups {
                    return Err(PatternError::NoSuchGroup(text.into_owned()));
                }
                let _ = write!(self.out, "(?:\\{group})");
            }
        }
        Ok(())
    }

    /// `\1` to `\9` refer to a group; more digits do if there are that many groups, and are an octal code if not.
    fn number(&mut self, first: u8) -> Result<(), PatternError> {
        let more = self.rest.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        let digits = &self.rest[..more];
        let group = digits
            .iter()
            .fold(usize::from(first - b'0'), |number, digit| number * 10 + usize::from(digit - b'0'));
        if group <= self.groups {
            self.rest = &self.rest[more..];
            let _ = write!(self.out, "(?:\\{group})");
            return Ok(());
        }
        if more == 0 || first > b'7' {
            return Err(PatternError::NoSuchGroup(group.to_string()));
        }
        let code = self.octal(first);
        self.literal(code);
        Ok(())
    }

    /// Up to three octal digits, of which the first is read already; what does not fit a byte is cut as C does.
    fn octal(&mut self, first: u8) -> u8 {
        self.take_while(2, |byte| matches!(byte, b'0'..=b'7'))
            .iter()
            .fold(first - b'0', |code, digit| code.wrapping_mul(8).wrapping_add(digit - b'0'))
    }

    /// What means the same within a class and outside of it.
    fn shared_escape(&mut self, byte: u8) -> Result<Element, PatternError> {
        let set = match byte {
            b'h' => "\\x09\\x20\\xA0",
            b'H' => "^\\x09\\x20\\xA0",
            b'0' => return Ok(Element::Byte(self.octal(byte))),
            b'x' | b'o' => return self.code(byte),
            b'p' | b'P' => return self.property(byte),
            // Of the others, all that Perl knows are control characters and changes of case.
            _ => return Ok(Element::Byte(byte)),
        };
        Ok(Element::Set(set.to_owned()))
    }

    /// `\x41`, `\x{41}`, `\o{101}`; `\xml` and `\out` are extensions.
    fn code(&mut self, letter: u8) -> Result<Element, PatternError> {
        let radix = if letter == b'x' { 16 } else { 8 };
        let digits = match self.take_between(b'{', b'}') {
            Some(inner) => inner.trim_ascii(),
            None if letter == b'x' => match self.take_while(2, |byte| byte.is_ascii_hexdigit()) {
                b"" => return Ok(Element::Byte(letter)),
                digits => digits,
            },
            None => return Ok(Element::Byte(letter)),
        };
        let code = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| u32::from_str_radix(digits, radix).ok())
            .ok_or(PatternError::InvalidCode(char::from(letter)))?;
        u8::try_from(code).map(Element::Byte).map_err(|_| PatternError::NotAByte(code))
    }

    /// The ASCII part of the commonest properties; `\png` is an extension.
    fn property(&mut self, letter: u8) -> Result<Element, PatternError> {
        let name = match self.take_between(b'{', b'}') {
            Some(name) => name,
            None => match self.take_while(1, |byte| byte.is_ascii_uppercase()) {
                b"" => return Ok(Element::Byte(letter)),
                name => name,
            },
        };
        let class = match name {
            b"L" | b"Alpha" | b"Letter" => "alpha",
            b"Lu" | b"Upper" | b"Uppercase" => "upper",
            b"Ll" | b"Lower" | b"Lowercase" => "lower",
            b"N" | b"Nd" | b"Digit" => "digit",
            b"Alnum" => "alnum",
            b"Space" => "space",
            b"Word" => "word",
            _ => return Err(PatternError::Property(name.escape_ascii().to_string())),
        };
        Ok(Element::Set(format!("[:{}{class}:]", if letter == b'P' { "^" } else { "" })))
    }

    /// After the `[` that opens a class.
    fn class(&mut self) -> Result<(), PatternError> {
        let open = if self.take_if(b"^") { "[^" } else { "[" };
        self.out.push_str(open);
        let mut first = true;
        while first || !self.take_if(b"]") {
            first = false;
            match self.element()? {
                Element::Set(set) => self.out.push_str(&nested(&set)),
                Element::Byte(from) if self.range_follows() => {
                    self.take_if(b"-");
                    match self.element()? {
                        Element::Byte(to) => self.range(from, to)?,
                        Element::Set(set) => {
                            self.literal(from);
                            self.literal(b'-');
                            self.out.push_str(&nested(&set));
                        }
                    }
                }
                Element::Byte(byte) => self.literal(byte),
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn range_follows(&self) -> bool {
        matches!(self.rest, [b'-', after, ..] if *after != b']')
    }

    fn range(&mut self, from: u8, to: u8) -> Result<(), PatternError> {
        if from > to {
            let shown = |byte: u8| byte.escape_ascii().to_string();
            return Err(PatternError::BackwardRange { from: shown(from), to: shown(to) });
        }
        self.literal(from);
        self.out.push('-');
        self.literal(to);
        Ok(())
    }

    fn element(&mut self) -> Result<Element, PatternError> {
        let byte = self.next().ok_or(PatternError::UnclosedClass)?;
        match byte {
            b'[' if self.rest.starts_with(b":") => self.posix_class(),
            b'\\' => self.class_escape(),
            _ => Ok(Element::Byte(byte)),
        }
    }

    /// `[:alpha:]` and its like; a `[` that begins none is a literal.
    fn posix_class(&mut self) -> Result<Element, PatternError> {
        let Some(end) = self.rest.windows(2).position(|pair| pair == b":]").filter(|&end| end > 0) else {
            return Ok(Element::Byte(b'['));
        };
        let inner = &self.rest[1..end];
        let name = inner.strip_prefix(b"^").unwrap_or(inner);
        if !name.iter().all(u8::is_ascii_alphabetic) {
            return Ok(Element::Byte(b'['));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if !POSIX_CLASSES.contains(&name.as_str()) {
            return Err(PatternError::UnknownClass(name));
        }
        self.rest = &self.rest[end + 2..];
        let not = if inner.starts_with(b"^") { "^" } else { "" };
        Ok(Element::Set(format!("[:{not}{name}:]")))
    }

    /// After a backslash within a class. Here, unlike outside, `\t` and its like are control characters: `[\r\n\t]`
    /// is a phrase of the language, and nobody puts a backslash before a letter of a set.
    fn class_escape(&mut self) -> Result<Element, PatternError> {
        let byte = self.next().ok_or(PatternError::UnclosedClass)?;
        Ok(match byte {
            b'w' | b'W' | b'd' | b'D' | b's' | b'S' => Element::Set(format!("\\{}", char::from(byte))),
            b'a' => Element::Byte(0x07),
            b'b' => Element::Byte(0x08),
            b't' => Element::Byte(b'\t'),
            b'n' => Element::Byte(b'\n'),
            b'f' => Element::Byte(0x0c),
            b'r' => Element::Byte(b'\r'),
            b'e' => Element::Byte(0x1b),
            b'1'..=b'7' => Element::Byte(self.octal(byte)),
            _ => self.shared_escape(byte)?,
        })
    }
}

/// A set as an element of a class.
fn nested(set: &str) -> String {
    if set.starts_with('^') { format!("[{set}]") } else { set.to_owned() }
}

fn push_literal(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "\\x{byte:02X}");
    }
}

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
