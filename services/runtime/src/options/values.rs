//! Parsers of the values that several programs take, for `clap::Arg::value_parser`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser, ValueParser};

use super::Secret;

/// A TCP port from 1 to 65535, as `u16`.
pub fn port(text: &str) -> Result<u16, String> {
    whole_number(text, 1..=65535)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| "a port is a whole number from 1 to 65535".to_owned())
}

/// An address with a port, as [`SocketAddr`]; port 0 stands for a free one.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an address and a port are needed, such as 0.0.0.0:8080 or [::]:8080 (port 0 takes a free one)"
            .to_owned()
    })
}

/// Whole seconds from 1 to 86400 (a day), as [`Duration`].
pub fn seconds(text: &str) -> Result<Duration, String> {
    whole_number(text, 1..=86_400)
        .map(Duration::from_secs)
        .ok_or_else(|| "whole seconds from 1 to 86400 are needed".to_owned())
}

/// A whole number within `range`, as `u64`.
pub fn count(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        whole_number(text, range.clone())
            .ok_or_else(|| format!("a whole number from {} to {} is needed", range.start(), range.end()))
    }
}

/// A number of bytes within `range`, as `u64`: digits alone, or with one of `kB MB GB` (powers of 1000) or
/// `KiB MiB GiB` (powers of 1024) behind them.
pub fn bytes(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        unit(text[digits.len()..].trim_start())
            .and_then(|unit| whole_number(digits, 0..=u64::MAX)?.checked_mul(unit))
            .filter(|bytes| range.contains(bytes))
            .ok_or_else(|| {
                format!(
                    "bytes from {} to {} are needed, as digits, or with kB, MB, GB, KiB, MiB or GiB behind them",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// The path of a file that is there and is no folder, as [`std::path::PathBuf`].
pub fn existing_file() -> ValueParser {
    ValueParser::from(PathBufValueParser::new().try_map(|path| match path.metadata() {
        Err(error) => Err(format!("the file cannot be used: {error}")),
        Ok(found) if found.is_dir() => Err("this is a folder, and a file is needed".to_owned()),
        Ok(_) => Ok(path),
    }))
}

/// Any bytes but none, as [`Secret`]. The option's id belongs into [`super::Program::secrets`] too.
pub fn secret() -> ValueParser {
    ValueParser::from(OsStringValueParser::new().try_map(|text| match text.is_empty() {
        true => Err("an empty value is no secret"),
        false => Ok(Secret::from(text)),
    }))
}

/// Digits alone: Rust's own parsing lets a `+` pass.
fn whole_number(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

fn unit(name: &str) -> Option<u64> {
    match name.to_ascii_lowercase().as_str() {
        "" => Some(1),
        "kb" => Some(1000),
        "mb" => Some(1000 * 1000),
        "gb" => Some(1000 * 1000 * 1000),
        "kib" => Some(1024),
        "mib" => Some(1024 * 1024),
        "gib" => Some(1024 * 1024 * 1024),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_within_its_range() {
        assert_eq!((port("1"), port("65535")), (Ok(1), Ok(65535)));
        for wrong in ["", "0", "65536", "-1", "+1", "1.0", " 1", "99999999999999999999999", "tcp"] {
            assert!(port(wrong).unwrap_err().contains("from 1 to 65535"), "{wrong:?}");
        }
    }

    #[test]
    fn a_socket_address_has_a_port() {
        assert_eq!(socket_address("0.0.0.0:0").unwrap().port(), 0);
        assert!(socket_address("[::1]:8080").unwrap().is_ipv6());
        for wrong in
            ["", "8080", ":8080", "localhost:8080", "127.0.0.1", "127.0.0.1:65536", "::1:8080", "[::1]"]
        {
            assert!(socket_address(wrong).unwrap_err().contains("such as 0.0.0.0:8080"), "{wrong:?}");
        }
    }

    #[test]
    fn seconds_are_within_a_day() {
        assert_eq!(seconds("86400"), Ok(Duration::from_secs(86_400)));
        assert!(seconds("0").is_err() && seconds("86401").is_err() && seconds("1s").is_err());
    }

    #[test]
    fn bytes_are_digits_or_have_a_unit() {
        let parse = bytes(1..=u64::MAX);
        assert_eq!(parse("2000000"), Ok(2_000_000));
        assert_eq!((parse("2MB"), parse("2 MiB")), (Ok(2_000_000), Ok(2_097_152)));
        for wrong in ["", "0", "MB", "1 xB", "-1", "1.5MB", "18446744073709551615kB", "1é"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            bytes(512..=1024)("1025").unwrap_err().split(" are").next(),
            Some("bytes from 512 to 1024")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics(text in ".*") {
            let _ = (port(&text), seconds(&text), bytes(1..=9)(&text), count(1..=9)(&text));
        }
    }
}
