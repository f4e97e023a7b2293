//! The inputs that are kept for fuzzing are taken as they are while fuzzing.

#![allow(unreachable_pub, reason = "it is public where it is fuzzed")]

use kept::replay;

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "../../../tests/corpus.rs"]
mod kept;

#[test]
fn a_client_is_let_in_by_one_file_or_not_kept_out_by_the_other() {
    replay("hosts", bodies::hosts::run);
}

#[test]
fn networks_let_in_whom_they_name_and_nobody_else() {
    replay("allow", bodies::allow::run);
}
