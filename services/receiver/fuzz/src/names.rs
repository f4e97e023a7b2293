//! A name is refused, or is one component of a path that is nothing of the
//! spool's own.

use protocol::{FileName, MAX_NAME, NameRules};
use spool::{EntryName, RESERVED};

/// The first line is the value of `invalid_chars`, the rest a name.
pub fn run(input: &[u8]) {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (refused, name) = end.map_or((&b""[..], input), |end| (&input[..end], &input[end + 1..]));

    if let Some(name) = checked(&NameRules::from_invalid_chars(refused), name) {
        let literal = |byte: &u8| *byte != b'\\' && refused.contains(byte);
        assert!(refused.contains(&b'\\') || !name.as_bytes().iter().any(literal), "{name:?} for {refused:?}");
    }
    if let Some(name) = checked(&NameRules::default(), name) {
        let by_peers = |byte: &u8| b"?[]/\\=+<>:;',*~".contains(byte);
        assert!(!name.as_bytes().iter().any(by_peers), "{name:?} holds what the peers refuse");
        assert!(EntryName::new(name.as_bytes()).is_ok(), "{name:?} is the spool's own by default");
    }
    if let Ok(entry) = EntryName::new(name) {
        assert!(is_component(entry.as_bytes()), "{entry:?} is no component of a path");
        assert!(!entry.as_bytes().starts_with(RESERVED.as_bytes()), "{entry:?} is the spool's own");
    }
}

fn checked(rules: &NameRules, name: &[u8]) -> Option<FileName> {
    let listed = rules.check_listing_argument(name);
    let checked = match rules.check(name) {
        Ok(checked) => checked,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?} is more than a line");
            assert!(listed.is_err() || matches!(name, b"" | b"." | b".."), "{name:?} can be listed alone");
            return None;
        }
    };
    assert!(listed.is_ok() && checked.as_bytes() == name);
    assert!(is_component(name) && !name.contains(&b'\n'), "{checked:?} is no component of a path");
    assert!(!checked.to_string().chars().any(char::is_control), "{checked:?} steers a terminal");
    Some(checked)
}

fn is_component(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
        && name.len() <= MAX_NAME
}
