//! Who may connect: by address, by name, and by the name in a certificate.

mod hosts;
mod names;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Arg;
use ipnet::IpNet;
use runtime::{
    options::{Layers, OptionError, switch, value},
    reload::Reloaded,
};
use rustls_pki_types::CertificateDer;
use transport::{
    TcpStream,
    proxy_header::{self, HeaderError},
    tls::names_of,
};
use wildmatch::WildMatch;

#[doc(hidden)]
pub use self::hosts::admits;
use self::{
    hosts::{HostsFiles, HostsPaths, HostsReader},
    names::Names,
};

/// Which clients are let in; what is not said here lets everybody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessOptions {
    /// Networks (`--allow`).
    networks: Option<Vec<IpNet>>,
    /// Whether proxies of these networks say whose connections they pass on
    /// (`--accept-proxy`).
    accept_proxy: bool,
    /// Patterns of names in clients' certificates (`--allow-name`).
    names: Option<Vec<String>>,
    /// The files of `-T`.
    hosts: Option<HostsPaths>,
}

/// Lets clients in, or not.
#[derive(Debug)]
pub struct Access {
    networks: Option<Vec<IpNet>>,
    accept_proxy: bool,
    names: Option<Vec<WildMatch>>,
    hosts: Option<Reloaded<HostsFiles>>,
    lookups: Names,
}

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its address is in none of the networks.
    #[error("its address is in no network that --allow names")]
    Network,
    /// The files of `-T`.
    #[error("hosts.allow and hosts.deny do not let it in")]
    Hosts,
    /// Its certificate has no name that is allowed.
    #[error("its certificate has no name that --allow-name allows, but {0}")]
    Name(String),
}

/// The options of a server.
pub fn access_arguments() -> Vec<Arg> {
    vec![
        value(
            "allow",
            None,
            "CIDR,…",
            "Let clients of these networks in, and nobody else: 10.0.0.0/8,192.168.1.7,2001:db8::/32",
        ),
        switch(
            "accept-proxy",
            None,
            "Each connection begins with a PROXY header (version 2) that names the client; with --allow, for the proxies",
        ),
        value(
            "allow-name",
            None,
            "PATTERN,…",
            "Let clients in whose certificate has such a name, and nobody else: *.ship7.example; with -f",
        ),
        switch("use-libwrap", 'T', "Let clients in as hosts.allow and hosts.deny say"),
        value("hosts-allow", None, "FILE", "Where hosts.allow is [default: /etc/hosts.allow]")
            .value_parser(clap::value_parser!(PathBuf)),
        value("hosts-deny", None, "FILE", "Where hosts.deny is [default: /etc/hosts.deny]")
            .value_parser(clap::value_parser!(PathBuf)),
    ]
}

// === impl AccessOptions ===

impl AccessOptions {
    /// What the layers say, for the program that rules call `daemon`. Blocks:
    /// the files of `-T` are read, to see that they can be used.
    ///
    /// # Errors
    /// One line that names the option, its value and what is allowed.
    pub fn from_layers(layers: &Layers, daemon: &'static str) -> Result<Self, OptionError> {
        let list =
            |id| layers.get::<String>(id).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
        let networks = list("allow").map(|list| list.into_iter().map(network).collect());
        let networks = networks.transpose().map_err(|why: String| layers.refuse("allow", why))?;
        let accept_proxy = layers.switch("accept-proxy");
        if accept_proxy && networks.is_none() {
            let why = "whoever can connect could take any address (name the proxies: --allow CIDR)";
            return Err(layers.refuse("accept-proxy", why));
        }
        let names = list("allow-name");
        if let Some(names) = &names {
            if layers.source_of("ssl-ca").is_none() {
                let why = "needs the certificates of clients to be asked for (name their authority: -f FILE)";
                return Err(layers.refuse("allow-name", why));
            }
            if names.iter().any(|name| name.is_empty()) {
                return Err(layers
                    .refuse("allow-name", "a pattern is empty (write one, or several with commas between)"));
            }
        }
        let hosts = Self::hosts(layers, daemon)?;
        if let Some(paths) = &hosts {
            paths.read().map_err(|why| layers.refuse("use-libwrap", why))?;
        }
        let names = names.map(|names| names.into_iter().map(str::to_owned).collect());
        Ok(Self { networks, accept_proxy, names, hosts })
    }

