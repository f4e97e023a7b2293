use ::tests::{Recording, Step};
use proptest::{collection::vec, prelude::*};

use super::{Speaker::*, *};

/// What one side sends, and who.
type Piece = (Speaker, Vec<u8>);

#[test]
fn every_recorded_session_is_read_as_what_it_was() {
    let recordings = Recording::of_server();
    assert_eq!(recordings.len(), RECORDED.len());
    for (recording, (name, expected)) in recordings.iter().zip(RECORDED) {
        assert_eq!(recording.name, *name);
        let pieces = pieces(recording);
        assert_eq!(said(&pieces), *expected, "{name}");
        assert_eq!(said(&byte_by_byte(&pieces)), *expected, "{name}, byte by byte");
        let at_once = [Client, Server].map(|from| (from, all_from(from, &pieces)));
        assert_eq!(said(&at_once), *expected, "{name}, in one piece");
    }
}

#[test]
fn a_body_is_not_read_even_if_it_looks_like_commands() {
    let sent = [
        (Client, b"SEND <a> SIZE 10\nQUIT\nQUIT\nQUIT\n".to_vec()),
        (Server, b"SEND OK\nSEND OK\n".to_vec()),
    ];
    assert_eq!(said(&sent), ["SEND <a> 10", "QUIT"]);
    let fetched = [
        (Client, b"RECV <a>\nRECV OK\nQUIT\n".to_vec()),
        (Server, b"RECV SIZE 16\nSEND OK\nSEND OK\n".to_vec()),
    ];
    assert_eq!(said(&fetched), ["RECV <a> 16", "QUIT"]);
}

#[test]
fn what_was_sent_ahead_of_a_refusal_is_commands() {
    let refusal = (Server, b"SEND ERR (file is too big)\n".to_vec());
    let refused = "SEND <a> refused: file is too big";
    let read_on = [(Client, b"SEND <a> SIZE 5\nQUIT\n".to_vec()), refusal.clone()];
    assert_eq!(said(&read_on), [refused, "QUIT"]);
    let body = [(Client, [b"SEND <a> SIZE 90000\n", &[b'x'; 90_000][..]].concat()), refusal];
    assert_eq!(said(&body), [refused, "foreign: an unknown command"]);
}

#[test]
fn who_is_far_ahead_of_the_answers_waits_for_them() {
    let mut inspector = Inspector::new(false);
    let mut sent = 0;
    inspector.feed(Client, b"SEND <a> SIZE 1000000\n");
    while inspector.listens(Client) {
        assert_eq!(inspector.feed(Client, &[b'x'; 9000]), (9000, vec![]));
        assert_eq!(inspector.ahead(Client), 0);
        sent += 9000;
    }
    assert_eq!(sent, 36_000);
    inspector.feed(Server, b"SEND OK\n");
    assert!(inspector.listens(Client));
    assert_eq!(inspector.ahead(Client), 1_000_000 - 36_000);
    assert_eq!(inspector.client.len(), 0);
    assert_eq!(inspector.feed(Client, &[b'x'; 1_000_000 - 36_001]), (1_000_000 - 36_001, vec![]));
    assert_eq!(inspector.feed(Client, b"xQUIT\n").1, []);
    let transfer = Transfer { verb: Verb::Send, name: "a".into(), size: 1_000_000, journey: None };
    assert_eq!(inspector.feed(Server, b"SEND OK\n").1, [Event::Passed(transfer), Event::Quit]);
    inspector.feed(Client, &[b'x'; 90_000]);
    assert!(inspector.listens(Client), "to what nobody reads");
}

#[test]
fn much_that_is_ahead_is_read_in_little_time() {
    let count = 700_000;
    let mut inspector = Inspector::new(false);
    inspector.feed(Client, &b"FEATURES\n".repeat(count));
    inspector.feed(Server, &b"FEATURES OK\n".repeat(count));
    assert_eq!((inspector.client.len(), inspector.server.len()), (0, 0));
    assert!(matches!(inspector.phase, Phase::Command));
}

#[test]
fn a_strict_one_holds_what_may_turn_out_to_be_something_else() {
    let mut inspector = Inspector::new(true);
    let mut passed = Vec::new();
    let mut client = |inspector: &mut Inspector, bytes: &[u8]| {
        let (straight, events) = inspector.feed(Client, bytes);
        passed.extend_from_slice(&bytes[..straight]);
        passed.extend(inspector.released(Client));
        (passed.len(), events)
    };
    assert_eq!(client(&mut inspector, b"SEND <a> SIZ"), (0, vec![]));
    assert_eq!(client(&mut inspector, b"E 3\nabcQU").0, 16, "the line, and nothing that may be refused");
    assert_eq!(inspector.feed(Server, b"SEND OK\n"), (8, vec![]));
    assert_eq!(client(&mut inspector, b"I").0, 19, "the body");
    inspector.feed(Server, b"SEND OK\n");
    assert_eq!(client(&mut inspector, b"T\n"), (24, vec![Event::Quit]));
    assert_eq!(client(&mut inspector, b"x"), (24, vec![Event::Foreign(Foreign::BehindQuit)]));
    assert_eq!(passed, b"SEND <a> SIZE 3\nabcQUIT\n");
}

