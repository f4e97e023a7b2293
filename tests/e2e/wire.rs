//! What was recorded from the peers' server, replayed against the built one.

use std::net::SocketAddr;

use tests::{Delivery, replay_all};

#[test]
fn every_recorded_session_is_answered_to_the_letter() {
    replay_all(Delivery::AsRecorded, itself);
}

#[test]
fn every_recorded_session_may_arrive_byte_by_byte() {
    replay_all(Delivery::ByteByByte, itself);
}

#[test]
fn every_recorded_session_may_arrive_in_one_piece() {
    replay_all(Delivery::OnePiece, itself);
}

/// The receiver, without anything between.
fn itself(receiver: SocketAddr) -> (SocketAddr, ()) {
    (receiver, ())
}
