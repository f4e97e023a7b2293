//! TLS and passwords through a proxy, ended by it, and begun by it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tests::{Key, Openssl, Pki, Receiver, eventually, free_address, program_command, run};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};
use transport::tls::{Authorities, ServerCheck, client_config};

/// An authority, those whom it knows, and a stranger.
struct Site {
    pki: Pki,
    /// Of the receiver, and of the proxy.
    addresses: [Ipv4Addr; 2],
}

impl Site {
    fn new() -> Self {
        let (pki, addresses) = (Pki::empty(), [free_address(), free_address()]);
        pki.self_signed("ca", Key::P256, "ca");
        pki.self_signed("other-ca", Key::P256, "other");
        for (name, subject) in [("receiver", addresses[0]), ("proxy", addresses[1])] {
            pki.v1(name, Key::P256, &subject.to_string(), "ca");
        }
        pki.v1("agent", Key::P256, "agent", "ca");
        fs::write(pki.path("password"), "between\n").unwrap();
        Self { pki, addresses }
    }

    fn receiver(&self, arguments: &[&[String]]) -> Receiver {
        let large = ["-o", "-m", "10000000"];
        Receiver::builder().address(self.addresses[0].into()).args(large).args(arguments.concat()).start()
    }

    /// One of this program.
    fn proxy_of(&self, program: &'static str, arguments: &[&[String]]) -> Receiver {
        let to = ["-b".to_owned(), self.addresses[0].to_string()];
        let proxy = Receiver::builder().program(program).address(self.addresses[1].into());
        proxy.args(to).args(arguments.concat()).start()
    }

    fn proxy(&self, arguments: &[&[String]]) -> Receiver {
        self.proxy_of("tentacle-proxy", arguments)
    }

    /// What a proxy says to a server with TLS and a password.
    fn to_upstream(&self) -> Vec<String> {
        let (ca, password) = (self.pki.certificate("ca"), self.pki.path("password"));
        let options = ["--upstream-tls", "--upstream-ca", &ca, "--upstream-password-file", &password]
            .map(str::to_owned);
        options.into()
    }

    /// Both ways, by the real client.
    #[track_caller]
    fn carries(&self, receiver: &Receiver, proxy: &Receiver, arguments: &[&[String]]) {
        let folder = TempDir::new().unwrap();
        let content = content();
        fs::write(folder.path().join("large.data"), &content).unwrap();
        let client = |get: &[&str]| {
            let mut client = program_command("tentacle_client");
            client.current_dir(folder.path()).args(["-a", &proxy.address().ip().to_string()]);
            client.args(arguments.concat()).args(get).arg("large.data");
            let ended = run(client);
            assert!(ended.status.success(), "{}\n{:#?}", ended.stderr, proxy.log());
        };
        client(&[]);
        assert!(receiver.files()["large.data"] == content);
        fs::remove_file(folder.path().join("large.data")).unwrap();
        client(&["-g"]);
        assert!(fs::read(folder.path().join("large.data")).unwrap() == content);
        eventually("both sessions have ended", || {
            let passed_on = |line: &&serde_json::Value| line["message"] == "session passed on";
            proxy.log().iter().filter(passed_on).count() == 2
        });
        let log = proxy.log();
        let counted = |key: &str| log.iter().any(|line| line[key].as_u64() >= Some(content.len() as u64));
        assert!(counted("sent") && counted("received"), "{log:#?}");
    }
}

