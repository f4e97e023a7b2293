//! What a client asks for: one line each.

use bytes::Bytes;

/// A line that a client sends to a server, without its newline.
///
/// Names are as they came: whoever acts on a command checks them against its
/// own [`NameRules`](crate::NameRules), because the answer to a refused name
/// differs from verb to verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `PASS <hex>`: the digest of the password, as text.
    Pass(Bytes),
    /// `SEND <name> SIZE n` or `ZSEND <name> SIZE n`: a body of `size` bytes
    /// follows once the server agrees.
    Send {
        /// The name to store it under.
        name: Bytes,
        /// Bytes of the body on the wire. A number beyond 64 bits is
        /// [`u64::MAX`], which every bound refuses.
        size: u64,
        /// Whether the body is the file, or a ZIP archive of it.
        form: Form,
    },
    /// `RECV <name>` or `ZRECV <name>`: the file, which stays.
    Receive {
        /// The file's name.
        name: Bytes,
        /// Whether the body is to be the file, or a ZIP archive of it.
        form: Form,
    },
    /// `LS <filter>`: the names in the folder that the filters pick for the
    /// argument. No glob.
    List {
        /// What is run through the filters.
        filter: Bytes,
    },
    /// `MV <name>`: the file, which leaves the spool once its reader has
    /// shown that it has it.
    Move {
        /// The file's name.
        name: Bytes,
    },
    /// `FEATURES`: what this server can do beyond the peers' protocol. A
    /// server of the peers closes the connection, as it does on every
    /// command that it does not know.
    Features,
    /// `QUIT`: the session is over.
    Quit,
}

/// How the bytes of a file travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// As a ZIP archive with one member ([`crate::archive`]).
    Zip,
}

/// The word that a command and its replies begin with, where a body moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `SEND`
    Send,
    /// `ZSEND`
    Zsend,
    /// `RECV`
    Recv,
    /// `ZRECV`
    Zrecv,
    /// `LS`
    Ls,
    /// `MV`
    Mv,
}

impl Command {
    /// Reads a line without its newline. Commands match to the letter: `None`
    /// stands for everything else, on which a server closes the connection.
    pub fn parse(line: &Bytes) -> Option<Self> {
        match &line[..] {
            b"QUIT" => return Some(Self::Quit),
            b"FEATURES" => return Some(Self::Features),
            _ => {}
        }
        let space = line.iter().position(|&byte| byte == b' ')?;
        let rest = line.slice(space + 1..);
        match &line[..space] {
            b"PASS" => digest_text(rest).map(Self::Pass),
            b"SEND" => sized_name(rest, Form::Plain),
            b"ZSEND" => sized_name(rest, Form::Zip),
            b"RECV" => bracketed(rest).map(|name| Self::Receive { name, form: Form::Plain }),
            b"ZRECV" => bracketed(rest).map(|name| Self::Receive { name, form: Form::Zip }),
            b"LS" => bracketed(rest).map(|filter| Self::List { filter }),
            b"MV" => bracketed(rest).map(|name| Self::Move { name }),
            _ => None,
        }
    }

    /// Appends the line, with its newline.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Pass(digest) => out.extend_from_slice(&[b"PASS ", &digest[..]].concat()),
            Self::Send { name, size, form } => {
                write_bracketed(out, Verb::send(*form), name);
                out.extend_from_slice(format!(" SIZE {size}").as_bytes());
            }
            Self::Receive { name, form } => write_bracketed(out, Verb::receive(*form), name),
            Self::List { filter } => write_bracketed(out, Verb::Ls, filter),
            Self::Move { name } => write_bracketed(out, Verb::Mv, name),
            Self::Features => out.extend_from_slice(b"FEATURES"),
            Self::Quit => out.extend_from_slice(b"QUIT"),
        }
        out.push(b'\n');
    }
}

impl Verb {
    /// The verb that stores a file in this form.
    pub fn send(form: Form) -> Self {
        match form {
            Form::Plain => Self::Send,
            Form::Zip => Self::Zsend,
        }
    }

