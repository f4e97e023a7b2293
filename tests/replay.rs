//! Replaying what was recorded from the peers' server.

use std::{collections::BTreeSet, fs, net::SocketAddr, thread, time::Duration};

use crate::{
    Peer, Receiver, Recording, Step,
    contents::{files_below, folders_below, left_aside},
    eventually,
};

/// How the client's bytes travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delivery {
    /// In the recorded pieces.
    AsRecorded,
    /// Each byte by its own write.
    ByteByByte,
    /// All of a session at once, before the first answer.
    OnePiece,
}

/// Replays every recording against a receiver of its own, all at once.
/// `reach` tells where to connect for the receiver that listens there, and
/// what must live until the session has ended.
pub fn replay_all<G>(delivery: Delivery, reach: impl Fn(SocketAddr) -> (SocketAddr, G) + Sync) {
    let recordings = Recording::of_server();
    assert!(recordings.len() >= AT_LEAST, "{} recordings", recordings.len());
    let reach = &reach;
    thread::scope(|scope| {
        for recording in recordings {
            let name = recording.name.clone();
            let replay = move || replay(&recording, delivery, reach);
            thread::Builder::new().name(name).spawn_scoped(scope, replay).unwrap();
        }
    });
}

fn replay<G>(recording: &Recording, delivery: Delivery, reach: impl Fn(SocketAddr) -> (SocketAddr, G)) {
    let builder = Receiver::builder().args(&recording.server_args);
    for (path, content) in &recording.spool_before {
        let path = builder.spool_path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::write(path, content).unwrap();
        }
    }
    let receiver = builder.start();
    let (address, _guard) = reach(receiver.address());
    let mut peer = Peer::connect(address);
    if delivery == Delivery::OnePiece {
        // The server may close before it has taken all of it.
        let _ = peer.try_send(all_that_is_sent(recording));
    }
    for (index, step) in recording.steps.iter().enumerate() {
        let next = recording.steps.get(index + 1);
        take(&mut peer, step, next, delivery);
    }
    peer.finish_writing();
    peer.expect_closed();
    assert_spool(recording, &receiver);
}

fn all_that_is_sent(recording: &Recording) -> Vec<u8> {
    let steps = recording.steps.iter();
    let pieces =
        steps.filter_map(|step| if let Step::Send(pieces) = step { Some(pieces.concat()) } else { None });
    pieces.collect::<Vec<_>>().concat()
}

fn take(peer: &mut Peer, step: &Step, next: Option<&Step>, delivery: Delivery) {
    match step {
        Step::Send(pieces) => send(peer, pieces, delivery),
        Step::Recv { bytes, any_order: true } => {
            let got = peer.body(bytes.len());
            assert_eq!(lines(&got), lines(bytes));
        }
        Step::Recv { bytes, any_order: false } => peer.expect(bytes),
        Step::Closed => peer.expect_closed(),
    }
    // What follows a whole session, or an end, comes at once.
    let silent = matches!(step, Step::Recv { .. }) && !matches!(next, Some(Step::Closed));
    if silent && delivery != Delivery::OnePiece {
        peer.expect_quiet(Duration::from_millis(60));
    }
}

fn send(peer: &mut Peer, pieces: &[Vec<u8>], delivery: Delivery) {
    // A server that closes early makes writes fail; the next steps tell.
    match delivery {
        Delivery::OnePiece => {}
        Delivery::ByteByByte => {
            let _ = pieces.concat().chunks(1).try_for_each(|byte| peer.try_send(byte));
        }
        Delivery::AsRecorded => {
            for (index, piece) in pieces.iter().enumerate() {
                if index > 0 {
                    // Lets the server see the pieces one at a time.
                    peer.expect_quiet(Duration::from_millis(10));
                }
                let _ = peer.try_send(piece);
            }
        }
    }
}

fn lines(bytes: &[u8]) -> BTreeSet<&[u8]> {
    bytes.split(|&byte| byte == b'\n').collect()
}

fn assert_spool(recording: &Recording, receiver: &Receiver) {
    assert_eq!(files_below(receiver.spool()), recording.spool_after);
    let known = recording.spool_before.keys().filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned()));
    let known: BTreeSet<_> = known.chain(recording.filter_folders()).collect();
    let folders = folders_below(receiver.spool());
    assert!(folders.is_subset(&known), "{folders:?}, where {known:?} were to be expected");
    eventually("nothing is left aside", || left_aside(receiver.spool()).is_empty());
}

/// How many there were when this was written: none may get lost.
const AT_LEAST: usize = 40;
