//! What a certificate is shown for.

use webpki::KeyUsage;
use x509_parser::extensions::ExtendedKeyUsage;

/// Which side shows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Usage {
    Server,
    Client,
}

// === impl Usage ===

impl Usage {
    pub(super) fn is_in(self, extension: &ExtendedKeyUsage<'_>) -> bool {
        match self {
            Self::Server => extension.server_auth,
            Self::Client => extension.client_auth,
        }
    }

    pub(super) fn strict(self) -> KeyUsage {
        match self {
            Self::Server => KeyUsage::server_auth(),
            Self::Client => KeyUsage::client_auth(),
        }
    }
}
