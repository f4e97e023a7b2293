//! Large files, compressed files, and little memory.

use std::time::Duration;

use protocol::archive::Unpacker;
use tests::{Peer, Receiver};

#[test]
fn zrecv_packs_small_and_large_files() {
    let receiver = Receiver::start::<&str>([]);
    let mut peer = receiver.connect();
    for (name, content) in
        [("small", noise(500)), ("text", b"<module>".repeat(20_000)), ("large", noise(5_000_000))]
    {
        std::fs::write(receiver.spool().join(name), &content).unwrap();
        let archive = peer.fetch("ZRECV", name);
        let (mut unpacker, mut plain) = (Unpacker::new(10_000_000), Vec::new());
        unpacker.write(&archive, &mut plain).unwrap();
        assert_eq!(unpacker.finish().unwrap(), content.len() as u64);
        assert!(plain == content, "{name}");
    }
    assert_eq!(peer.ask("RECV <none>"), "RECV ERR (file does not exist)");
    peer.quit();
}

#[test]
fn a_large_file_comes_out_as_it_went_in() {
    let receiver = Receiver::start(["-m", "20MB", "-I"]);
    let (mut peer, content) = (receiver.connect(), noise(20_000_000));
    peer.store("large", &content);
    assert!(peer.fetch("RECV", "large") == content);
    assert!(peer.fetch("MV", "large") == content);
    peer.quit();
    assert!(receiver.files().is_empty());
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let receiver = Receiver::start(["-m", "1GB"]);
    let mut peer = receiver.connect();
    let (piece, pieces) = (noise(1_000_000), 200);
    let size = piece.len() * pieces;
    assert_eq!(peer.ask(format!("SEND <large> SIZE {size}")), "SEND OK");
    for _ in 0..pieces {
        peer.send(&piece);
    }
    peer.expect("SEND OK\n");
    assert_eq!(peer.announced("RECV", "large"), size);
    peer.send("RECV OK\n");
    for _ in 0..pieces {
        assert!(peer.body(piece.len()) == piece);
    }
    peer.quit();
    let peak = receiver.process().peak_memory();
    assert!(peak < 20_000_000, "{peak} bytes");
}

#[test]
fn slow_readers_of_archives_leave_the_disk_to_others() {
    // Readers wait for longer than the test.
    let receiver = Receiver::start(["-t", "60"]);
    // More than the system takes for a reader who does not read.
    std::fs::write(receiver.spool().join("large"), noise(6_000_000)).unwrap();
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let mut reader = Peer::connect_with_little_room(receiver.address());
            reader.announced("ZRECV", "large");
            reader.send("ZRECV OK\n");
            reader
        })
        .collect();
    let mut next = receiver.connect();
    next.send("ZRECV <large>\n");
    next.expect_quiet(Duration::from_secs(1));
    receiver.serves("a.data");
    drop(readers);
    next.expect("ZRECV SIZE ");
}

/// Bytes that do not pack: an xorshift generator's.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}
