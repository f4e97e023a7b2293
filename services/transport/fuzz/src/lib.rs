//! What each target does with its input. The tests of the crate replay the
//! kept inputs through the same.

pub mod addresses;
pub mod certificates;
pub mod keys;
pub mod pem;
pub mod proxy_headers;