fn content() -> Vec<u8> {
    (0..5_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn password(password: &str) -> [String; 2] {
    ["-x".to_owned(), password.to_owned()]
}

fn nobody_came_to(receiver: &Receiver) {
    let log = receiver.log();
    assert!(!log.iter().any(|line| line["message"] == "connection accepted"), "{log:#?}");
}

#[test]
fn tls_and_the_password_are_between_the_ends() {
    let site = Site::new();
    let pki = &site.pki;
    // The client looks for the name that it connects to: the proxy's.
    let receiver = site.receiver(&[&password("horse"), &pki.identity("proxy"), &pki.authority("ca")]);
    let proxy = site.proxy(&[]);
    let client = [&password("horse")[..], &pki.identity("agent"), &pki.authority("ca")];
    site.carries(&receiver, &proxy, &client);
}

#[test]
fn the_proxy_ends_tls_and_checks_the_password() {
    let site = Site::new();
    let pki = &site.pki;
    let receiver = site.receiver(&[]);
    let ends = [&password("horse")[..], &pki.identity("proxy"), &pki.authority("ca")].concat();
    let client = [&password("horse")[..], &pki.identity("agent"), &pki.authority("ca")];
    let proxy = site.proxy(&[&ends, &["--allow-name".to_owned(), "ag*".to_owned()]]);
    site.carries(&receiver, &proxy, &client);
    drop(proxy);
    let proxy = site.proxy_of("tentacle_server", &[&ends]);
    site.carries(&receiver, &proxy, &client);
}

#[test]
fn the_proxy_begins_tls_and_says_the_password() {
    let site = Site::new();
    let receiver = site.receiver(&[&password("between"), &site.pki.identity("receiver")]);
    let proxy = site.proxy(&[&site.to_upstream()]);
    site.carries(&receiver, &proxy, &[]);
    drop(proxy);
    let proxy = site.proxy_of("tentacle_server", &[&site.to_upstream()]);
    site.carries(&receiver, &proxy, &[]);
}

#[test]
fn each_side_of_the_proxy_has_its_own_tls_and_password() {
    let site = Site::new();
    let pki = &site.pki;
    let receiver = site.receiver(&[&password("between"), &pki.identity("receiver"), &pki.authority("ca")]);
    let shown = ["--upstream-cert", &pki.certificate("agent"), "--upstream-key", &pki.key("agent")]
        .map(str::to_owned);
    let proxy = site.proxy(&[&password("horse"), &pki.identity("proxy"), &site.to_upstream(), &shown]);
    let client = [&password("horse")[..], &pki.identity("agent"), &pki.authority("ca")];
    site.carries(&receiver, &proxy, &client);
}

#[test]
fn the_configuration_file_says_the_same() {
    let site = Site::new();
    let pki = &site.pki;
    let receiver = site.receiver(&[&password("between"), &pki.identity("receiver"), &pki.authority("ca")]);
    let [receivers, _] = site.addresses;
    let path = pki.path("tentacle_server.conf");
    let tokens = format!(
        "proxy_ip {receivers}\nssl_cert {}\nssl_key {}\nssl_ca {}\npassword horse\n\
         upstream_tls 1\nupstream_ca {}\nupstream_name {receivers}\nupstream_cert {}\nupstream_key {}\n\
         upstream_password between\n",
        pki.certificate("proxy"),
        pki.key("proxy"),
        pki.certificate("ca"),
        pki.certificate("ca"),
        pki.certificate("agent"),
        pki.key("agent"),
    );
    fs::write(&path, tokens).unwrap();
    let client = [&password("horse")[..], &pki.identity("agent"), &pki.authority("ca")];
    for program in ["tentacle-proxy", "tentacle_server"] {
        let proxy = Receiver::builder().program(program).address(site.addresses[1].into());
        let proxy = proxy.args(["-F", &path]).start();
        site.carries(&receiver, &proxy, &client);
    }
}

#[test]
fn who_does_not_know_the_password_gets_no_further_than_the_proxy() {
    let site = Site::new();
    let receiver = site.receiver(&[]);
    let proxy = site.proxy(&[&password("horse")]);
    let mut peer = proxy.connect();
    peer.send("PASS 9e769017c85f064977fe6a658f207fa6\n");
    peer.expect_closed();
    assert_eq!(proxy.wait_for_log("a wrong password")["level"], "WARN");
    let mut peer = proxy.connect();
    peer.send("RECV <a>\n");
    peer.expect_closed();
    proxy.wait_for_log("no password, where one is needed");
    nobody_came_to(&receiver);

    // What comes behind the right one in the same piece is passed on.
    let mut peer = proxy.connect();
    let digest = protocol::PasswordDigest::of(b"horse").to_hex();
    peer.send([b"PASS ", &digest[..], b"\nSEND <a> SIZE 3\n"].concat());
    peer.expect("PASS OK\nSEND OK\n");
    peer.send("abc");
    peer.expect("SEND OK\n");
    peer.quit();
    assert_eq!(receiver.files()["a"], b"abc");
    assert_eq!(proxy.wait_for_log("session passed on")["sent"], 16 + 3 + 5);
}

#[test]
fn a_plain_client_and_one_of_another_authority_get_no_further_than_the_proxy() {
    let site = Site::new();
    let pki = &site.pki;
    let receiver = site.receiver(&[]);
    let name = ["--allow-name".to_owned(), "web*".to_owned()];
    let proxy = site.proxy(&[&pki.identity("proxy"), &pki.authority("ca"), &name]);
    let mut peer = proxy.connect();
    peer.send("RECV <a>\n");
    eventually("the server answers by TLS's alert, and closes", || peer.try_send("QUIT\n").is_err());
    proxy.wait_for_log("the client does not speak TLS");
    pki.v1("stranger", Key::P256, "web01", "other-ca");
    for (name, why) in [("stranger", "unknown authority"), ("agent", "no name that --allow-name allows")] {
        let [certificate, key] = [pki.certificate(name), pki.key(name)];
        let mut client = Openssl::client(proxy.address(), &["-cert", &certificate, "-key", &key]);
        client.send("RECV <a>\n");
        client.expect_closed();
        proxy.wait_for_log(why);
    }
    nobody_came_to(&receiver);
}

#[test]
fn a_server_that_is_not_the_right_one_gets_no_client() {
    let site = Site::new();
    let pki = &site.pki;
    let receiver = site.receiver(&[&password("between"), &pki.identity("receiver")]);
    let begins = |ca: &str, password: &str, more: &[&str]| {
        let options =
            ["--upstream-tls", "--upstream-ca", &pki.certificate(ca), "--upstream-password", password];
        [&options.map(str::to_owned)[..], &more.iter().map(|&one| one.to_owned()).collect::<Vec<_>>()]
            .concat()
    };
    for (options, why) in [
        (begins("other-ca", "between", &[]), "the server's certificate is refused: unknown authority"),
        (
            begins("ca", "between", &["--upstream-name", "site.example"]),
            "it is not for site.example, but for",
        ),
        (begins("ca", "wrong", &[]), "it refuses the password (--upstream-password)"),
        (
            begins("ca", "between", &[])[3..].to_vec(),
            "password: the other side speaks TLS, and this connection is plain (--upstream-tls)",
        ),
    ] {
        let proxy = site.proxy(&[&options]);
        let mut peer = proxy.connect();
        peer.expect_closed();
        let line = proxy.wait_for_log("connection closed: no server could be reached: ");
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(&format!("{}: ", receiver.address())) && message.contains(why), "{message}");
        assert_eq!(line["level"], "WARN");
    }
    // TLS alone, and to a server that has none.
    let plain = Receiver::builder().start();
    let options = ["-b", &plain.address().to_string(), "--upstream-tls"].map(str::to_owned);
    let proxy = Receiver::builder().program("tentacle-proxy").args(options).start();
    proxy.wait_for_log("whoever answers is believed: no --upstream-ca is given");
    proxy.connect().expect_closed();
    proxy.wait_for_log("closed the connection in the middle of the TLS handshake (it may not speak TLS)");
}

#[test]
fn a_direction_that_ends_leaves_the_other_one() {
    let site = Site::new();
    let listener = TcpListener::bind((site.addresses[0], tests::PORT)).unwrap();
    let proxy = site.proxy(&[&site.pki.identity("proxy")]);
    let answer = content();
    let answered = answer.clone();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(&answer).unwrap();
        question
    });
    let authorities = Authorities::load(&PathBuf::from(site.pki.certificate("ca")).into()).unwrap();
    let check = ServerCheck { authorities: Some(authorities), ..ServerCheck::default() };
    let got = Runtime::new().unwrap().block_on(async {
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        let (config, name) = (client_config(check, None), site.addresses[1].to_string());
        let patience = Duration::from_secs(10);
        let mut stream = transport::tls::connect(stream, Arc::clone(&config), &name, patience).await.unwrap();
        stream.write_all(b"the question").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        got
    });
    assert_eq!(server.join().unwrap(), b"the question");
    assert!(got == answered);
    let line = proxy.wait_for_log("session passed on");
    assert_eq!((&line["sent"], &line["received"]), (&12.into(), &answered.len().into()));
}

