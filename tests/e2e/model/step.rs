//! What clients do.

use proptest::{collection::vec, prelude::*, sample::select};

/// A receiver's options, and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) overwrite: bool,
    pub(crate) password: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Turn(Turn),
    /// It ends as it is asked to, and is started again.
    Restart,
    /// It is killed, and started again.
    Kill,
}

/// What one of the clients does next: one thing where a command is due,
/// another where a body is.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) who: usize,
    pub(crate) ask: Ask,
    pub(crate) goes_on: GoesOn,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Send {
        name: Vec<u8>,
        body: Body,
        /// The body does not wait for the receiver's word.
        at_once: bool,
    },
    Receive {
        name: Vec<u8>,
        packed: bool,
    },
    List(Vec<u8>),
    Move(Vec<u8>),
    Features,
    WrongPassword,
    /// Of no command, or too long.
    Line(Vec<u8>),
    Quit,
    Leave,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Plain {
        size: usize,
        fill: u8,
    },
    Packed {
        size: usize,
        fill: u8,
    },
    /// Said to be an archive.
    NoArchive,
    /// Announced alone.
    TooBig(&'static str),
}

/// Where a body is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoesOn {
    /// To its end.
    Whole,
    /// By a part, if it is this side's.
    Part,
    /// This side does not want it.
    Declines,
    /// With a word that is no answer.
    Mumbles,
    /// Says that nothing more comes.
    Ends,
    Leaves,
}

/// The largest that is taken (`-m`).
pub(crate) const MAX_SIZE: usize = 200_000;

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let overwrite = prop::bool::weighted(0.5);
    let password = prop::bool::weighted(0.2);
    (overwrite, password, vec(step(), 1..70)).prop_map(|(overwrite, password, steps)| Case {
        overwrite,
        password,
        steps,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => turn().prop_map(Step::Turn),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    (0..3usize, ask(), goes_on()).prop_map(|(who, ask, goes_on)| Turn { who, ask, goes_on })
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        12 => (name(), body(), prop::bool::weighted(0.2))
            .prop_map(|(name, body, at_once)| Ask::Send { name, body, at_once }),
        6 => (name(), any::<bool>()).prop_map(|(name, packed)| Ask::Receive { name, packed }),
        4 => select(ARGUMENTS).prop_map(|argument| Ask::List(argument.to_vec())),
        14 => name().prop_map(Ask::Move),
        1 => Just(Ask::Features),
        1 => Just(Ask::WrongPassword),
        1 => line().prop_map(Ask::Line),
        2 => Just(Ask::Quit),
        2 => Just(Ask::Leave),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        10 => select(NAMES).prop_map(<[u8]>::to_vec),
        1 => select(REFUSED).prop_map(<[u8]>::to_vec),
        1 => Just(vec![b'a'; 255]),
        1 => Just(vec![b'a'; 256]),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let size = || select(vec![1_usize, 10, 5000, 70_000, MAX_SIZE]);
    prop_oneof![
        8 => (size(), any::<u8>()).prop_map(|(size, fill)| Body::Plain { size, fill }),
        4 => (prop_oneof![1 => Just(0), 8 => size()], any::<u8>())
            .prop_map(|(size, fill)| Body::Packed { size, fill }),
        1 => Just(Body::NoArchive),
        1 => select(vec!["0", "200001", "99999999999999999999999"]).prop_map(Body::TooBig),
    ]
}

fn goes_on() -> impl Strategy<Value = GoesOn> {
    prop_oneof![
        12 => Just(GoesOn::Whole),
        3 => Just(GoesOn::Part),
        2 => Just(GoesOn::Declines),
        1 => Just(GoesOn::Mumbles),
        1 => Just(GoesOn::Ends),
        1 => Just(GoesOn::Leaves),
    ]
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(UNKNOWN).prop_map(<[u8]>::to_vec),
        1 => Just(vec![b'R'; 9000]),
    ]
}

/// Few, so that clients meet.
const NAMES: &[&[u8]] = &[b"a.data", b"b.data", b"c d.data", b"e.conf", b"\xff.md5"];

const REFUSED: &[&[u8]] = &[b"", b".", b"..", b"a/b", b"../x", b"a*b", b".tentacle~part-1", b"a\0b"];

const ARGUMENTS: &[&[u8]] = &[b"", b".", b"x.data", b".conf", b".md5", b"*", b"../x"];

const UNKNOWN: &[&[u8]] =
    &[b"", b"quit", b"SEND <a>", b"SEND <a> SIZE -1", b"MV a.data", b"HELO x", b"SEND OK"];
