//! What must never be said.

use std::fs;

use protocol::PasswordDigest;
use tests::{Process, Receiver, run};

#[test]
fn a_password_is_in_no_log_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let receivers = [
        Receiver::builder().args(["-V", "-x", PASSWORD]),
        Receiver::builder().args(["-V", "--password-file"]).args([&file]),
        Receiver::builder().args(["-V"]).env("TENTACLE_PASSWORD", PASSWORD),
        Receiver::builder().args(["-V"]).env("TENTACLE_EXT_OPTS", format!("-x {PASSWORD}")),
    ];
    for receiver in receivers.map(tests::Builder::start) {
        let digest = hex(PASSWORD);
        let wrong = hex("wrong");
        for first in [format!("PASS {wrong}\n"), format!("PASS {PASSWORD}\n"), "SEND <a> SIZE 1\n".into()] {
            let mut peer = receiver.connect();
            peer.send(first);
            peer.expect_closed();
        }
        let mut peer = receiver.connect();
        assert_eq!(peer.ask(format!("PASS {digest}")), "PASS OK");
        // Once is enough.
        peer.send(format!("PASS {digest}\n"));
        peer.expect_closed();
        receiver.wait_for_log("PASS, which is not asked for here");
        receiver.wait_for_log("a wrong password");
        assert_unsaid(receiver.process(), &[PASSWORD, &digest, &wrong]);
    }
}

#[test]
fn a_password_that_comes_with_a_wrong_option_is_not_said() {
    let given = [
        Receiver::builder().args(["-x", PASSWORD, "-p", "0"]),
        Receiver::builder().args(["-p0", &format!("--password={PASSWORD}")]),
        Receiver::builder().args(["-x", PASSWORD, "--password-file", "/missing"]),
        Receiver::builder().env("TENTACLE_EXT_OPTS", format!("-x '{PASSWORD}")),
    ];
    for builder in given {
        let line = builder.refused();
        assert!(!line.contains(PASSWORD), "{line}");
    }
}

#[test]
fn two_passwords_are_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    let line = Receiver::builder().args(["-x", PASSWORD, "--password-file"]).args([&file]).refused();
    assert!(line.contains("-x/--password: give either this or --password-file, not both"), "{line}");
    fs::write(&file, "").unwrap();
    let ended = run(Receiver::builder().args(["--password-file"]).args([&file]).command());
    assert!(ended.stderr.contains("is empty, and must hold the secret"), "{}", ended.stderr);
}

fn assert_unsaid(process: &Process, secrets: &[&str]) {
    let lines = process.lines();
    for secret in secrets {
        assert!(lines.iter().all(|line| !line.contains(secret)), "{secret} is in {lines:#?}");
    }
}

fn hex(password: &str) -> String {
    let digest = PasswordDigest::of(password.as_bytes()).to_hex();
    String::from_utf8_lossy(digest.as_ref()).into_owned()
}

const PASSWORD: &str = "Pa55phrase";