#[test]
fn silence_ends_an_encrypted_session() {
    let site = Site::new();
    let receiver = site.receiver(&[]);
    let impatient = ["-t", "1", "-r", "0"].map(str::to_owned);
    let proxy = site.proxy(&[&site.pki.identity("proxy"), &impatient]);
    let mut client = Openssl::client(proxy.address(), &["-verify_quiet"]);
    client.send("SEND <a> SIZE 3\n");
    client.expect("SEND OK\n");
    client.expect_closed();
    proxy.wait_for_log("session broken off: no byte in either direction for 1 s");
    receiver.serves("b");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let site = Site::new();
    let pki = &site.pki;
    fs::write(pki.path("text"), "no certificate\n").unwrap();
    fs::write(pki.path("empty"), "").unwrap();
    let [ca, agent, key] = [pki.certificate("ca"), pki.certificate("agent"), pki.key("agent")];
    let [text, empty, other] = [pki.path("text"), pki.path("empty"), pki.key("proxy")];
    let tls = "--upstream-tls";
    let only_tls = "only goes with --upstream-tls";
    for (options, says) in [
        (&["-k", &key][..], &["-k/--ssl-key", "only goes with a certificate"][..]),
        (&["-f", &ca], &["-f/--ssl-ca", "only goes with a certificate"]),
        (&["-e", &agent, "-k", &other], &["-e/--ssl-cert", "not this certificate's"]),
        (&["-e", &agent, "-k", &key, "--allow-name", "a"], &["--allow-name", "-f FILE"]),
        (&["-x", "a", "--password-file", &text], &["-x/--password", "not both"]),
        (&["--upstream-ca", &ca], &["--upstream-ca", only_tls]),
        (&["--upstream-name", "a"], &["--upstream-name", only_tls]),
        (&["--upstream-cert", &agent], &["--upstream-cert", only_tls]),
        (&["--upstream-key", &key], &["--upstream-key", only_tls]),
        (&["--upstream-key-password-file", &text], &["--upstream-key-password-file", only_tls]),
        (&[tls, "--upstream-ca", "/missing"], &["--upstream-ca", "/missing", "No such file"]),
        (&[tls, "--upstream-ca", &text], &["--upstream-ca", &text]),
        (&[tls, "--upstream-name", "a"], &["--upstream-name", "only goes with --upstream-ca"]),
        (&[tls, "--upstream-ca", &ca, "--upstream-name", "a b"], &["--upstream-name", "a b", "host name"]),
        (&[tls, "--upstream-cert", &text], &["--upstream-cert", &text]),
        (&[tls, "--upstream-cert", &agent, "--upstream-key", &other], &["--upstream-cert", "not this"]),
        (&[tls, "--upstream-key", &key], &["--upstream-key", "only goes with --upstream-cert"]),
        (&["--upstream-password", ""], &["--upstream-password"]),
        (&["--upstream-password-file", &empty], &["--upstream-password-file", "is empty"]),
        (
            &["--upstream-password", "s3cret", "--upstream-password-file", &text],
            &["--upstream-password", "not both"],
        ),
    ] {
        for program in ["tentacle-proxy", "tentacle_server"] {
            let error =
                Receiver::builder().program(program).args(["-b", "127.0.0.1"]).args(options).refused();
            assert!(says.iter().all(|says| error.contains(says)), "{options:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
    // Where nothing is passed on, none of them means anything.
    for options in [&["--upstream-password", "s3cret"][..], &[tls], &["--upstream-ca", &ca]] {
        let error = Receiver::builder().args(options).refused();
        assert!(error.contains(options[0]) && error.contains("tentacle_server with -b"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
