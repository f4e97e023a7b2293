//! What each command does, one file a kind.

pub(crate) mod list;
pub(crate) mod r#move;
pub(crate) mod receive;
pub(crate) mod send;