#[test]
fn what_is_not_tentacle_is_known_by_its_first_bytes() {
    let command = "foreign: an unknown command";
    for start in [&b"GET / HTTP/1.1\r\n"[..], b"SENT", b"PASS\t", b"\n", b"send <a> SIZE 1\n"] {
        assert_eq!(said(&[(Client, start.to_vec())]), [command], "{}", start.escape_ascii());
    }
    let hello = b"\x16\x03\x01\x02\0\n".to_vec();
    assert_eq!(said(&[(Client, hello)]), ["foreign: TLS, which only its two ends can read"]);
    assert_eq!(said(&[(Server, b"220 mail.example\r\n".to_vec())]), ["foreign: the server spoke unasked"]);
    let long = [b"SEND <", &[b'a'; MAX_LINE][..]].concat();
    assert_eq!(said(&[(Client, long)]), ["foreign: a line of more than 65536 bytes"]);
    let mut inspector = Inspector::new(false);
    inspector.feed(Client, b"GET");
    assert_eq!([Client, Server].map(|from| inspector.ahead(from)), [u64::MAX; 2]);
}

#[test]
fn a_session_that_ends_early_says_what_it_cut() {
    let cut: [(&[Piece], &str); 3] = [
        (
            &[(Client, b"SEND <a> SIZE 5\nabc".to_vec()), (Server, b"SEND OK\n".to_vec())],
            "SEND <a> cut short",
        ),
        (
            &[(Client, b"SEND <a> SIZE 3\nabc".to_vec()), (Server, b"SEND OK\n".to_vec())],
            "SEND <a> cut short",
        ),
        (&[(Client, b"MV <a>\nMV OK\n".to_vec()), (Server, b"MV SIZE 5\nabc".to_vec())], "MV <a> cut short"),
    ];
    for (pieces, expected) in cut {
        assert_eq!(said(pieces), [expected]);
    }
}

proptest! {
    #[test]
    fn whatever_pieces_a_session_comes_in_it_is_read_the_same(
        pieces in vec(any_piece(), 0..12),
        cuts in vec(1..3000usize, 0..200),
    ) {
        prop_assert_eq!(said(&cut(&pieces, &cuts)), said(&pieces));
    }

    #[test]
    fn a_session_in_turn_and_one_ahead_of_its_answers_are_read_the_same(
        transfers in vec(any_transfer(), 0..6),
        cuts in vec(1..200usize, 0..200),
    ) {
        let pieces: Vec<_> = transfers.iter().flat_map(|(pieces, _)| pieces.clone()).collect();
        let expected: Vec<_> = transfers.iter().filter_map(|(_, said)| said.clone()).collect();
        prop_assert_eq!(said(&cut(&pieces, &cuts)), expected.clone());
        let ahead = [Client, Server].map(|from| (from, all_from(from, &pieces)));
        prop_assert_eq!(said(&cut(&ahead, &cuts)), expected);
    }

    #[test]
    fn a_strict_one_passes_all_of_a_session_and_nothing_before_its_turn(
        transfers in vec(any_transfer(), 0..6),
        cuts in vec(1..200usize, 0..200),
    ) {
        let mut pieces: Vec<_> = transfers.into_iter().flat_map(|(pieces, _)| pieces).collect();
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        let mut inspector = Inspector::new(true);
        let mut in_turn = Vec::new();
        // All of the client's at once, and then the answers one by one.
        let (straight, _) = inspector.feed(Client, &all_from(Client, &pieces));
        prop_assert_eq!(straight, 0);
        for piece in &pieces {
            let (from, bytes) = piece;
            match from {
                Client => in_turn.extend_from_slice(bytes),
                Server => {
                    prop_assert_eq!(inspector.released(Client), mem::take(&mut in_turn));
                    inspector.feed(Server, bytes);
                }
            }
        }
        prop_assert_eq!(inspector.released(Client), in_turn);
        // In whatever pieces it comes.
        let mut inspector = Inspector::new(true);
        let mut passed = Vec::new();
        for (from, bytes) in cut(&pieces, &cuts) {
            let (straight, _) = inspector.feed(from, &bytes);
            if from == Client {
                passed.extend_from_slice(&bytes[..straight]);
            }
            passed.extend(inspector.released(Client));
        }
        prop_assert_eq!(passed, all_from(Client, &pieces));
    }
}

