//! Bad files, bad servers, bad proxies: one line, exit status 1, nothing torn.

use std::{process::Command, time::Duration};

use crate::session::{Ended, Session, Step};

#[test]
fn a_file_that_cannot_be_sent_is_named_and_no_command_is_sent() {
    let fifo = |session: Session| {
        assert!(Command::new("mkfifo").arg(session.path("pipe")).status().unwrap().success());
        session
    };
    for (file, says) in [
        ("none.data", "No such file"),
        ("sub", "it is a folder"),
        ("empty.data", "servers refuse empty files"),
        ("pipe", "no regular file"),
        ("sub/..", "does not end in the name of a file"),
        ("new\nline", "the file name holds '\\n'"),
    ] {
        let session = fifo(Session::new())
            .with_file("a.data", b"hello")
            .with_file("sub/b.data", b"B")
            .with_file("empty.data", b"")
            .with_file("new\nline", b"x");
        let ended = session.run_against(vec![Step::ClientCloses], &["-p", "PORT", "a.data", file]);
        ended.says(&[&file.replace('\n', " "), says]);
    }
}

#[test]
fn a_bad_file_is_said_even_where_no_server_is() {
    Session::new()
        .run(&["-a", "127.0.0.1:1", "none.data"])
        .says(&["none.data: cannot be read: No such file"]);
}

#[test]
fn a_name_that_this_project_uses_itself_is_not_written() {
    let ended = Session::new().run_against(vec![Step::ClientCloses], &["-p", "PORT", "-g", ".tentacle~1"]);
    ended.says(&[".tentacle~1"]);
}

#[test]
fn a_name_that_servers_refuse_by_default_is_for_the_server_to_refuse() {
    let steps = vec![
        sends(b"SEND <a*b.data> SIZE 1\n"),
        answers(b"SEND ERR (invalid file name)\n"),
        sends(b"QUIT\n"),
        Step::ClientCloses,
    ];
    let session = Session::new().with_file("a*b.data", b"x");
    session
        .run_against(steps, &["-p", "PORT", "a*b.data"])
        .says(&["a*b.data: not sent", "invalid file name"]);
}

#[test]
fn nobody_there_is_said() {
    let ended = Session::new().with_file("a.data", b"x").run(&["-p", "1", "a.data"]);
    ended.says(&["cannot connect to 127.0.0.1:1", "refused"]);
    let ended = Session::new().with_file("a.data", b"x").run(&["-a", "no-such-host.invalid", "a.data"]);
    ended.says(&["cannot connect to no-such-host.invalid:41121"]);
}

#[test]
fn a_local_address_that_is_not_ours_is_said() {
    let session = Session::new().with_file("a.data", b"x");
    session.run(&["-b", "192.0.2.1", "a.data"]).says(&["192.0.2.1", "not an address of this machine"]);
    let session = Session::new().with_file("a.data", b"x");
    session.run(&["-b", "::1", "a.data"]).says(&["from ::1 to 127.0.0.1:41121"]);
    let session = Session::new().with_file("a.data", b"x");
    let arguments = ["-b", "192.0.2.1", "-y", "127.0.0.1:3128", "a.data"];
    let ended = session.run(&arguments);
    ended.says(&["HTTP proxy: ", "not an address of this machine"]);
    assert_eq!(ended.stderr.matches("not an address").count(), 1, "{ended:?}");
}

