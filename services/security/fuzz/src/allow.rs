//! The lists of `--allow` and `--allow-name` are refused, or let in whom they
//! name and nobody else.

use std::{net::IpAddr, sync::LazyLock};

use clap::Command;
use runtime::options::{Given, OptionError, Program, value};
use security::{Access, AccessOptions, access_arguments};

/// The first line is the value of `--allow`, the second that of
/// `--allow-name`, each other one an address.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let (networks, names) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let access = match read(networks, names) {
        Ok(options) => Access::start(options).expect("no file is named"),
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?} is more than a line");
            return;
        }
    };
    let covers: Vec<_> = networks.split(',').map(|network| range(network.trim())).collect();
    for address in lines.filter_map(|line| line.parse::<IpAddr>().ok()).take(16) {
        let number = number(address);
        let is_named = covers.iter().any(|&(first, last)| (first..=last).contains(&number));
        assert_eq!(access.admit_address(address).is_ok(), is_named, "{address}");
    }
    // Who shows no certificate has no name.
    assert_eq!(access.admit_certificate(None).is_ok(), names.is_empty());
}

fn read(networks: &str, names: &str) -> Result<AccessOptions, OptionError> {
    static PROGRAM: LazyLock<Program> = LazyLock::new(|| {
        // Which names are allowed says nothing without an authority.
        let authority = value("ssl-ca", 'f', "FILE", "");
        Program::new(Command::new("tentacle_server").version("0").args(access_arguments()).arg(authority))
    });
    let mut arguments = vec![format!("--allow={networks}"), "--ssl-ca=ca.pem".to_owned()];
    if !names.is_empty() {
        arguments.push(format!("--allow-name={names}"));
    }
    match PROGRAM.parse(arguments.into_iter().map(Into::into), [])? {
        Given::Layers(layers) => AccessOptions::from_layers(&layers, "tentacle_server"),
        Given::Text(text) => panic!("{text:?}, which nobody has asked for"),
    }
}

/// The first and the last address of a network that has been read.
fn range(network: &str) -> (u128, u128) {
    let (address, length) = network.split_once('/').unwrap_or((network, ""));
    let address: IpAddr = address.parse().expect("it has been read");
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let length = if length.is_empty() { width } else { length.parse().expect("it has been read") };
    let within = 1_u128.checked_shl(width - length).map_or(u128::MAX, |size| size - 1);
    let first = number(address) & !within;
    (first, first | within)
}

/// Of IPv4 as it is written within IPv6.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
