//! What each target does with its input. The tests of the crate replay the
//! kept inputs through the same.

pub mod names;
pub mod tentacle_server_conf;