/// A piece of a session that may make no sense.
fn any_piece() -> impl Strategy<Value = Piece> {
    let said = prop_oneof![
        vec(any::<u8>(), 0..300),
        (0..90_000usize).prop_map(|size| vec![b'x'; size]),
        "(Z?SEND) <[a-c]{0,3}> SIZE [0-9]{1,5}\n".prop_map(String::into_bytes),
        "(Z?RECV|MV|LS) <[a-c]{0,3}>\n".prop_map(String::into_bytes),
        "(Z?SEND|Z?RECV|MV|LS|PASS) (OK|SIZE [0-9]{1,5}|ERR|ERR \\(no\\))\n".prop_map(String::into_bytes),
        "(PASS 00|QUIT|FEATURES|FEATURES OK)\n".prop_map(String::into_bytes),
    ];
    (prop_oneof![Just(Client), Just(Server)], said)
}

/// A command with all that belongs to it, and what is said of it.
fn any_transfer() -> impl Strategy<Value = (Vec<Piece>, Option<String>)> {
    (vec(any::<u8>(), 0..500), 0..5).prop_map(|(body, kind)| {
        let size = body.len();
        let text = |from, text: String| (from, text.into_bytes());
        match kind {
            0 => (
                vec![
                    text(Client, format!("SEND <a> SIZE {size}\n")),
                    text(Server, "SEND OK\n".into()),
                    (Client, body),
                    text(Server, "SEND OK\n".into()),
                ],
                Some(format!("SEND <a> {size}")),
            ),
            1 => (
                vec![
                    text(Client, format!("ZSEND <a> SIZE {size}\n")),
                    text(Server, "ZSEND ERR (no)\n".into()),
                ],
                Some("ZSEND <a> refused: no".into()),
            ),
            2 => (
                vec![
                    text(Client, "MV <a>\n".into()),
                    text(Server, format!("MV SIZE {size}\n")),
                    text(Client, "MV OK\n".into()),
                    (Server, body),
                ],
                Some(format!("MV <a> {size}")),
            ),
            3 => (
                vec![
                    text(Client, "LS <a>\n".into()),
                    text(Server, format!("LS SIZE {size}\n")),
                    text(Client, "LS NO\n".into()),
                ],
                None,
            ),
            _ => (vec![text(Client, "FEATURES\n".into()), text(Server, "FEATURES OK\n".into())], None),
        }
    })
}

fn pieces(recording: &Recording) -> Vec<Piece> {
    let of = |step: &Step| match step {
        Step::Send(pieces) => pieces.iter().map(|piece| (Client, piece.clone())).collect(),
        Step::Recv { bytes, .. } => vec![(Server, bytes.clone())],
        Step::Closed => Vec::new(),
    };
    recording.steps.iter().flat_map(of).collect()
}

fn byte_by_byte(pieces: &[Piece]) -> Vec<Piece> {
    pieces.iter().flat_map(|(from, bytes)| bytes.iter().map(|&byte| (*from, vec![byte]))).collect()
}

fn all_from(from: Speaker, pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().filter(|piece| piece.0 == from).flat_map(|(_, bytes)| bytes.clone()).collect()
}

/// The same bytes in the same order, in pieces of these sizes.
fn cut(pieces: &[Piece], sizes: &[usize]) -> Vec<Piece> {
    let mut sizes = sizes.iter().copied();
    let mut cut = Vec::new();
    for (from, bytes) in pieces {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(sizes.next().unwrap_or(usize::MAX).min(rest.len()));
            cut.push((*from, piece.to_vec()));
            rest = more;
        }
    }
    cut
}

/// What an inspector says of a session.
fn said(pieces: &[Piece]) -> Vec<String> {
    let mut inspector = Inspector::new(false);
    let mut events = Vec::new();
    for (from, bytes) in pieces {
        events.extend(inspector.feed(*from, bytes).1);
    }
    events.extend(inspector.finish());
    events.iter().filter_map(in_words).collect()
}

fn in_words(event: &Event) -> Option<String> {
    let of = |Transfer { verb, name, .. }: &Transfer| {
        format!("{} <{}>", verb.as_str(), String::from_utf8_lossy(name))
    };
    Some(match event {
        Event::Asked => return None,
        Event::Passed(transfer) => format!("{} {}", of(transfer), transfer.size),
        Event::Refused(transfer, Some(why)) => format!("{} refused: {why}", of(transfer)),
        Event::Refused(transfer, None) => format!("{} refused in silence", of(transfer)),
        Event::CutShort(transfer) => format!("{} cut short", of(transfer)),
        Event::Password(true) => "PASS accepted".into(),
        Event::Password(false) => "PASS refused".into(),
        Event::Quit => "QUIT".into(),
        Event::Foreign(why) => format!("foreign: {why}"),
    })
}

