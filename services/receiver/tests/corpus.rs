//! The inputs that are kept for fuzzing are taken as they are while fuzzing.

#![allow(unreachable_pub, reason = "it is public where it is fuzzed")]

use kept::replay;

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "../../../tests/corpus.rs"]
mod kept;

#[test]
fn a_name_is_one_component_of_a_path_and_nothing_of_the_spools_own() {
    replay("names", bodies::names::run);
}

#[test]
fn a_configuration_file_is_refused_or_says_the_same_anew() {
    replay("tentacle_server_conf", bodies::tentacle_server_conf::run);
}
