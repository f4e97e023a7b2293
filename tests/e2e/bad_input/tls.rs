//! Certificates that cannot be used, and peers that are not what a TLS server
//! waits for.

use std::{fs, time::Duration};

use tests::{
    Key, NAME, Openssl, Pki, Receiver, certificates, eventually, free_port_of, program_command, run,
};

#[test]
fn files_that_are_not_what_an_option_needs_are_refused_at_start() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    pki.v1("good", Key::P256, "agent", "ca");
    pki.v1("another", Key::P256, "agent", "ca");
    fs::write(pki.certificate("empty"), "").unwrap();
    fs::write(pki.certificate("text"), "no certificate\n").unwrap();
    let server = asking(&pki);
    let [good, key] = [pki.certificate("good"), pki.key("good")];
    for (certificate, key, authority) in [
        (pki.certificate("missing"), key.clone(), None),
        (pki.certificate("empty"), key.clone(), None),
        (pki.certificate("text"), key.clone(), None),
        (key.clone(), key.clone(), None),
        (good.clone(), pki.key("missing"), None),
        (good.clone(), pki.certificate("empty"), None),
        (good.clone(), good.clone(), None),
        (good.clone(), pki.key("another"), None),
        (good.clone(), key.clone(), Some(pki.certificate("missing"))),
        (good.clone(), key.clone(), Some(pki.certificate("empty"))),
        (good.clone(), key.clone(), Some(key.clone())),
    ] {
        let mut arguments = vec!["-e", &certificate, "-k", &key];
        arguments.extend(authority.iter().flat_map(|path| ["-f", path]));
        let wrong = match &authority {
            Some(path) => path,
            None if certificate == good => &key,
            None => &certificate,
        };
        let error = Receiver::builder().args(&arguments).refused();
        assert!(error.contains(wrong.as_str()), "{arguments:?}: {error}");

        let mut client = program_command("tentacle_client");
        client.args(&arguments).args(["-a", &server.address().to_string(), &good]);
        let ended = run(client);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(wrong.as_str()), "{arguments:?}: {}", ended.stderr);
    }
    goes_on(&server, &pki);
}

#[test]
fn a_file_that_cannot_be_used_is_said_though_no_server_is_there() {
    let pki = Pki::empty();
    pki.self_signed("own", Key::P256, "own");
    fs::write(pki.path("key"), "no key\n").unwrap();
    let mut client = program_command("tentacle_client");
    client.args([
        "-a",
        &free_port_of(NAME).to_string(),
        "-e",
        &pki.certificate("own"),
        "-k",
        &pki.path("key"),
    ]);
    let ended = run({
        client.arg(pki.certificate("own"));
        client
    });
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("holds no key"), "{}", ended.stderr);
}

#[test]
fn a_key_that_a_password_does_not_open_is_refused_and_neither_is_told() {
    let pki = Pki::empty();
    pki.self_signed("own", Key::P256, "own");
    pki.openssl("pkcs8 -topk8 -in own.key -passout pass:opensesame -out locked.key");
    for content in ["guessed-wrong\n", ""] {
        fs::write(pki.path("password"), content).unwrap();
        let error = Receiver::builder()
            .args(["-e", &pki.certificate("own"), "-k", &pki.key("locked")])
            .args(["--key-password-file", &pki.path("password")])
            .refused();
        assert!(error.contains("password"), "{error}");
        assert!(!error.contains("guessed-wrong") && !error.contains("opensesame"), "{error}");
    }
    let error = Receiver::builder().args(["-e", &pki.certificate("own"), "-k", &pki.key("locked")]).refused();
    assert!(error.contains("locked.key"), "{error}");
    fs::write(pki.path("password"), "opensesame\n").unwrap();
    let receiver = Receiver::start([
        "-e",
        &pki.certificate("own"),
        "-k",
        &pki.key("locked"),
        "--key-password-file",
        &pki.path("password"),
    ]);
    assert!(receiver.stop().success());
}

#[test]
fn clients_whose_certificate_is_out_of_date_are_refused() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    let receiver = asking(&pki);
    for (name, years, why) in
        [("old", (2020, 2021), "expired"), ("new", (2045, 2046), "valid only from 2045")]
    {
        pki.dated(name, "agent", "ca", years);
        for version in ["-tls1_2", "-tls1_3"] {
            let mut client = Openssl::client(
                receiver.address(),
                &[version, "-cert", &pki.certificate(name), "-key", &pki.key(name)],
            );
            client.send("SEND <a.data> SIZE 5\n");
            let says = client.expect_closed();
            assert!(says.contains("SSL alert number 45"), "{says}");
        }
        wait_for_error(&receiver, why);
    }
    goes_on(&receiver, &pki);
}