const RECORDED: &[(&str, &[&str])] = &[
    ("bad_size", &["foreign: an unknown command"]),
    ("command_too_long", &["foreign: an unknown command"]),
    ("lower_case", &["foreign: an unknown command"]),
    ("ls", &["LS <> 32", "QUIT"]),
    ("ls_filter", &["LS <.conf> 19", "LS <nothing-matches> 17", "QUIT"]),
    ("ls_invalid", &["LS <*.data> refused: no reason given", "QUIT"]),
    ("ls_refused_by_client", &["QUIT"]),
    ("ls_without_I", &["LS <> refused in silence"]),
    ("mv", &["MV <a.data> 12", "MV <a.data> refused: no reason given", "MV <b.data> 1", "QUIT"]),
    ("mv_errors", &["MV <none.data> refused: no reason given", "MV <../x> refused: no reason given", "QUIT"]),
    ("mv_filters", &["MV <a.conf> 3", "QUIT"]),
    ("mv_refused_by_client", &["QUIT"]),
    ("mv_without_I", &["MV <a.data> refused in silence"]),
    ("pass_missing", &["SEND <a.data> refused in silence"]),
    ("pass_not_asked", &["PASS refused"]),
    ("pass_ok", &["PASS accepted", "SEND <a.data> 1", "QUIT"]),
    ("pass_wrong", &["PASS refused"]),
    ("quit_with_spaces", &["foreign: an unknown command"]),
    ("recv", &["RECV <a.data> 12", "QUIT"]),
    ("recv_filters", &["RECV <a.conf> 3", "QUIT"]),
    (
        "recv_missing",
        &[
            "RECV <none.data> refused: file does not exist",
            "RECV <../x> refused: file has an invalid file name",
            "ZRECV <none.data> refused: file does not exist",
            "ZRECV <../x> refused: file has an invalid file name",
            "QUIT",
        ],
    ),
    ("recv_refused_by_client", &["RECV <a.data> 5", "QUIT"]),
    ("send", &["SEND <a1.data> 5", "QUIT"]),
    ("send_body_cut_short", &["SEND <a.data> cut short"]),
    ("send_empty", &["SEND <a.data> refused: file is too big", "QUIT"]),
    ("send_exists", &["SEND <a.data> refused: file already exists", "SEND <b.data> 3", "QUIT"]),
    ("send_filters", &["SEND <a.conf> 1", "SEND <a.md5> 1", "SEND <a.data> 1", "QUIT"]),
    (
        "send_invalid_name_chars",
        &[
            "SEND <a?b> refused: invalid file name",
            "SEND <a[b> refused: invalid file name",
            "SEND <a]b> refused: invalid file name",
            "SEND <a/b> refused: invalid file name",
            "SEND <a\\b> refused: invalid file name",
            "SEND <a=b> refused: invalid file name",
            "SEND <a+b> refused: invalid file name",
            "SEND <a<b> refused: invalid file name",
            "SEND <a>b> refused: invalid file name",
            "SEND <a:b> refused: invalid file name",
            "SEND <a;b> refused: invalid file name",
            "SEND <a'b> refused: invalid file name",
            "SEND <a,b> refused: invalid file name",
            "SEND <a*b> refused: invalid file name",
            "SEND <a~b> refused: invalid file name",
            "QUIT",
        ],
    ),
    (
        "send_invalid_name_slash",
        &[
            "SEND <../a.data> refused: invalid file name",
            "SEND <x/a.data> refused: invalid file name",
            "QUIT",
        ],
    ),
    ("send_name_with_space", &["SEND <my host@1.data> 1", "SEND <café.data> 1", "QUIT"]),
    ("send_overwrite", &["SEND <a.data> 3", "QUIT"]),
    ("send_split", &["SEND <a.data> 6", "QUIT"]),
    ("send_too_big", &["SEND <a.data> refused: file is too big", "SEND <b.data> 10", "QUIT"]),
    ("send_two_files", &["SEND <a.data> 1", "SEND <b.data> 2", "QUIT"]),
    ("send_without_quit", &["SEND <a.data> 3"]),
    ("silence", &[]),
    ("unknown_command", &["foreign: an unknown command"]),
    ("zsend", &["ZSEND <a1.data> 384", "QUIT"]),
    ("zsend_not_a_zip", &["ZSEND <a1.data> refused: no reason given", "SEND <b.data> 1", "QUIT"]),
    (
        "zsend_refusals",
        &[
            "ZSEND <a/b> refused: invalid file name",
            "ZSEND <a.data> refused: file is too big",
            "ZSEND <old.data> refused: file already exists",
            "QUIT",
        ],
    ),
];
