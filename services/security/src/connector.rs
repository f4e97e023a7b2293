//! The side of TLS that connects to servers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Arg;
use runtime::{
    options::{Layers, OptionError, switch, value, values},
    reload::Reloaded,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use transport::{
    Address, Stream,
    tls::{self, Authorities, HandshakeError, NameCheck, ServerCheck},
};

use crate::expiry;
use crate::identity::{Ask, IdentityFiles, key_arguments, only_with_certificate};

/// What a client shows to its server, and asks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Its certificate, where it has one.
    pub identity: Option<IdentityFiles>,
    /// The server's certificate must chain to one in this file.
    pub authorities: Option<PathBuf>,
    /// Which names the server's certificate may have.
    pub name: NameCheck,
    /// The name that is checked, in place of the address.
    pub server_name: Option<String>,
    /// SHA-256 of the server's certificate.
    pub pin: Option<[u8; 32]>,
}

/// The options of `tentacle_client`.
pub fn client_arguments() -> Vec<Arg> {
    let mut arguments = vec![
        switch("ssl", 'c', "Speak TLS, without a certificate of one's own and without checking the server's"),
        value("ssl-cert", 'e', "FILE", "Speak TLS, and show the certificate in this PEM file")
            .value_parser(values::existing_file()),
        value(
            "ssl-ca",
            'f',
            "FILE",
            "The server's certificate must be of an authority in this PEM file, and for its name; with -e",
        )
        .value_parser(values::existing_file()),
    ];
    arguments.extend(key_arguments());
    arguments
}

/// Makes connections what they have to be: as they are, or encrypted.
#[derive(Debug, Default)]
pub struct Connector {
    tls: Option<Tls>,
}

#[derive(Debug)]
struct Tls {
    config: Reloaded<Arc<ClientConfig>>,
    server_name: Option<String>,
    _expiry: Option<expiry::Watch>,
}

// === impl ClientTls ===

impl ClientTls {
    /// What the layers of `tentacle_client` say; none where they do not ask
    /// for TLS.
    ///
    /// # Errors
    /// One line that names the option, its value and what is wrong.
    pub fn from_layers(layers: &Layers) -> Result<Option<Self>, OptionError> {
        only_with_certificate(layers, &["ssl-key", "ssl-ca", "ssl-password", "key-password-file"])?;
        if layers.switch("ssl") && layers.source_of("ssl-cert").is_some() {
            let why =
                "does not go with -e, which speaks TLS too and shows a certificate (give one of the two)";
            return Err(layers.refuse("ssl", why));
        }
        let identity = IdentityFiles::from_layers(layers, Ask::Once)?;
        if identity.is_none() && !layers.switch("ssl") {
            return Ok(None);
        }
        let authorities = layers.get::<PathBuf>("ssl-ca").cloned();
        Ok(Some(Self { identity, authorities, ..Self::default() }))
    }

    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let authorities = self.authorities.as_deref().map(Authorities::load).transpose();
        let authorities = authorities.map_err(|error| error.to_string())?;
        let identity = self.identity.as_ref().map(IdentityFiles::load).transpose()?;
        Ok(tls::client_config(ServerCheck { authorities, name: self.name, pin: self.pin }, identity.as_ref()))
    }

    /// The files that hold certificates.
    fn certificates(&self) -> Vec<PathBuf> {
        let own = self.identity.as_ref().map(|identity| &identity.certificate);
        [own, self.authorities.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.identity.as_ref().map(IdentityFiles::paths).unwrap_or_default();
        paths.extend(self.authorities.clone());
        paths
    }
}

// === impl Connector ===

impl Connector {
    /// With `tls`, connections are encrypted; the files are read again when
    /// they change. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn start(tls: Option<ClientTls>) -> Result<Self, String> {
        let Some(tls) = tls else { return Ok(Self::default()) };
        let (certificates, paths) = (tls.certificates(), tls.paths());
        let (server_name, expiry) = (tls.server_name.clone(), expiry::watch(certificates.clone()));
        let load = move || tls.load().inspect(|_| expiry::say(&certificates));
        let config = Reloaded::start("certificate", paths, load)?;
        Ok(Self { tls: Some(Tls { config, server_name, _expiry: Some(expiry) }) })
    }

    /// The same for one connection: nothing is read again.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn once(tls: Option<ClientTls>) -> Result<Self, String> {
        let Some(tls) = tls else { return Ok(Self::default()) };
        let server_name = tls.server_name.clone();
        let config = Reloaded::start("certificate", Vec::new(), move || tls.load())?;
        Ok(Self { tls: Some(Tls { config, server_name, _expiry: None }) })
    }

    /// Does what is to be done before the first command, within `patience`.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn connect(
        &self,
        stream: TcpStream,
        server: &Address,
        patience: Duration,
    ) -> Result<Stream, HandshakeError> {
        let Some(tls) = &self.tls else { return Ok(stream.into()) };
        let name = tls.server_name.as_deref().unwrap_or(&server.host);
        tls::connect(stream, Arc::clone(&tls.config.get()), name, patience).await
    }
}
