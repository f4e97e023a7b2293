//! The DER of a key gives a key that can be used, or one line of error.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use transport::tls::{Identity, Pem, server_config};

use super::{certificates::LEAF, pem::check_line};

/// The first byte says what the rest is called; there is a password.
pub fn run(input: &[u8]) {
    let Some((&kind, der)) = input.split_first() else { return };
    let label = LABELS[usize::from(kind) % LABELS.len()];
    if label.starts_with("ENCRYPTED") && is_costly(der) {
        return;
    }
    let block = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    };
    let text = format!("{}{}", block("CERTIFICATE", LEAF), block(label, der));
    let pem = Pem::given("given".to_owned(), text.clone().into_bytes());
    match Identity::load(&pem, None, Some(b"secret")) {
        Ok(identity) => drop(server_config(&identity, None)),
        Err(error) => check_line(text.as_bytes(), &error.to_string()),
    }
}

/// Whether it may have a number of rounds that takes seconds, which is
/// allowed: there, nothing but time would be found.
fn is_costly(der: &[u8]) -> bool {
    der.windows(2).any(|window| matches!(window, [2, 3..=8]))
}

const LABELS: [&str; 4] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
