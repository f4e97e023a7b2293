//! The side of TLS that waits for clients.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Arg;
use runtime::{
    options::{Layers, OptionError, value, values},
    telemetry::SPANS,
};
use rustls::ServerConfig;
use tracing::{
    Instrument as _,
    field::{Empty, display},
};
use transport::{
    Stream, TcpStream,
    tls::{self, Authorities, HandshakeError, Pem},
};

use crate::expiry::{self, Certificates};
use crate::identity::{Ask, IdentitySource, key_arguments, only_with_certificate};
use crate::loaded::{CertificateCheck, Live, Loaded};
use crate::metrics::{METRICS, of_handshake};

/// What a server shows to its clients, and asks of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate.
    pub identity: IdentitySource,
    /// Clients must show a certificate that chains to one of these.
    pub authorities: Option<Pem>,
}

/// Makes connections what they have to be: as they come, or encrypted.
#[derive(Debug)]
pub struct Acceptor {
    config: Option<Live<ServerConfig>>,
    patience: Duration,
    _expiry: Option<expiry::Watch>,
}

/// The options of a server.
pub fn server_arguments() -> Vec<Arg> {
    let mut arguments = vec![
        value("ssl-cert", 'e', "FILE", "Speak TLS, with the certificate in this PEM file")
            .value_parser(values::existing_file()),
        value("ssl-ca", 'f', "FILE", "Clients must show a certificate of an authority in this PEM file")
            .value_parser(values::existing_file()),
    ];
    arguments.extend(key_arguments());
    arguments
}

// === impl ServerTls ===

impl ServerTls {
    /// What the layers say; none without a certificate. Blocks: the files are
    /// read, to see that they can be used, and with `-w` somebody is asked.
    ///
    /// # Errors
    /// One line that names the option, its value and what is wrong.
    pub fn from_layers(layers: &Layers) -> Result<Option<Self>, OptionError> {
        only_with_certificate(layers, &["ssl-key", "ssl-ca", "ssl-password", "key-password-file"])?;
        let Some(identity) = IdentitySource::from_layers(layers, Ask::Twice)? else { return Ok(None) };
        identity.load().map_err(|why| layers.refuse("ssl-cert", why))?;
        let authorities = layers.get::<PathBuf>("ssl-ca").cloned().map(Pem::from);
        if let Some(authorities) = &authorities {
            Authorities::load(authorities).map_err(|why| layers.refuse("ssl-ca", why.to_string()))?;
        }
        Ok(Some(Self { identity, authorities }))
    }

    fn load(&self) -> Result<Loaded<ServerConfig>, String> {
        let authorities = self.authorities.as_ref().map(Authorities::load).transpose();
        let authorities = authorities.map_err(|error| error.to_string())?;
        let config = tls::server_config(&self.identity.load()?, authorities);
        Ok(Loaded::new(config, Some(self.identity.certificate.clone())))
    }

    fn certificates(&self) -> Certificates {
        let own = Some(self.identity.certificate.clone());
        Certificates { own, authorities: self.authorities.clone() }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.identity.paths();
        paths.extend(self.authorities.as_ref().and_then(Pem::path).map(ToOwned::to_owned));
        paths
    }
}

// === impl Acceptor ===

impl Acceptor {
    /// With `tls`, handshakes that each have `patience`; the files are read
    /// again when they change. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn start(tls: Option<ServerTls>, patience: Duration) -> Result<Self, String> {
        let Some(tls) = tls else { return Ok(Self { config: None, patience, _expiry: None }) };
        let (certificates, paths) = (tls.certificates(), tls.paths());
        let expiry = expiry::watch(certificates.clone());
        let load = move || tls.load().inspect(|_| expiry::say(&certificates));
        let config = Live::start(paths, load)?;
        Ok(Self { config: Some(config), patience, _expiry: Some(expiry) })
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        self.config.is_some()
    }

    /// Whether the certificates are in order; none where connections are not
    /// encrypted.
    pub fn check(&self) -> Option<CertificateCheck> {
        self.config.as_ref().map(Live::check)
    }

    /// Does what is to be done before the first command.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn accept(&self, stream: TcpStream) -> Result<Stream, HandshakeError> {
        match &self.config {
            None => Ok(stream.into()),
            Some(config) => self.shake_hands(stream, config.config()).await,
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<Stream, HandshakeError> {
        let began = Instant::now();
        let span = tracing::info_span!(
            target: SPANS,
            "handshake",
            tentacle.outcome = Empty,
            error.type = Empty,
            exception.message = Empty,
        );
        let shaken = tls::accept(stream, config, self.patience).instrument(span.clone()).await;
        METRICS.handshake(began, shaken.as_ref().err());
        match &shaken {
            Ok(_) => span.record("tentacle.outcome", "ok"),
            Err(why) => span
                .record("tentacle.outcome", "failed")
                .record("error.type", of_handshake(why))
                .record("exception.message", display(why)),
        };
        shaken
    }
}
