//! The password of a key, asked for on a real terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tests::{Peer, Receiver, eventually, free_address, program, run};

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    shown: String,
}

impl Terminal {
    fn start(command: &str) -> Self {
        // script(1) gives it a terminal, and its exit status is the program's.
        let child = Command::new("script")
            .args(["-qefc", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, shown: String::new() }
    }

    /// Waits for a question, and types an answer.
    fn answer(&mut self, question: &str, answer: &str) {
        let from = self.shown.len();
        let mut byte = [0];
        while !self.shown[from..].contains(question) {
            let count = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert!(count > 0, "{question:?} is not asked: {}", self.shown);
            self.shown.push(char::from(byte[0]));
        }
        writeln!(self.child.stdin.as_mut().unwrap(), "{answer}").unwrap();
    }

    /// Exit status, and all that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), self.shown + &rest)
    }
}

/// A certificate with an encrypted key, whose password is `geheim`.
fn certificate() -> TempDir {
    let folder = TempDir::new().unwrap();
    let done = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout key.pem -out cert.pem -subj /CN=a -days 2 -passout pass:geheim".split(' '))
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

fn server(folder: &Path, address: &str, more: &str) -> String {
    let (program, folder) = (program("tentacle_server").display().to_string(), folder.display());
    format!("{program} -a {address} -s {folder}/spool -e {folder}/cert.pem -k {folder}/key.pem -w {more}")
}

#[test]
fn the_server_asks_twice_and_goes_to_the_background_with_the_answer() {
    let folder = certificate();
    fs::create_dir(folder.path().join("spool")).unwrap();
    let address = free_address();
    let pid = folder.path().join("log");
    let command = server(folder.path(), &address.to_string(), &format!("-d -l {}", pid.display()));
    let mut terminal = Terminal::start(&command);
    terminal.answer("Password of the key", "geheim");
    terminal.answer("The same again", "geheim");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert!(!shown.contains("geheim"), "{shown}");
    let mut client = Command::new(program("tentacle_client"));
    fs::write(folder.path().join("a.data"), "hello").unwrap();
    client.args(["-c", "-a", &address.to_string()]).arg(folder.path().join("a.data"));
    let ended = run(client);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(fs::read(folder.path().join("spool/a.data")).unwrap(), b"hello");
    run({
        let mut kill = Command::new("pkill");
        kill.args(["-f", &format!("tentacle_server -a {address} ")]);
        kill
    });
    eventually("the daemon ends", || fs::read_to_string(&pid).unwrap().contains("ended"));
}

#[test]
fn what_was_typed_wrong_ends_the_start() {
    for (first, second, said) in [
        ("geheim", "geheime", "the two answers differ"),
        ("falsch", "falsch", "the password does not open the key"),
    ] {
        let folder = certificate();
        let mut terminal = Terminal::start(&server(folder.path(), "127.0.0.1", ""));
        terminal.answer("Password of the key", first);
        terminal.answer("The same again", second);
        let (status, shown) = terminal.end();
        assert_eq!(status, Some(1), "{shown}");
        assert!(shown.contains(said) && !shown.contains(first), "{shown}");
    }
}

#[test]
fn the_client_asks_once() {
    let folder = certificate();
    let server = Receiver::builder().args(tls(folder.path())).start();
    fs::write(folder.path().join("a.data"), "hello").unwrap();
    let client = program("tentacle_client").display().to_string();
    let at = folder.path().display();
    let address = server.address().ip();
    let mut terminal =
        Terminal::start(&format!("{client} -a {address} -e {at}/cert.pem -k {at}/key.pem -w {at}/a.data"));
    terminal.answer("Password of the key", "geheim");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert_eq!(server.files()["a.data"], b"hello");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let folder = certificate();
    let mut command = Command::new("setsid");
    command.args(["-w", "sh", "-c", &server(folder.path(), "127.0.0.1", "")]);
    let ended = run(command);
    assert_eq!(ended.status.code(), Some(1));
    let said = "there is no terminal to ask on (run in a terminal, or name a file that holds it: --key-password-file FILE)";
    assert!(ended.stderr.contains(said) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
}

#[test]
fn a_file_answers_for_the_terminal() {
    let folder = certificate();
    let server = Receiver::builder().args(tls(folder.path())).args(["-w"]).start();
    let mut peer = Peer::connect(server.address());
    peer.send("SEND <a.data> SIZE 1\n");
    server.wait_for_log("connection closed");
    assert!(server.files().is_empty());
}

/// Of a server whose key's password is in a file.
fn tls(folder: &Path) -> Vec<String> {
    fs::write(folder.join("password"), "geheim\n").unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let options = ["-e", "cert.pem", "-k", "key.pem", "--key-password-file", "password"];
    options.iter().map(|word| if word.starts_with('-') { (*word).to_owned() } else { path(word) }).collect()
}
