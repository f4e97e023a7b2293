//! TLS to the upstreams.

use std::path::PathBuf;

use runtime::options::{Layers, OptionError, SecretSource};
use security::{ClientTls, IdentitySource};
use transport::tls::{Pem, is_server_name};

/// What the layers say; none without `--upstream-tls`. Blocks: the files are
/// read, to see that they can be used.
pub(super) fn to_upstreams(layers: &Layers) -> Result<Option<ClientTls>, OptionError> {
    if !layers.switch("upstream-tls") {
        return only_with(layers, ALL, "upstream-tls").map(|()| None);
    }
    only_with(layers, &["upstream-key", "upstream-key-password-file"], "upstream-cert")?;
    // Without it, a certificate of any name is taken.
    only_with(layers, &["upstream-name"], "upstream-ca")?;
    let path = |id| layers.get::<PathBuf>(id).cloned();
    let pem = |id| path(id).map(Pem::from);
    let server_name = layers.get::<String>("upstream-name").cloned();
    if let Some(name) = server_name.as_ref().filter(|name| !is_server_name(name)) {
        let why = format!("{name:?}: a host name or an address is needed");
        return Err(layers.refuse("upstream-name", why));
    }
    let identity = pem("upstream-cert").map(|certificate| IdentitySource {
        certificate,
        key: pem("upstream-key"),
        key_password: path("upstream-key-password-file").map(SecretSource::File),
    });
    if let Some(identity) = &identity {
        identity.load().map_err(|why| layers.refuse("upstream-cert", why))?;
    }
    let authorities = pem("upstream-ca");
    let tls = ClientTls { identity, authorities, server_name, ..ClientTls::default() };
    tls.load().map_err(|why| layers.refuse("upstream-ca", why))?;
    Ok(Some(tls))
}

/// Refuses those of `ids` that are given without `other`.
fn only_with(layers: &Layers, ids: &[&str], other: &str) -> Result<(), OptionError> {
    match ids.iter().find(|id| layers.source_of(id).is_some()) {
        Some(id) if layers.source_of(other).is_none() => {
            Err(layers.refuse(id, format!("only goes with --{other}")))
        }
        _ => Ok(()),
    }
}

const ALL: &[&str] =
    &["upstream-ca", "upstream-name", "upstream-cert", "upstream-key", "upstream-key-password-file"];
