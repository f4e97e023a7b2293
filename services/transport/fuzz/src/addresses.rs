//! An address is refused, or written as one that reads the same.

use transport::Address;

pub fn run(input: &[u8]) {
    for text in String::from_utf8_lossy(input).lines() {
        let Ok(address) = text.parse::<Address>() else { continue };
        assert!(!address.host.is_empty() && address.port > 0, "{text:?} became {address:?}");
        assert!(!address.host.chars().any(|c| c.is_whitespace() || c.is_control()), "{address:?}");
        assert_eq!(address.to_string().parse(), Ok(address), "of {text:?}");
    }
}
