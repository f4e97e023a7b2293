//! A configuration of TLS as its files say, and whether it is in order.

use std::{fmt, path::PathBuf, sync::Arc};

use runtime::reload::Reloaded;
use transport::tls::{Pem, Validity, validities};

use crate::expiry;

/// Tells whether certificates are in order: the last reading of their files
/// went well, and the one that is shown can be used today. Reads no file.
pub type CertificateCheck = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the files came to.
pub(crate) struct Loaded<C> {
    config: Arc<C>,
    /// The certificate that is shown, and where it is.
    own: Option<(Pem, Validity)>,
}

/// The same, made anew when the files change.
pub(crate) struct Live<C>(Arc<Reloaded<Loaded<C>>>);

/// All of `checks` as one, which says what is wrong with the first that is
/// not in order; none of none.
pub fn all_certificates(checks: impl IntoIterator<Item = CertificateCheck>) -> Option<CertificateCheck> {
    let checks: Vec<_> = checks.into_iter().collect();
    (!checks.is_empty()).then(|| Box::new(move || checks.iter().try_for_each(|check| check())) as _)
}

// === impl Loaded ===

impl<C> Loaded<C> {
    /// Blocks: the file of the certificate that is shown is read once more.
    pub(crate) fn new(config: Arc<C>, own: Option<Pem>) -> Self {
        // The first is the one that is shown, those behind it vouch for it.
        let shown = |file: &Pem| validities(file).ok()?.into_iter().next();
        Self { config, own: own.and_then(|file| shown(&file).map(|validity| (file, validity))) }
    }
}

// === impl Live ===

impl<C: Send + Sync + 'static> Live<C> {
    /// As [`Reloaded::start`].
    pub(crate) fn start(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<Loaded<C>, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        Ok(Self(Arc::new(Reloaded::start("certificate", files, load)?)))
    }

    pub(crate) fn config(&self) -> Arc<C> {
        Arc::clone(&self.0.get().config)
    }

    pub(crate) fn check(&self) -> CertificateCheck {
        let reloaded = Arc::clone(&self.0);
        Box::new(move || {
            if let Some(why) = reloaded.failure() {
                return Err(format!("{why} (the one before is in use)"));
            }
            match &reloaded.get().own {
                Some((file, validity)) => expiry::check(file, validity),
                None => Ok(()),
            }
        })
    }
}

impl<C> fmt::Debug for Live<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live(..)")
    }
}
