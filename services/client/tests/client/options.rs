//! What the client says of options that it cannot work with.

use crate::session::{Session, Step};

#[test]
fn a_wrong_value_is_named_with_what_is_allowed() {
    for (option, value, allowed) in [
        ("-p", "0", "from 1 to 65535"),
        ("-p", "tcp", "from 1 to 65535"),
        ("-t", "0", "from 1 to 86400"),
        ("-t", "1s", "from 1 to 86400"),
        ("-r", "-1", "from 0 to 1000"),
        ("-a", "", "-a/--address"),
        ("-a", "two words", "HOST:PORT"),
        ("-a", "host:x", "from 1 to 65535"),
        ("-b", "localhost", "of IPv4 or IPv6"),
        ("--password-file", "/missing", "No such file"),
        ("--log-format", "xml", "human, json"),
    ] {
        let ended = Session::new().run(&[option, value, "a.data"]);
        ended.says(&[allowed, value]);
    }
}

#[test]
fn an_unknown_option_is_named() {
    Session::new().run(&["--adress", "x", "a.data"]).says(&["--adress", "--address"]);
    Session::new().run(&["-Z", "a.data"]).says(&["-Z", "no such option"]);
}

#[test]
fn without_files_it_says_what_to_do() {
    Session::new().run(&[]).says(&["FILE", "name the files to send"]);
    Session::new().run(&["-g"]).says(&["with -g those to get"]);
}

#[test]
fn a_check_takes_no_files_and_nothing_that_is_about_them() {
    Session::new().run(&["--check", "a.data"]).says(&["FILE", "a.data: --check sends a file of its own"]);
    Session::new().run(&["--check", "-g", "a.data"]).says(&["a.data: --check sends a file of its own"]);
    Session::new().run(&["--check", "-g"]).says(&["-g/--get", "does not go with --check"]);
    Session::new().run(&["-z", "--check"]).says(&["-z/--compress", "does not go with --check"]);
    let session = Session::new().with_variable("TENTACLE_GET", "1");
    session.run(&["--check"]).says(&["TENTACLE_GET", "does not go with --check"]);
}

#[test]
fn certificates_are_named_as_the_documented_rules_have_it() {
    const NO_CERTIFICATE: &str = "only goes with a certificate (name one: -e FILE)";
    let cases: [(&[&str], &str, &str); 8] = [
        (&["-c", "-e", "/dev/null"], "-c/--ssl", "does not go with -e"),
        (&["-f", "/dev/null"], "-f/--ssl-ca", NO_CERTIFICATE),
        (&["-c", "-f", "/dev/null"], "-f/--ssl-ca", NO_CERTIFICATE),
        (&["-k", "/dev/null"], "-k/--ssl-key", NO_CERTIFICATE),
        (&["-w"], "-w/--ssl-password", NO_CERTIFICATE),
        (&["-c", "-w"], "-w/--ssl-password", NO_CERTIFICATE),
        (&["--key-password-file", "/dev/null"], "--key-password-file", NO_CERTIFICATE),
        (&["-e", "/missing.pem"], "-e/--ssl-cert", "No such file"),
    ];
    for (arguments, option, said) in cases {
        Session::new().run(&[arguments, &["a.data"]].concat()).says(&[option, said]);
    }
    Session::new().with_variable("TENTACLE_SSL_CA", "/dev/null").run(&["a.data"]).says(&["TENTACLE_SSL_CA"]);
}

#[test]
fn no_secret_is_ever_said() {
    let sessions = [
        Session::new().run(&["-y", "user:geheim@proxy:0", "a.data"]),
        Session::new().run(&["-y", "user:geheim@", "a.data"]),
        Session::new().run(&["-x", "geheim", "--password-file", "/dev/null", "a.data"]),
        Session::new().with_variable("TENTACLE_PROXY", "user:geheim@x").run(&["a.data"]),
        Session::new().with_variable("TENTACLE_EXT_OPTS", "-y user:geheim@x").run(&["a.data"]),
        // Nobody listens on port 1.
        Session::new().with_file("a.data", b"x").run(&[
            "-vV",
            "-x",
            "geheim",
            "-y",
            "user:geheim@127.0.0.1:1",
            "a.data",
        ]),
    ];
    for ended in sessions {
        assert_eq!(ended.status, 1);
        assert!(
            ended.stderr.starts_with("tentacle_client: error: ") && !ended.stderr.contains("geheim"),
            "{ended:?}"
        );
    }
}

#[test]
fn not_even_an_echoed_digest_is_said() {
    let hex = protocol::PasswordDigest::of(b"geheim").to_hex();
    let line = [b"PASS ", &hex[..], b"\n"].concat();
    let steps = vec![Step::ClientSends(line.clone()), Step::ServerSends(line), Step::ClientCloses];
    let ended = Session::new()
        .with_file("a.data", b"x")
        .run_against(steps, &["-p", "PORT", "-x", "geheim", "a.data"]);
    ended.says(&["password", "PASS"]);
    assert!(!ended.stderr.contains(std::str::from_utf8(&hex).unwrap()), "{ended:?}");
}

#[test]
fn help_and_version_are_shown_without_files() {
    let help = Session::new().run(&["-h"]);
    assert_eq!((help.status, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("--bind-address") && help.stdout.contains("--ssl-cert"), "{}", help.stdout);
    let version = Session::new().run(&["--version"]);
    assert_eq!(version.stdout, format!("tentacle_client {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn options_come_from_the_environment_too() {
    let steps = vec![
        Step::ClientSends(b"RECV <a.md5>\n".to_vec()),
        Step::ServerSends(b"RECV SIZE 1\n".to_vec()),
        Step::ClientSends(b"RECV OK\n".to_vec()),
        Step::ServerSends(b"m".to_vec()),
        Step::ClientSends(b"QUIT\n".to_vec()),
        Step::ClientCloses,
    ];
    let session = Session::new().with_variable("TENTACLE_EXT_OPTS", "-g -a '127.0.0.1'");
    let ended = session.run_against(steps, &["-p", "PORT", "a.md5"]);
    ended.is_silent_success();
}
