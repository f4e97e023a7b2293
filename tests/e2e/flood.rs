//! Handshakes that never end keep nobody out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{Peer, Receiver, program_command, run};

fn certificate() -> TempDir {
    let folder = TempDir::new().unwrap();
    let command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -subj /CN=a -days 2";
    let done = Command::new("openssl").args(command.split(' ')).current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

fn server(folder: &TempDir, more: &[&str]) -> Receiver {
    let path = |name: &str| folder.path().join(name);
    let files = ["-e".into(), path("cert.pem"), "-k".into(), path("key.pem")];
    Receiver::builder().args(files).args(more).start()
}

/// How long a proper client takes to bring a file.
fn send(server: &Receiver, name: &str) -> Duration {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), "hello").unwrap();
    let mut client = program_command("tentacle_client");
    client.args(["-c", "-a", &server.address().ip().to_string()]).arg(folder.path().join(name));
    let began = Instant::now();
    let ended = run(client);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(server.files()[name], b"hello");
    began.elapsed()
}

#[test]
fn a_thousand_half_open_handshakes_do_not_keep_a_proper_client_out() {
    let folder = certificate();
    for more in [&["-t", "60"][..], &["-t", "60", "-c", "10"]] {
        let server = server(&folder, more);
        let half_open: Vec<_> = (0..1000)
            .map(|number| {
                let mut peer = Peer::connect(server.address());
                if number % 2 == 0 {
                    // The beginning of a ClientHello.
                    peer.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]);
                }
                peer
            })
            .collect();
        let took = send(&server, "a.data");
        println!("{more:?}: beside 1000 half-open handshakes, served in {} ms", took.as_millis());
        assert!(took < Duration::from_secs(1), "{took:?}");
        let memory = server.process().peak_memory();
        println!("most resident memory: {} kB", memory / 1024);
        assert!(memory < 64 << 20, "{memory} bytes");
        server.wait_for_log("made room for a newer one");
        drop(half_open);
    }
}

#[test]
fn who_stops_in_the_middle_of_a_handshake_is_closed_at_the_deadline() {
    let folder = certificate();
    let server = server(&folder, &["-t", "1", "-r", "0"]);
    let mut peer = Peer::connect(server.address());
    let began = Instant::now();
    peer.send([0x16, 0x03, 0x01]);
    peer.expect_closed();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    server.wait_for_log("within 1 s");
    send(&server, "a.data");
}

#[test]
fn a_drain_does_not_wait_for_handshakes() {
    let folder = certificate();
    let server = server(&folder, &["-t", "60"]);
    let mut peer = Peer::connect(server.address());
    peer.send([0x16, 0x03, 0x01]);
    server.wait_for_log("connection accepted");
    let began = Instant::now();
    server.process().signal(Signal::TERM);
    peer.expect_closed();
    server.wait_for_log("the service is ending");
    assert!(server.wait().success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
