//! The inputs that are kept for fuzzing are taken as they are while fuzzing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "it is public where it is fuzzed")]

use std::fs;

use kept::replay;

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "../../../tests/corpus.rs"]
mod kept;

#[test]
fn an_address_is_written_as_it_reads() {
    replay("addresses", bodies::addresses::run);
}

#[test]
fn a_proxy_header_says_the_same_in_any_pieces() {
    replay("proxy_headers", bodies::proxy_headers::run);
}

#[test]
fn no_certificate_is_taken_that_nobody_made() {
    replay("certificates", bodies::certificates::run);
}

#[test]
fn those_that_the_authority_made_are_taken() {
    for (input, taken) in [
        ("named", true),
        ("common", true),
        ("v1", true),
        ("own", true),
        ("below", true),
        ("common_by_sans", true),
        ("client", false),
        ("expired", false),
        ("rsa", false),
        ("of_client_named", true),
        ("of_client_v1", true),
        ("of_client_client", true),
        ("of_client_below", true),
        ("of_client_expired", false),
        ("ec", false),
    ] {
        let chain = fs::read(kept::folder("certificates").join(input)).unwrap();
        assert_eq!(bodies::certificates::is_taken(&chain), taken, "{input}");
    }
}

#[test]
fn pem_that_is_damaged_is_refused_in_a_line() {
    replay("pem", bodies::pem::run);
}

#[test]
fn a_key_that_is_damaged_is_refused_in_a_line() {
    replay("keys", bodies::keys::run);
}