    fn hosts(layers: &Layers, daemon: &'static str) -> Result<Option<HostsPaths>, OptionError> {
        let given = |id| layers.get::<PathBuf>(id).cloned();
        let (allow, deny) = (given("hosts-allow"), given("hosts-deny"));
        if !layers.switch("use-libwrap") {
            let alone = [("hosts-allow", &allow), ("hosts-deny", &deny)];
            return match alone.iter().find(|(_, path)| path.is_some()) {
                Some((id, _)) => Err(layers.refuse(id, "only goes with -T")),
                None => Ok(None),
            };
        }
        Ok(Some(HostsPaths {
            allow: allow.unwrap_or_else(|| "/etc/hosts.allow".into()),
            deny_is_needed: deny.is_some(),
            deny: deny.unwrap_or_else(|| "/etc/hosts.deny".into()),
            daemon,
        }))
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.split_once('/') {
        Some((address, length)) => with_length(address, length),
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    network
        .and_then(canonical)
        .ok_or_else(|| format!("{text:?}: an address or a network such as 10.0.0.0/8 is needed"))
}

/// Not by the parser of `ipnet`, which takes `010.0.0.0/8` for 10.0.0.0/8,
/// where others read an octal number.
fn with_length(address: &str, length: &str) -> Option<IpNet> {
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| is_number)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

/// IPv4 for IPv4 that is written as a part of IPv6, as clients' addresses are
/// compared. None for one of those that reaches beyond IPv4.
fn canonical(network: IpNet) -> Option<IpNet> {
    match network.addr().to_canonical() {
        address @ IpAddr::V4(_) if network.addr().is_ipv6() => {
            IpNet::new(address, network.prefix_len().checked_sub(96)?).ok()
        }
        _ => Some(network),
    }
}

// === impl Access ===

impl Access {
    /// The files of `-T` are read again when they change. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn start(options: AccessOptions) -> Result<Self, String> {
        let hosts = options.hosts.map(|paths| {
            let files = vec![paths.allow.clone(), paths.deny.clone()];
            let reader = HostsReader::new(paths);
            Reloaded::start("hosts.allow and hosts.deny", files, move || reader.read())
        });
        let names = options
            .names
            .map(|names| names.iter().map(|name| WildMatch::new(&name.to_lowercase())).collect());
        let (networks, accept_proxy) = (options.networks, options.accept_proxy);
        Ok(Self { networks, accept_proxy, names, hosts: hosts.transpose()?, lookups: Names::default() })
    }

    /// Whether connections come from proxies, which say whose they are.
    pub(crate) fn is_behind_proxies(&self) -> bool {
        self.accept_proxy
    }

    /// Whether this address may connect, as `--allow` says: a client's, or
    /// with `--accept-proxy` that of a proxy.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit_address(&self, peer: IpAddr) -> Result<(), Refused> {
        // Of a socket for both, IPv4 comes as a part of IPv6.
        let peer = peer.to_canonical();
        match &self.networks {
            Some(networks) if !networks.iter().any(|network| network.contains(&peer)) => {
                Err(Refused::Network)
            }
            _ => Ok(()),
        }
    }

    /// Whose connection this is, which came from `peer`: with
    /// `--accept-proxy`, what the header says that it begins with, and that
    /// must be there within `patience`.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub async fn client(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        patience: Duration,
    ) -> Result<SocketAddr, HeaderError> {
        if !self.accept_proxy {
            return Ok(peer);
        }
        let Some(client) = proxy_header::read(stream, patience).await? else { return Ok(peer) };
        tracing::info!(peer = %client, proxy = %peer, "connection is a client's behind a proxy");
        Ok(client)
    }

    /// Whether a client of this address may connect, as the files of `-T`
    /// say. Where they have names, the answer takes up to 3 s.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn admit_host(&self, peer: IpAddr) -> Result<(), Refused> {
        match &self.hosts {
            Some(hosts) if !hosts.get().admit(peer.to_canonical(), &self.lookups).await => {
                Err(Refused::Hosts)
            }
            _ => Ok(()),
        }
    }

    /// Whether a client that has shown this certificate to be its own may go
    /// on.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit_certificate(&self, leaf: Option<&CertificateDer<'_>>) -> Result<(), Refused> {
        let Some(allowed) = &self.names else { return Ok(()) };
        let names = leaf.map(names_of).unwrap_or_default();
        if names.iter().any(|name| allowed.iter().any(|pattern| pattern.matches(&name.to_lowercase()))) {
            return Ok(());
        }
        let shown: Vec<_> = names.iter().take(8).map(|name| name.escape_debug().to_string()).collect();
        let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
        Err(Refused::Name(shown.chars().take(300).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_digits_that_may_be_octal_is_refused() {
        for wrong in ["010.0.0.0/8", "::ffff:05.0.0.0/104", "10.0.0.01", "10.00.0.0/8"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_of_ipv4_may_be_written_as_ipv6() {
        for (text, address) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), address, "{text}");
        }
        for wrong in
            ["10.0.0.0/", "10.0.0.0/+8", "::ffff:10.0.0.0/95", "::ffff:10.0.0.0/8", "10.0.0.0/33", "host"]
        {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