#[test]
fn a_silent_server_is_given_up_at_the_deadline() {
    let steps = || vec![sends(b"SEND <a.data> SIZE 1\n"), Step::ServerIsSilent];
    let ended = send(steps(), &["-t", "1", "-r", "1"]);
    ended.says(&["a.data: not sent: no answer within 2 s"]);
    assert!(ended.took >= Duration::from_secs(2) && ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

#[test]
fn garbage_instead_of_an_answer_ends_it() {
    for garbage in [&b"SSH-2.0-x\x1b[2J\n"[..], b"RECV OK\n", b"SEND SIZE 5\n", b"send ok\n", b"\n"] {
        let steps = vec![sends(b"SEND <a.data> SIZE 1\n"), answers(garbage), Step::ServerIsSilent];
        let ended = send(steps, &[]);
        ended.says(&["a.data: not sent: the server answered"]);
        assert!(!ended.stderr.contains('\x1b'));
    }
    let endless = vec![sends(b"SEND <a.data> SIZE 1\n"), Step::ServerSendsForEver(vec![b'S'; 9000])];
    send(endless, &[]).says(&["a line of more than 8192 bytes"]);
}

#[test]
fn what_a_server_says_cannot_steer_a_terminal() {
    let steps = vec![
        sends(b"SEND <a.data> SIZE 1\n"),
        answers(b"SEND ERR (\x1b]0;x\x07\r)\n"),
        sends(b"QUIT\n"),
        Step::ClientCloses,
    ];
    let ended = send(steps, &[]);
    ended.says(&["a.data: not sent: the server refuses"]);
    assert!(!ended.stderr.trim_end().chars().any(char::is_control), "{ended:?}");
}

#[test]
fn a_wrong_password_is_said() {
    let hex = protocol::PasswordDigest::of(b"geheim").to_hex();
    let steps = vec![Step::ClientSends([b"PASS ", &hex[..], b"\n"].concat()), Step::ServerCloses];
    send(steps, &["-x", "geheim"]).says(&["password: the other side closed", "is it the server's?"]);
}

#[test]
fn a_body_that_is_cut_short_leaves_no_file() {
    let steps = vec![
        sends(b"RECV <a.conf>\n"),
        answers(b"RECV SIZE 500000\n"),
        sends(b"RECV OK\n"),
        answers(&[b'x'; 400_000]),
        Step::ServerCloses,
    ];
    let ended =
        Session::new().with_file("a.conf", b"old").run_against(steps, &["-p", "PORT", "-g", "a.conf"]);
    ended.says(&["a.conf: not fetched: the other side closed in the middle of a body"]);
    assert_eq!(ended.files(), [("a.conf".to_owned(), b"old".to_vec())].into());
}

#[test]
fn a_body_that_stops_is_given_up_at_the_deadline() {
    let steps = vec![
        sends(b"RECV <a.conf>\n"),
        answers(b"RECV SIZE 5\n"),
        sends(b"RECV OK\n"),
        answers(b"x"),
        Step::ServerIsSilent,
    ];
    let ended = Session::new().run_against(steps, &["-p", "PORT", "-r", "0", "-g", "a.conf"]);
    ended.says(&["a.conf: not fetched: no more of the body within 1 s"]);
    assert!(ended.files().is_empty());
}

#[test]
fn a_size_that_is_none_is_garbage() {
    for answer in [&b"RECV SIZE 1x\n"[..], b"RECV SIZE -1\n", b"RECV SIZE\n", b"RECV OK\n"] {
        let steps = vec![sends(b"RECV <a.conf>\n"), answers(answer), Step::ServerIsSilent];
        let ended = Session::new().run_against(steps, &["-p", "PORT", "-g", "a.conf"]);
        ended.says(&["a.conf: not fetched: the server answered"]);
    }
}

#[test]
fn an_archive_that_is_none_leaves_no_file() {
    let steps = vec![
        sends(b"ZRECV <a.conf>\n"),
        answers(b"ZRECV SIZE 7\n"),
        sends(b"ZRECV OK\n"),
        answers(b"garbage"),
        Step::ServerIsSilent,
    ];
    let ended = Session::new().run_against(steps, &["-p", "PORT", "-zg", "a.conf"]);
    ended.says(&["a.conf: not fetched: the body is no ZIP archive"]);
    assert!(ended.files().is_empty());
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let steps = vec![
        sends(b"RECV <a.conf>\n"),
        answers(b"RECV SIZE 1\n"),
        sends(b"RECV OK\n"),
        answers(b"x"),
        Step::ServerIsSilent,
    ];
    // A folder under the name stands in the way of any user, root too.
    let session = Session::new().with_file("a.conf/x", b"");
    let ended = session.run_against(steps, &["-p", "PORT", "-g", "a.conf"]);
    ended.says(&["a.conf: cannot be written into this folder: Is a directory"]);
    assert_eq!(ended.files().len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_said() {
    // Of a link to itself, root may not read anything either.
    let session = Session::new();
    std::os::unix::fs::symlink("a.data", session.path("a.data")).unwrap();
    session.run(&["a.data"]).says(&["a.data: cannot be read: Too many levels of symbolic links"]);
}

#[test]
fn a_proxy_that_is_none_is_said() {
    let connect = || sends(b"CONNECT 127.0.0.1:41121 HTTP/1.0\r\n\r\n");
    for (steps, says) in [
        (vec![connect(), answers(b"SSH-2.0-x\r\n\r\n")], "does not answer as an HTTP proxy does"),
        (vec![connect(), answers(b"HTTP/1.0 \r\n\r\n")], "does not answer as an HTTP proxy does"),
        (vec![connect(), answers(b"HTTP/1.0 20 \r\n\r\n")], "refuses to connect"),
        (vec![connect(), answers(b"HTTP/1.1 407 Auth\r\n\r\n")], "(give it as user:password@host:port)"),
        (vec![connect(), Step::ServerIsSilent], "no answer within 1 s"),
        (vec![connect(), answers(b"HTTP/1.1 200 OK\r\n"), Step::ServerIsSilent], "no answer within 1 s"),
        (vec![connect(), answers(b"HTTP/1.1 200 OK\r\n"), Step::ServerCloses], "closed before its answer"),
        (
            vec![
                connect(),
                answers(b"HTTP/1.1 200 OK\r\n"),
                Step::ServerSendsForEver(b"a: b\r\n".repeat(99)),
            ],
            "head of more than 16384 bytes",
        ),
    ] {
        let session = Session::new().with_file("a.data", b"x");
        let ended = session.run_against(steps, &["-r", "0", "-y", "127.0.0.1:PORT", "a.data"]);
        ended.says(&["HTTP proxy 127.0.0.1:", says]);
    }
}

#[test]
fn quiet_says_nothing_of_an_error_but_for_its_options() {
    let ended = Session::new().run(&["-q", "none.data"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (1, ""));
    Session::new().run(&["-q"]).says(&["FILE"]);
}

fn send(steps: Vec<Step>, options: &[&str]) -> Ended {
    let arguments = [options, &["-p", "PORT", "a.data"]].concat();
    Session::new().with_file("a.data", b"x").run_against(steps, &arguments)
}

fn sends(bytes: &[u8]) -> Step {
    Step::ClientSends(bytes.to_vec())
}

fn answers(bytes: &[u8]) -> Step {
    Step::ServerSends(bytes.to_vec())
}
