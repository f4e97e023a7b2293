//! The inputs that are kept for fuzzing are taken as they are while fuzzing.

#![allow(unreachable_pub, reason = "it is public where it is fuzzed")]

use kept::replay;

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "../../../tests/corpus.rs"]
mod kept;

#[test]
fn a_configuration_file_is_refused_or_says_the_same_anew() {
    replay("pandora_server_conf", bodies::pandora_server_conf::run);
}

#[test]
fn the_yaml_of_sources_is_refused_or_gives_valid_sources() {
    replay("sources", bodies::sources::run);
}