    /// The verb that fetches a file in this form.
    pub fn receive(form: Form) -> Self {
        match form {
            Form::Plain => Self::Recv,
            Form::Zip => Self::Zrecv,
        }
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "SEND",
            Self::Zsend => "ZSEND",
            Self::Recv => "RECV",
            Self::Zrecv => "ZRECV",
            Self::Ls => "LS",
            Self::Mv => "MV",
        }
    }

    pub(crate) fn of(word: &[u8]) -> Option<Self> {
        [Self::Send, Self::Zsend, Self::Recv, Self::Zrecv, Self::Ls, Self::Mv]
            .into_iter()
            .find(|verb| verb.as_str().as_bytes() == word)
    }
}

/// A decimal number; one beyond 64 bits is the largest there is, so that a
/// bound refuses it instead of a wrapped size passing.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

fn digest_text(rest: Bytes) -> Option<Bytes> {
    (!rest.is_empty()).then_some(rest)
}

/// `<name> SIZE n`. The name runs to the last `> SIZE n` that ends the line.
fn sized_name(rest: Bytes, form: Form) -> Option<Command> {
    const MARK: &[u8] = b"> SIZE ";
    let end = rest.windows(MARK.len()).rposition(|window| window == MARK)?;
    let size = number(&rest[end + MARK.len()..])?;
    rest.starts_with(b"<").then_some(())?;
    // `<` and `> SIZE ` cannot be the same byte, so 1 <= end.
    Some(Command::Send { name: rest.slice(1..end.max(1)), size, form })
}

fn bracketed(rest: Bytes) -> Option<Bytes> {
    (rest.len() >= 2 && rest.starts_with(b"<") && rest.ends_with(b">")).then(|| rest.slice(1..rest.len() - 1))
}

fn write_bracketed(out: &mut Vec<u8>, verb: Verb, name: &[u8]) {
    out.extend_from_slice(verb.as_str().as_bytes());
    out.extend_from_slice(b" <");
    out.extend_from_slice(name);
    out.push(b'>');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &[u8]) -> Option<Command> {
        Command::parse(&Bytes::copy_from_slice(line))
    }

    #[test]
    fn a_name_runs_to_the_last_bracket_that_lets_the_line_match() {
        let Some(Command::Send { name, size, .. }) = parse(b"SEND <a> SIZE 3> SIZE 4") else { panic!() };
        assert_eq!((&name[..], size), (&b"a> SIZE 3"[..], 4));
        assert_eq!(parse(b"RECV <<a>>"), Some(Command::Receive { name: "<a>".into(), form: Form::Plain }));
    }

    #[test]
    fn commands_match_to_the_letter() {
        let unknown: [&[u8]; 14] = [
            b"",
            b" QUIT",
            b"QUIT ",
            b"quit",
            b"SEND <a>",
            b"SEND <a> SIZE",
            b"SEND <a> SIZE ",
            b"SEND <a> SIZE -1",
            b"SEND <a> SIZE 1 ",
            b"SEND a> SIZE 1",
            b"RECV <a",
            b"RECV <",
            b"MV a",
            b"LS <a> ",
        ];
        for line in unknown {
            assert_eq!(parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_size_beyond_64_bits_is_the_largest() {
        let Some(Command::Send { size, .. }) = parse(b"SEND <a> SIZE 99999999999999999999999") else {
            panic!()
        };
        assert_eq!(size, u64::MAX);
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let name = proptest::collection::vec(any::<u8>().prop_filter("no newline", |b| *b != b'\n'), 0..300);
        let form = prop_oneof![Just(Form::Plain), Just(Form::Zip)];
        (name, any::<u64>(), form, 0..6).prop_map(|(name, size, form, kind)| match kind {
            0 => Command::Send { name: name.into(), size, form },
            1 => Command::Receive { name: name.into(), form },
            2 => Command::List { filter: name.into() },
            3 => Command::Move { name: name.into() },
            4 => Command::Features,
            _ => Command::Quit,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_parses_back(command in any_command()) {
            let mut line = Vec::new();
            command.write(&mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(Command::parse(&line.into()), Some(command));
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn no_line_that_is_almost_a_command_panics(line in "(Z?SEND|Z?RECV|MV|LS|PASS) ?<?[a> SIZE0-9]{0,20}") {
            let _ = parse(line.as_bytes());
        }
    }
}
