//! What may be PEM gives certificates and keys that can be used, or one line
//! of error without anything of a key in it.

use transport::tls::{Authorities, Identity, Pem, names_of, server_config, validities};

/// A certificate and a key, with a line `===` between them.
pub fn run(input: &[u8]) {
    let parts = input.windows(5).position(|window| window == b"\n===\n");
    let (certificate, key) = match parts {
        Some(at) => (&input[..at + 1], Some(&input[at + 5..])),
        None => (input, None),
    };
    let (certificate, key) = (given(certificate), key.map(given));

    let authorities = Authorities::load(&certificate).map_err(|error| check_line(input, &error.to_string()));
    if let Ok(authorities) = &authorities {
        authorities.unusable().iter().for_each(|why| check_line(input, why));
    }
    match validities(&certificate) {
        Ok(found) => found.iter().for_each(|one| check_line(b"", &one.subject)),
        Err(error) => check_line(input, &error.to_string()),
    }
    match Identity::load(&certificate, key.as_ref(), None) {
        Ok(identity) => drop(server_config(&identity, authorities.ok())),
        Err(error) => check_line(input, &error.to_string()),
    }
    // The same bytes as what a peer might show.
    names_of(&input.into());
}

fn given(text: &[u8]) -> Pem {
    Pem::given("given".to_owned(), text.to_vec())
}

/// It is one line, and none of the input's lines, which may be of a key, is
/// in it.
pub fn check_line(input: &[u8], shown: &str) {
    assert!(!shown.chars().any(char::is_control), "{shown:?} is more than a line");
    for line in String::from_utf8_lossy(input).lines().map(str::trim) {
        let is_body = line.len() >= 40 && !line.contains(['-', ' ']);
        assert!(!is_body || !shown.contains(line), "{shown:?} shows the file's content");
    }
}
