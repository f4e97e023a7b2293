//! Ending, and starting again.

use std::{fs, net::TcpStream};

use rustix::process::Signal;
use tests::{Receiver, eventually, left_aside};

#[test]
fn a_drain_loses_nothing() {
    let receiver = Receiver::start(["-I", "-t", "20", "-m", "10MB"]);
    let (mut idle, mut sender, mut reader) = (receiver.connect(), receiver.connect(), receiver.connect());
    idle.store("a.data", b"kept");
    assert_eq!(sender.ask("SEND <b.data> SIZE 1000000"), "SEND OK");
    sender.send(vec![b'x'; 600_000]);
    assert_eq!(reader.fetch("MV", "a.data"), b"kept");

    receiver.process().signal(Signal::TERM);
    idle.expect_closed();
    eventually("new connections are refused", || TcpStream::connect(receiver.address()).is_err());
    sender.send(vec![b'x'; 400_000]);
    sender.expect("SEND OK\n");
    sender.expect_closed();
    assert_eq!(receiver.files()["b.data"], vec![b'x'; 1_000_000]);
    // The last command still counts.
    reader.quit();
    eventually("the service has ended its work", || {
        receiver.log().iter().any(|line| line["message"] == "ended")
    });
    assert_eq!(receiver.files().into_keys().collect::<Vec<_>>(), ["b.data"]);
    assert!(receiver.wait().success());
}

#[test]
fn a_drain_cuts_what_does_not_end_within_its_bound() {
    let receiver = Receiver::start(["-t", "60", "--drain-timeout", "1"]);
    let mut sender = receiver.connect();
    assert_eq!(sender.ask("SEND <a.data> SIZE 1000000"), "SEND OK");
    sender.send(vec![b'x'; 600_000]);
    receiver.process().signal(Signal::TERM);
    sender.expect_closed();
    receiver.wait_for_log("ended, with transfers cut");
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
    assert!(receiver.files().is_empty());
    assert!(receiver.wait().success());
}

#[test]
fn an_idle_service_ends_at_once() {
    assert!(Receiver::start::<&str>([]).stop().success());
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_a_torso_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::builder().spool(folder.path()).args(["-i", "b:sub"]).start();
    let (mut first, mut second) = (receiver.connect(), receiver.connect());
    first.store("a.data", b"whole");
    assert_eq!(second.ask("SEND <b.data> SIZE 1000000"), "SEND OK");
    second.send(vec![b'x'; 900_000]);
    eventually("a torso lies aside", || !left_aside(&folder.path().join("sub")).is_empty());
    receiver.kill();

    let torso = folder.path().join(".tentacle~part-999-1");
    fs::write(&torso, "torso").unwrap();
    let receiver = Receiver::builder().spool(folder.path()).args(["-i", "b:sub"]).start();
    receiver.wait_for_log("swept what a crash left unfinished");
    assert!(!torso.exists());
    assert!(left_aside(&folder.path().join("sub")).is_empty());
    assert_eq!(receiver.files().into_keys().collect::<Vec<_>>(), ["a.data"]);
}
