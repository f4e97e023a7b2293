//! The side of TLS that connects to servers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Arg;
use runtime::options::{Layers, OptionError, switch, value, values};
use rustls::ClientConfig;
use transport::{
    Address, Stream, TcpStream,
    tls::{self, Authorities, HandshakeError, NameCheck, Pem, ServerCheck},
};

use crate::expiry::{self, Certificates};
use crate::identity::{Ask, IdentitySource, key_arguments, only_with_certificate};
use crate::loaded::{CertificateCheck, Live, Loaded};

/// What a client shows to its server, and asks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Its certificate, where it has one.
    pub identity: Option<IdentitySource>,
    /// The server's certificate must chain to one of these.
    pub authorities: Option<Pem>,
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
    config: Live<ClientConfig>,
    server_name: Option<String>,
    is_checking: bool,
    is_naming: bool,
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
        let identity = IdentitySource::from_layers(layers, Ask::Once)?;
        if identity.is_none() && !layers.switch("ssl") {
            return Ok(None);
        }
        let authorities = layers.get::<PathBuf>("ssl-ca").cloned().map(Pem::from);
        Ok(Some(Self { identity, authorities, ..Self::default() }))
    }

    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let authorities = self.authorities.as_ref().map(Authorities::load).transpose();
        let authorities = authorities.map_err(|error| error.to_string())?;
        let identity = self.identity.as_ref().map(IdentitySource::load).transpose()?;
        Ok(tls::client_config(ServerCheck { authorities, name: self.name, pin: self.pin }, identity.as_ref()))
    }

    fn certificates(&self) -> Certificates {
        let own = self.identity.as_ref().map(|identity| identity.certificate.clone());
        Certificates { own, authorities: self.authorities.clone() }
    }

    /// Whether the server's certificate is checked at all.
    fn is_checking(&self) -> bool {
        self.authorities.is_some() || self.pin.is_some()
    }

    /// Whether it must have a name.
    fn is_naming(&self) -> bool {
        self.authorities.is_some() && self.pin.is_none()
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.identity.as_ref().map(IdentitySource::paths).unwrap_or_default();
        paths.extend(self.authorities.as_ref().and_then(Pem::path).map(ToOwned::to_owned));
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
        let watch = expiry::watch(certificates.clone());
        Self::reading(tls, paths, Some(watch), move || expiry::say(&certificates))
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The same for one connection: nothing is read again.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn once(tls: Option<ClientTls>) -> Result<Self, String> {
        let Some(tls) = tls else { return Ok(Self::default()) };
        Self::reading(tls, Vec::new(), None, || {})
    }

    fn reading(
        tls: ClientTls,
        paths: Vec<PathBuf>,
        _expiry: Option<expiry::Watch>,
        say: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let server_name = tls.server_name.clone();
        let (is_checking, is_naming) = (tls.is_checking(), tls.is_naming());
        let own = tls.identity.as_ref().map(|identity| identity.certificate.clone());
        let load = move || tls.load().inspect(|_| say()).map(|config| Loaded::new(config, own.clone()));
        let config = Live::start(paths, load)?;
        Ok(Self { tls: Some(Tls { config, server_name, is_checking, is_naming, _expiry }) })
    }

    /// Whether the certificates are in order; none where connections are not
    /// encrypted.
    pub fn check(&self) -> Option<CertificateCheck> {
        self.tls.as_ref().map(|tls| tls.config.check())
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
        let address = match stream.peer_addr() {
            // A host that is no name of a certificate can still be connected
            // to where names are not looked at.
            Ok(peer) if !tls.is_naming && !tls::is_server_name(name) => Some(peer.ip().to_string()),
            _ => None,
        };
        let name = address.as_deref().unwrap_or(name);
        let stream = tls::connect(stream, tls.config.config(), name, patience).await?;
        if tls.is_checking {
            tls::check_server_dates(&stream)?;
        }
        Ok(stream)
    }
}
