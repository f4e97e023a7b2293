//! What a server answers: one line each.

use std::fmt;

use bytes::Bytes;

use crate::command::{Verb, number};

/// A line that a server sends to a client, without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `PASS OK`
    PassOk,
    /// `SEND OK`, `LS OK` …: go on; after a body of `SEND` and `ZSEND`: the
    /// file is on the disk. Clients use the same line to say that they want
    /// the body that was announced.
    Ok(Verb),
    /// `RECV SIZE n` …: a body of so many bytes follows once the client agrees.
    Size(Verb, u64),
    /// `SEND ERR (reason)`, `MV ERR` …: the connection stays usable.
    Refused(Verb, Refusal),
    /// `FEATURES OK word word …`
    Features(Features),
}

/// Why a server refuses, in the peers' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `SEND`, `ZSEND`: the name holds a refused byte.
    InvalidName,
    /// `SEND`, `ZSEND`: the size is 0 or over the bound.
    TooBig,
    /// `SEND`, `ZSEND`: without `-o`, a name that is taken.
    Exists,
    /// `RECV`, `ZRECV`: there is no such file.
    Missing,
    /// `RECV`, `ZRECV`: the name holds a refused byte.
    InvalidRequest,
    /// No reason is given: all of `LS`, `MV`, and `ZSEND` of no archive.
    Unsaid,
    /// Any other reason. No peer looks at the words.
    Other(Box<str>),
}

/// What a server can do beyond the peers' protocol.
///
/// Words that are not known are passed over, so that the list can grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A file that `MV` handed out is removed by the next command of its
    /// reader and not before, and the answer to that command shows that it
    /// is gone for good (`two-phase-mv`).
    pub two_phase_move: bool,
}

impl Reply {
    /// Reads a line without its newline; `None` if it is no reply.
    pub fn parse(line: &Bytes) -> Option<Self> {
        if line == "PASS OK" {
            return Some(Self::PassOk);
        }
        if let Some(words) = line.strip_prefix(b"FEATURES OK") {
            return Features::parse(words).map(Self::Features);
        }
        let space = line.iter().position(|&byte| byte == b' ')?;
        let verb = Verb::of(&line[..space])?;
        let rest = &line[space + 1..];
        match rest {
            b"OK" => Some(Self::Ok(verb)),
            _ => match rest.strip_prefix(b"SIZE ") {
                Some(digits) => number(digits).map(|size| Self::Size(verb, size)),
                None => Refusal::parse(rest.strip_prefix(b"ERR")?).map(|why| Self::Refused(verb, why)),
            },
        }
    }

    /// Appends the line, with its newline.
    pub fn write(&self, out: &mut Vec<u8>) {
        let line = match self {
            Self::PassOk => "PASS OK\n".to_owned(),
            Self::Ok(verb) => format!("{} OK\n", verb.as_str()),
            Self::Size(verb, size) => format!("{} SIZE {size}\n", verb.as_str()),
            Self::Refused(verb, Refusal::Unsaid) => format!("{} ERR\n", verb.as_str()),
            Self::Refused(verb, why) => format!("{} ERR ({why})\n", verb.as_str()),
            Self::Features(features) => format!("FEATURES OK{features}\n"),
        };
        out.extend_from_slice(line.as_bytes());
    }
}

impl Refusal {
    /// What follows `ERR`: nothing, or a reason in parentheses.
    fn parse(rest: &[u8]) -> Option<Self> {
        if rest.is_empty() {
            return Some(Self::Unsaid);
        }
        let reason = rest.strip_prefix(b" (")?.strip_suffix(b")")?;
        let known = [Self::InvalidName, Self::TooBig, Self::Exists, Self::Missing, Self::InvalidRequest];
        let same = known.into_iter().find(|refusal| refusal.to_string().as_bytes() == reason);
        Some(same.unwrap_or_else(|| Self::Other(String::from_utf8_lossy(reason).into())))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidName => "invalid file name",
            Self::TooBig => "file is too big",
            Self::Exists => "file already exists",
            Self::Missing => "file does not exist",
            Self::InvalidRequest => "file has an invalid file name",
            Self::Unsaid => "no reason given",
            Self::Other(reason) => reason,
        })
    }
}

impl Features {
    fn parse(words: &[u8]) -> Option<Self> {
        if !(words.is_empty() || words.starts_with(b" ")) {
            return None;
        }
        let two_phase_move = words.split(|&byte| byte == b' ').any(|word| word == TWO_PHASE_MOVE.as_bytes());
        Some(Self { two_phase_move })
    }
}

/// Each word with a blank before it.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.two_phase_move { write!(f, " {TWO_PHASE_MOVE}") } else { Ok(()) }
    }
}

const TWO_PHASE_MOVE: &str = "two-phase-mv";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_are_the_peers() {
        let lines: [(Reply, &str); 6] = [
            (Reply::PassOk, "PASS OK\n"),
            (Reply::Ok(Verb::Zsend), "ZSEND OK\n"),
            (Reply::Refused(Verb::Send, Refusal::InvalidName), "SEND ERR (invalid file name)\n"),
            (
                Reply::Refused(Verb::Zrecv, Refusal::InvalidRequest),
                "ZRECV ERR (file has an invalid file name)\n",
            ),
            (Reply::Refused(Verb::Mv, Refusal::Unsaid), "MV ERR\n"),
            (Reply::Features(Features { two_phase_move: true }), "FEATURES OK two-phase-mv\n"),
        ];
        for (reply, line) in lines {
            let mut out = Vec::new();
            reply.write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), line);
        }
    }

    #[test]
    fn features_that_are_not_known_are_passed_over() {
        let line = Bytes::from_static(b"FEATURES OK many-mv two-phase-mv x");
        assert_eq!(Reply::parse(&line), Some(Reply::Features(Features { two_phase_move: true })));
        assert_eq!(Reply::parse(&Bytes::from_static(b"FEATURES OKtwo-phase-mv")), None);
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let verb = proptest::sample::select(vec![
            Verb::Send,
            Verb::Zsend,
            Verb::Recv,
            Verb::Zrecv,
            Verb::Ls,
            Verb::Mv,
        ]);
        let why = proptest::sample::select(vec![
            Refusal::InvalidName,
            Refusal::TooBig,
            Refusal::Exists,
            Refusal::Missing,
            Refusal::InvalidRequest,
            Refusal::Unsaid,
            Refusal::Other("x".into()),
        ]);
        (verb, any::<u64>(), why, any::<bool>(), 0..5).prop_map(|(verb, size, why, flag, kind)| match kind {
            0 => Reply::PassOk,
            1 => Reply::Ok(verb),
            2 => Reply::Size(verb, size),
            3 => Reply::Refused(verb, why),
            _ => Reply::Features(Features { two_phase_move: flag }),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_parses_back(reply in any_reply()) {
            let mut line = Vec::new();
            reply.write(&mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(Reply::parse(&line.into()), Some(reply));
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reply::parse(&line.into());
        }
    }
}
