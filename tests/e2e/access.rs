//! Who may connect, and what a wrong password costs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tests::{Ended, Peer, Receiver, eventually, program_command, run};

/// Connects, and is closed without an answer.
fn is_closed(server: &Receiver) {
    let mut peer = server.connect();
    let _ = peer.try_send("SEND <a.data> SIZE 1\n");
    peer.expect_closed();
    assert!(server.files().is_empty());
}

#[test]
fn only_the_networks_of_allow_are_let_in() {
    let server = Receiver::start(["--allow", "10.0.0.0/8, 192.0.2.7"]);
    is_closed(&server);
    let line = server.wait_for_log("in no network that --allow names");
    assert!(line["peer"].as_str().unwrap().starts_with("127."), "{line}");
    for networks in ["127.0.0.0/8", "::1,127.0.0.1", "2001:db8::/32,0.0.0.0/0"] {
        Receiver::start(["--allow", networks]).serves("a.data");
    }
    for wrong in ["10.0.0.0/33", "host", "10.0.0.1,,10.0.0.2", ""] {
        let said = Receiver::builder().args(["--allow", wrong]).refused();
        assert!(said.contains("--allow"), "{said}");
    }
}

#[test]
fn hosts_allow_and_hosts_deny_are_read_again_when_they_change() {
    let folder = TempDir::new().unwrap();
    let (allow, deny) = (folder.path().join("allow"), folder.path().join("deny"));
    fs::write(&deny, "ALL: ALL\n").unwrap();
    let files = |server: tests::Builder| {
        server.args(["-T", "--hosts-allow"]).args([&allow]).args(["--hosts-deny"]).args([&deny])
    };
    let server = files(Receiver::builder()).start();
    is_closed(&server);
    server.wait_for_log("hosts.allow and hosts.deny do not let it in");
    fs::write(&allow, "tentacle_server: 127. EXCEPT 127.0.0.2\n").unwrap();
    server.wait_for_log("read again");
    server.serves("a.data");
    // A rule that cannot be carried out: the old ones stay.
    fs::write(&allow, "ALL: 127.: spawn /bin/true\n").unwrap();
    let line = server.wait_for_log("the old one stays in use");
    assert!(line["error"].as_str().unwrap().contains("allow line 1"), "{line}");
    server.serves("a.data");
    let said = files(Receiver::builder()).refused();
    assert!(said.contains("-T/--use-libwrap") && said.contains("behind the second colon"), "{said}");
}

#[test]
fn hosts_files_that_would_keep_nobody_out_are_refused() {
    let folder = TempDir::new().unwrap();
    let (allow, deny) = (folder.path().join("allow"), folder.path().join("deny"));
    for option in ["--hosts-allow", "--hosts-deny"] {
        let said = Receiver::builder().args([option]).args([&deny]).refused();
        assert!(said.contains(&format!("{option}: only goes with -T")), "{said}");
    }
    let said = Receiver::builder().args(["-T", "--hosts-deny"]).args([&deny]).refused();
    assert!(said.contains("deny: cannot be read: No such file"), "{said}");
    fs::write(&deny, "").unwrap();
    let server = Receiver::builder().args(["-T", "--hosts-deny"]).args([&deny]);
    server.args(["--hosts-allow"]).args([&allow]).start().serves("a.data");
}

#[test]
fn a_client_needs_a_certificate_with_a_name_that_is_allowed() {
    let folder = TempDir::new().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = |names: &str| {
        let files = [&path("ca.pem"), &path("ca.key"), &path("ca.pem")];
        let [cert, key, ca] = files.map(String::as_str);
        Receiver::start(["-e", cert, "-k", key, "-f", ca, "--allow-name", names])
    };
    fs::write(folder.path().join("a.data"), "hello").unwrap();
    let send = |server: &Receiver| -> Ended {
        let mut client = program_command("tentacle_client");
        client.args([
            "-a",
            &server.address().ip().to_string(),
            "-e",
            &path("web.pem"),
            "-k",
            &path("web.key"),
        ]);
        client.arg(path("a.data"));
        run(client)
    };
    let allowed = server("other, *.SHIP7.example");
    let ended = send(&allowed);
    assert!(ended.status.success(), "{}", ended.stderr);
    let refused = server("*.ship8.example");
    assert_eq!(send(&refused).status.code(), Some(1));
    refused.wait_for_log("no name that --allow-name allows, but web.ship7.example");
    assert!(refused.files().is_empty());
    let said = Receiver::builder().args(["--allow-name", "x"]).refused();
    assert!(said.contains("--allow-name: needs the certificates of clients to be asked for"), "{said}");
}

fn certificates(folder: &Path) {
    for command in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout web.key -out web.csr -subj /CN=web.ship7.example",
        "x509 -req -in web.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out web.pem -days 2",
    ] {
        let done = Command::new("openssl").args(command.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn wrong_passwords_delay_the_next_ones_of_their_address_alone() {
    let server = Receiver::start(["-x", "right"]);
    let guess = || {
        let mut peer = server.connect();
        peer.send("PASS 00000000000000000000000000000000\n");
        peer
    };
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.data"), "hello").unwrap();
    let send = |from: &str| {
        let mut client = program_command("tentacle_client");
        client.args(["-a", &server.address().ip().to_string(), "-b", from, "-x", "right"]);
        client.arg(folder.path().join("a.data"));
        let began = Instant::now();
        let ended = run(client);
        assert!(ended.status.success(), "{}", ended.stderr);
        fs::remove_file(server.spool().join("a.data")).unwrap();
        began.elapsed()
    };
    let delays: Vec<_> = (0..7)
        .map(|_| {
            let began = Instant::now();
            guess().expect_closed();
            began.elapsed().as_millis()
        })
        .collect();
    for (delay, least) in delays.iter().zip([0, 0, 0, 250, 500, 1000, 1000]) {
        assert!(*delay >= least, "{delays:?}");
    }
    // Who leaves and comes back, with more at once, gets four answers a second.
    let began = Instant::now();
    let mut guesses: Vec<_> = (0..20).map(|_| guess()).collect();
    server.wait_for_log("others from there wait for their answers already");
    // Another address does not notice.
    assert!(send("127.9.9.9") < Duration::from_secs(1));
    guesses.iter_mut().for_each(Peer::expect_closed);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let said = |text| server.log().iter().filter(|line| line["message"].to_string().contains(text)).count();
    eventually("4 of 20 are answered", || {
        (said("a wrong password"), said("others from there wait")) == (7 + 4, 16)
    });
    // Right ones of the address itself wait too, and end the delays.
    let took = [(); 3].map(|()| send("127.0.0.1"));
    assert!(took[0] >= Duration::from_secs(1) && took[2] < Duration::from_secs(1), "{took:?}");
}
