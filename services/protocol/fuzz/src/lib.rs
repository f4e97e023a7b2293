//! What each target does with its input. The tests of the crate replay the
//! kept inputs through the same.

pub mod answers;
pub mod archives;
pub mod filters;
pub mod lines;
mod pieces;
pub mod sessions;
