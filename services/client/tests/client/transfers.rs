//! What the recordings do not hold: large files, archives both ways, local
//! addresses, words.

use protocol::archive;

use crate::session::{Session, Step};

#[test]
fn a_large_file_goes_whole_in_each_form() {
    let content = noise(3_000_000);
    for (option, steps) in [
        (
            "-r3",
            vec![
                Step::ClientSends(b"SEND <a.data> SIZE 3000000\n".to_vec()),
                Step::ServerSends(b"SEND OK\n".to_vec()),
                Step::ClientSends(content.clone()),
                Step::ServerSends(b"SEND OK\n".to_vec()),
                Step::ClientSends(b"QUIT\n".to_vec()),
                Step::ClientCloses,
            ],
        ),
        (
            "-z",
            vec![
                Step::ClientOffersArchive(b"a.data".to_vec()),
                Step::ServerSends(b"ZSEND OK\n".to_vec()),
                Step::ClientSendsArchiveOf(content.clone()),
                Step::ServerSends(b"ZSEND OK\n".to_vec()),
                Step::ClientSends(b"QUIT\n".to_vec()),
                Step::ClientCloses,
            ],
        ),
    ] {
        let session = Session::new().with_file("sub/a.data", &content);
        session.run_against(steps, &["-p", "PORT", option, "sub/a.data"]).is_silent_success();
    }
}

#[test]
fn a_server_that_leaves_in_the_middle_of_a_large_archive_ends_it() {
    let steps = vec![
        Step::ClientOffersArchive(b"a.data".to_vec()),
        Step::ServerSends(b"ZSEND OK\n".to_vec()),
        Step::ServerCloses,
    ];
    let session = Session::new().with_file("a.data", &noise(20_000_000));
    session.run_against(steps, &["-p", "PORT", "-z", "a.data"]).says(&["a.data: not sent: "]);
}

#[test]
fn a_large_file_comes_whole_in_each_form() {
    let content = noise(3_000_000);
    let mut packed = Vec::new();
    archive::pack(b"x", &mut &*content, &mut packed).unwrap();
    for (verb, option, body) in [("RECV", "-g", content.clone()), ("ZRECV", "-gz", packed)] {
        let steps = vec![
            Step::ClientSends(format!("{verb} <a.conf>\n").into_bytes()),
            Step::ServerSends(format!("{verb} SIZE {}\n", body.len()).into_bytes()),
            Step::ClientSends(format!("{verb} OK\n").into_bytes()),
            Step::ServerSends(body),
            Step::ClientSends(b"QUIT\n".to_vec()),
            Step::ClientCloses,
        ];
        let session = Session::new().with_file("a.conf", b"old");
        let ended = session.run_against(steps, &["-p", "PORT", option, "elsewhere/a.conf"]);
        ended.is_silent_success();
        assert!(ended.files() == [("a.conf".to_owned(), content.clone())].into());
    }
}

#[test]
fn an_empty_file_of_a_server_is_fetched() {
    let steps = vec![
        Step::ClientSends(b"RECV <a.md5>\n".to_vec()),
        Step::ServerSends(b"RECV SIZE 0\n".to_vec()),
        Step::ClientSends(b"RECV OK\n".to_vec()),
        Step::ClientSends(b"QUIT\n".to_vec()),
        Step::ClientCloses,
    ];
    let ended = Session::new().run_against(steps, &["-p", "PORT", "-g", "a.md5"]);
    ended.is_silent_success();
    assert_eq!(ended.files(), [("a.md5".to_owned(), Vec::new())].into());
}

#[test]
fn a_server_that_does_not_wait_for_quit_has_the_file_all_the_same() {
    let steps = vec![
        Step::ClientSends(b"SEND <a.data> SIZE 1\n".to_vec()),
        Step::ServerSends(b"SEND OK\n".to_vec()),
        Step::ClientSends(b"x".to_vec()),
        Step::ServerSends(b"SEND OK\n".to_vec()),
        Step::ServerCloses,
    ];
    let session = Session::new().with_file("a.data", b"x");
    session.run_against(steps, &["-p", "PORT", "a.data"]).is_silent_success();
}

#[test]
fn verbose_says_what_is_done() {
    let steps = vec![
        Step::ClientSends(b"SEND <a.data> SIZE 1\n".to_vec()),
        Step::ServerSends(b"SEND OK\n".to_vec()),
        Step::ClientSends(b"x".to_vec()),
        Step::ServerSends(b"SEND OK\n".to_vec()),
        Step::ClientSends(b"QUIT\n".to_vec()),
        Step::ClientCloses,
    ];
    let session = Session::new().with_file("a.data", b"x");
    let ended = session.run_against(steps, &["-v", "-b", "127.0.0.7", "-p", "PORT", "a.data"]);
    assert_eq!(ended.status, 0);
    assert!(ended.stderr.contains("connected") && ended.stderr.contains("a.data"), "{ended:?}");
}

/// Does not deflate.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(step).take(size).collect()
}
