//! The inputs that are kept for fuzzing are taken as they are while fuzzing.

#![allow(unreachable_pub, reason = "it is public where it is fuzzed")]

use kept::replay;

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "../../../tests/corpus.rs"]
mod kept;

#[test]
fn lines_say_the_same_when_they_are_written_again() {
    replay("lines", bodies::lines::run);
}

#[test]
fn a_session_is_heard_the_same_in_any_pieces() {
    replay("sessions", bodies::sessions::run);
}

#[test]
fn answers_are_understood_the_same_in_any_pieces() {
    replay("answers", bodies::answers::run);
}

#[test]
fn an_archive_unpacks_to_one_content_or_none_and_what_is_packed_comes_out_again() {
    replay("archives", bodies::archives::run);
}

#[test]
fn filters_name_folders_below_the_spool() {
    replay("filters", bodies::filters::run);
}
