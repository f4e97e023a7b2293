//! The YAML of sources is refused, or gives sources that are all valid;
//! and no password is shown.

use super::said::{check, read};

pub fn run(input: &[u8]) {
    let passwords = passwords(input);
    let hides =
        |shown: &str| assert!(passwords.iter().all(|word| !shown.contains(word)), "{shown} shows a password");
    match read("--config", input) {
        Ok(options) => {
            check(&options);
            hides(&format!("{options:?}"));
        }
        Err(why) => hides(&why),
    }
}

/// Plain ones that stand nowhere else. Where there are quotes or blocks, what
/// looks like a password may be a part of something else.
fn passwords(file: &[u8]) -> Vec<&str> {
    let Ok(text) = str::from_utf8(file) else { return Vec::new() };
    if text.contains(['"', '\'', '|', '>', '?', '#']) {
        return Vec::new();
    }
    let keys = ["password: ", "key_password: ", "forward_password: "];
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
    let values = lines.filter_map(|line| keys.into_iter().find_map(|key| line.strip_prefix(key)));
    let plain = |word: &&str| {
        word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    values.map(str::trim).filter(plain).filter(|word| text.matches(word).count() == 1).collect()
}
