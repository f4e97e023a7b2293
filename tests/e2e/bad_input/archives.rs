//! Bodies of `ZSEND` that are not what they must be.

use protocol::archive::pack;
use tests::{Peer, Receiver, eventually, left_aside};

#[test]
fn a_good_archive_is_stored_unpacked() {
    let receiver = Receiver::start::<&str>([]);
    let (mut peer, content) = (receiver.connect(), b"one two one two ".repeat(500));
    assert_eq!(answer(&mut peer, &packed(&content)), "ZSEND OK");
    peer.quit();
    assert_eq!(receiver.files()["a.data"], content);
}

#[test]
fn an_archive_that_is_not_whole_and_right_is_refused_and_the_connection_goes_on() {
    let receiver = Receiver::start::<&str>([]);
    let mut peer = receiver.connect();
    let good = packed(b"abc abc abc abc abc");
    let archives: [(&str, Vec<u8>); 10] = [
        ("no archive", b"garbage".to_vec()),
        ("one byte", b"P".to_vec()),
        ("an archive without a member", [b"PK\x05\x06", &[0; 18][..]].concat()),
        ("two members", two_members(&good)),
        ("cut in the data", good[..good.len() / 2].to_vec()),
        ("cut by a byte", good[..good.len() - 1].to_vec()),
        ("something behind it", [&good[..], b"x"].concat()),
        ("encrypted", with_flag(&good, 1)),
        ("a wrong checksum", with_wrong_checksum(&good)),
        ("an empty member", packed(b"")),
    ];
    for (what, archive) in archives {
        assert_eq!(answer(&mut peer, &archive), "ZSEND ERR", "{what}");
        assert!(receiver.files().is_empty(), "{what}");
    }
    peer.store("b.data", b"goes on");
    peer.quit();
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
    receiver.serves("a.data");
}

#[test]
fn an_archive_of_a_thousand_times_the_bound_is_refused_in_little_memory_and_space() {
    let content = vec![0; 60_000_000];
    let bomb = packed(&content);
    let bound = content.len() / 1000;
    assert!(bomb.len() <= bound, "{} bytes", bomb.len());
    let receiver = Receiver::start(["-m", &bound.to_string()]);
    let mut peer = receiver.connect();
    for _ in 0..3 {
        assert_eq!(answer(&mut peer, &bomb), "ZSEND ERR");
    }
    peer.quit();
    assert!(receiver.files().is_empty());
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
    assert!(receiver.process().peak_memory() < 20_000_000, "{}", receiver.process().peak_memory());
    receiver.serves("a.data");
}

fn answer(peer: &mut Peer, archive: &[u8]) -> String {
    assert_eq!(peer.ask(format!("ZSEND <a.data> SIZE {}", archive.len())), "ZSEND OK");
    peer.send(archive);
    peer.line()
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(b"a.data", &mut &*content, &mut archive).unwrap();
    archive
}

/// The member twice, before the directory, which lists it once.
fn two_members(archive: &[u8]) -> Vec<u8> {
    [&archive[..directory(archive)], archive].concat()
}

/// With a general-purpose flag (APPNOTE 4.4.4) set in both headers.
fn with_flag(archive: &[u8], flag: u8) -> Vec<u8> {
    let (mut archive, directory) = (archive.to_vec(), directory(archive));
    archive[6] |= flag;
    archive[directory + 8] |= flag;
    archive
}

/// With another CRC-32 behind the data and in the directory, the same in both
/// (APPNOTE 4.3.9, 4.3.12).
fn with_wrong_checksum(archive: &[u8]) -> Vec<u8> {
    let (mut archive, directory) = (archive.to_vec(), directory(archive));
    archive[directory - 12] ^= 1;
    archive[directory + 16] ^= 1;
    archive
}

fn directory(archive: &[u8]) -> usize {
    archive.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap()
}
