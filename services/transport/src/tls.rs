//! TLS 1.2 and 1.3: certificates and keys from files, the checks of both
//! sides, and the handshake.
//!
//! The first way to check a certificate is the strict one of the `webpki`
//! crate. The certificates that the guides' commands make are beyond it
//! (X.509 v1, a certificate authority's own as a server's): a narrow check of
//! our own stands beside it, in `verify`, for these alone.

mod error;
mod files;
mod handshake;
mod verify;

use std::sync::Arc;

use rustls::{
    CipherSuite, ClientConfig, ServerConfig,
    crypto::{CryptoProvider, ring},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

pub(crate) use self::error::in_words;
pub use self::{
    error::{HandshakeError, Side},
    files::{Authorities, Identity, Pem, PemError, Validity, validities},
    handshake::{accept, check_server_dates, connect, is_server_name},
    verify::{NameCheck, ServerCheck, has_alternative_names, names_of},
};

/// What a server needs for its side of handshakes.
///
/// With `clients`, who connects must show a certificate that chains to one of
/// them; without, none is asked for, so that one which is offered does no
/// harm.
pub fn server_config(identity: &Identity, clients: Option<Authorities>) -> Arc<ServerConfig> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions");
    let builder = match clients {
        Some(clients) => {
            builder.with_client_cert_verifier(Arc::new(verify::Clients::new(&clients, &provider)))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    // Keys of its own for each configuration: what was agreed under other
    // certificates is not resumed under these.
    if let Ok(ticketer) = ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    // Peers offer none. Who offers another one means another service.
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

/// What a client needs for its side of handshakes.
pub fn client_config(check: ServerCheck, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::Server::new(check, &provider)));
    Arc::new(match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())))
        }
        None => builder.with_no_client_auth(),
    })
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    // AES-128 first: as safe as a session needs, and a bulk faster.
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 1,
        _ => 2,
    });
    Arc::new(provider)
}

/// Of a client that names its protocol. No peer does, and none is registered
/// with IANA.
const ALPN: &[u8] = b"tentacle";
