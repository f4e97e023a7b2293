//! A Tentacle server that the puller connects to: a source, or a central one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use protocol::{Client, ClientError, ConnectionError, Deadline};
use runtime::options::SecretSource;
use security::{CertificateCheck, ClientTls, Connector, Password};
use transport::{
    Address, DialError, Dialer, Stream,
    tls::{HandshakeError, NameCheck, has_alternative_names},
};

/// A connection to one.
pub(crate) type Session = Client<Stream>;

/// Where it is, and what it takes to be let in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    entry: Arc<Entry>,
    /// The addresses that lead to it; without them, its name is looked up for
    /// each connection.
    known: Option<Arc<[SocketAddr]>>,
}

#[derive(Debug)]
struct Entry {
    address: Address,
    deadline: Deadline,
    connector: Connector,
    password: Option<Password>,
    /// Whether there is no more to say of a certificate without SANs.
    said: AtomicBool,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("it refuses the password, or asks for none")]
    Password,
    #[error("{0}{hint}", hint = hint(.0))]
    Client(#[from] ClientError),
}

/// What the settings have to do with it.
pub(crate) fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connection(ConnectionError::Tls) => {
            " (give it its tls settings: a CA, or at least tls: true)"
        }
        _ => "",
    }
}

impl Upstream {
    /// Reads the files that the options name, again when they change. Must be
    /// called within a tokio runtime; blocks.
    pub(crate) fn start(
        address: Address,
        deadline: Deadline,
        tls: Option<ClientTls>,
        password: Option<SecretSource>,
    ) -> anyhow::Result<Self> {
        let unchecked = tls.as_ref().is_some_and(|tls| tls.authorities.is_none() && tls.pin.is_none());
        if unchecked {
            tracing::warn!(server = %address, "TLS encrypts, and whoever answers is believed: no CA and no pin is given to check the certificate");
        }
        let named =
            tls.as_ref().is_some_and(|tls| tls.name == NameCheck::SubjectAltNames && tls.pin.is_none());
        let connector = Connector::start(tls).map_err(anyhow::Error::msg)?;
        let password = password.map(Password::start).transpose().map_err(anyhow::Error::msg)?;
        let said = AtomicBool::new(unchecked || !named);
        let entry = Entry { address, deadline, connector, password, said };
        Ok(Self { entry: Arc::new(entry), known: None })
    }

    /// One of several by this name: reached at these addresses, by the name's
    /// certificate and password.
    pub(crate) fn at(&self, addresses: Vec<SocketAddr>) -> Self {
        Self { entry: Arc::clone(&self.entry), known: Some(addresses.into()) }
    }

    /// Connects, and says the password.
    pub(crate) async fn connect(&self) -> Result<Session, UpstreamError> {
        let Entry { address, deadline, connector, password, .. } = &*self.entry;
        let dialer = Dialer::new(deadline.as_duration());
        let stream = match &self.known {
            Some(known) => dialer.dial_known(address, known).await?,
            None => dialer.dial(address).await?,
        };
        let stream = connector.connect(stream, address, deadline.as_duration()).await?;
        self.entry.warn_of_no_name(&stream);
        let mut session = Client::new(stream, *deadline);
        if let Some(password) = password {
            session.authenticate(&password.digest()).await.map_err(|error| match error {
                ClientError::Connection(ConnectionError::Closed) => UpstreamError::Password,
                error => error.into(),
            })?;
        }
        Ok(session)
    }

    /// Whether the certificates are in order; none where connections are not
    /// encrypted.
    pub(crate) fn check(&self) -> Option<CertificateCheck> {
        self.entry.connector.check()
    }
}

impl Entry {
    /// Says once that a certificate was taken by its authority alone.
    fn warn_of_no_name(&self, stream: &Stream) {
        let nameless = |leaf| !has_alternative_names(leaf);
        if stream.peer_certificate().is_some_and(nameless) && !self.said.swap(true, Relaxed) {
            tracing::warn!(server = %self.address, "the certificate has no SANs, and passes by its authority alone: whoever has a certificate of that authority can answer (--verify-name strict asks for the name in its CN)");
        }
    }
}