#[test]
fn servers_whose_certificate_is_out_of_date_are_refused() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    pki.v1("agent", Key::P256, "agent", "ca");
    fs::write(pki.path("a.data"), "hello").unwrap();
    for (name, years, why) in
        [("old", (2020, 2021), "expired"), ("new", (2045, 2046), "valid only from 2045")]
    {
        pki.dated(name, &NAME.to_string(), "ca", years);
        let address = free_port_of(NAME);
        let server = Openssl::server(address, &["-cert", &pki.certificate(name), "-key", &pki.key(name)]);
        let mut client = program_command("tentacle_client");
        client.args(["-a", &NAME.to_string(), "-p", &address.port().to_string()]);
        client.args(pki.identity("agent")).args(pki.authority("ca")).arg(pki.path("a.data"));
        let ended = run(client);
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        drop(server);
    }
}

#[test]
fn a_version_before_1_2_and_an_unknown_protocol_are_refused_with_an_alert() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    let receiver = asking(&pki);
    for (options, alert, why) in [
        (
            ["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"].as_slice(),
            "SSL alert number",
            "no TLS version from 1.2 on",
        ),
        (&["-tls1_2", "-alpn", "h2"], "alert no application protocol", "(ALPN)"),
        (&["-tls1_3", "-alpn", "h2"], "alert no application protocol", "(ALPN)"),
    ] {
        let says = Openssl::client(receiver.address(), options).expect_closed();
        assert!(says.contains(alert), "{options:?}: {says}");
        wait_for_error(&receiver, why);
    }
    goes_on(&receiver, &pki);
}

#[test]
fn what_is_no_tls_is_refused() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    let receiver = asking(&pki);
    for bytes in
        [b"SEND <a.data> SIZE 5\n".as_slice(), b"GET / HTTP/1.0\r\n\r\n", &[0; 64], &[0x16, 3, 1, 0xff, 0xff]]
    {
        let mut peer = receiver.connect();
        peer.send(bytes);
        peer.finish_writing();
    }
    eventually("four ends", || {
        let log = receiver.log();
        log.iter().filter(|line| line.to_string().contains("connection closed")).count() == 4
    });
    wait_for_error(&receiver, "the client does not speak TLS");
    goes_on(&receiver, &pki);
}

#[test]
fn tls_to_a_server_without_it_is_an_unknown_command() {
    let receiver = Receiver::start(NONE);
    let mut client = Openssl::client(receiver.address(), NONE);
    client.send("SEND <a.data> SIZE 5\n");
    client.expect_closed();
    receiver.wait_for_log("connection closed: an unknown command");
    assert!(receiver.files().is_empty());
    receiver.serves("a.data");
}

#[test]
fn a_client_that_stops_in_the_middle_of_the_handshake_is_closed() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    let receiver = asking(&pki);
    let mut silent = receiver.connect();
    let mut halfway = receiver.connect();
    // The head of a record of a ClientHello, and none of its 512 bytes.
    halfway.send([0x16, 3, 1, 2, 0, 1, 0, 1, 252]);
    halfway.expect_quiet(Duration::from_millis(100));
    goes_on(&receiver, &pki);
    silent.expect_closed();
    wait_for_error(&receiver, "no TLS handshake within 1 s");
    drop(halfway);
    goes_on(&receiver, &pki);
}

/// A server with the certificate of a server of the field, that asks for one
/// of `ca`, and waits for a second.
fn asking(pki: &Pki) -> Receiver {
    let identity = certificates().identity("server-v1-p256");
    Receiver::builder().args(identity).args(pki.authority("ca")).args(["-t", "1", "-r", "0", "-o"]).start()
}

/// Nothing is stored, and a good client is served.
#[track_caller]
fn goes_on(receiver: &Receiver, pki: &Pki) {
    assert!(!receiver.files().contains_key("a.data"));
    pki.v1("good", Key::P256, "agent", "ca");
    let options = ["-cert", &pki.certificate("good"), "-key", &pki.key("good")];
    let mut client = Openssl::client(receiver.address(), &options);
    assert_eq!(client.ask("SEND <good.data> SIZE 5"), "SEND OK");
    client.send("hello");
    client.expect("SEND OK\n");
    client.send("QUIT\n");
    client.expect_closed();
    assert_eq!(receiver.files()["good.data"], b"hello");
}

/// Waits for a connection's end whose reason contains `why`.
fn wait_for_error(receiver: &Receiver, why: &str) {
    receiver.process().wait_for_line(why, |line| line.contains("connection closed") && line.contains(why));
}

const NONE: &[&str] = &[];
