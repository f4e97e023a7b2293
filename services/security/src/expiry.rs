//! Certificates that run out, or are of no use, are said in time.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use transport::tls::{Authorities, Pem, Validity, validities};
use x509_parser::time::ASN1Time;

use crate::metrics;

/// Looks at certificates once a day, for as long as it is held.
pub(crate) type Watch = AbortOnDropHandle<()>;

/// Where the certificates are.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    pub(crate) own: Option<Pem>,
    pub(crate) authorities: Option<Pem>,
}

/// Says every day what of the certificates in these files has run out or soon
/// will. Must be called within a tokio runtime.
pub(crate) fn watch(files: Certificates) -> Watch {
    metrics::watch_expiry(&files);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            sleep(DAY).await;
            let files = files.clone();
            match spawn_blocking(move || say(&files)).await {
                Ok(()) => {}
                Err(ended) if ended.is_panic() => {
                    tracing::error!("looking at when certificates expire failed in a way that is a bug")
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
    }))
}

/// Says it now. Files that cannot be read are said by whoever reads them to
/// use them. Blocks.
pub(crate) fn say(files: &Certificates) {
    if let Some(file) = &files.authorities {
        let loaded = Authorities::load(file);
        for why in loaded.iter().flat_map(Authorities::unusable) {
            if is_news(format!("{file}: {why}")) {
                tracing::warn!(%file, "{why}");
            }
        }
    }
    for file in [&files.own, &files.authorities].into_iter().flatten() {
        for validity in validities(file).unwrap_or_default() {
            let subject = &validity.subject;
            let standing = standing(&validity, now());
            if standing == Standing::Good || !is_news(format!("{file}: {validity:?}")) {
                continue;
            }
            match standing {
                Standing::Good => {}
                Standing::NotYet => {
                    let from = date(validity.not_before);
                    tracing::warn!(%file, subject, from, "certificate is not valid yet: others may refuse it");
                }
                Standing::Soon(days) => {
                    let on = date(validity.not_after);
                    tracing::warn!(%file, subject, on, days, "certificate expires soon: renew it");
                }
                Standing::Expired => {
                    let on = date(validity.not_after);
                    tracing::error!(%file, subject, on, "certificate has expired: renew it, others refuse it");
                }
            }
        }
    }
}

/// Whether a certificate can be used today.
///
/// # Errors
/// One line that names its file and says since when it cannot.
pub(crate) fn check(file: &Pem, validity: &Validity) -> Result<(), String> {
    match standing(validity, now()) {
        Standing::Good | Standing::Soon(_) => Ok(()),
        Standing::NotYet => Err(format!("{file}: not valid before {}", date(validity.not_before))),
        Standing::Expired => Err(format!("{file}: expired on {} (renew it)", date(validity.not_after))),
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs().cast_signed())
}

/// Whether this was not said today: a file may have many uses, such as the CA
/// file of all sources, and each of them looks.
fn is_news(line: String) -> bool {
    static SAID: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.retain(|_, at| at.elapsed() < FORGOTTEN);
    if said.contains_key(&line) {
        return false;
    }
    said.insert(line, Instant::now());
    true
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Good,
    NotYet,
    /// Whole days that are left.
    Soon(i64),
    Expired,
}

fn standing(validity: &Validity, now: i64) -> Standing {
    let days = (validity.not_after - now) / DAY.as_secs().cast_signed();
    match () {
        () if validity.not_after < now => Standing::Expired,
        () if validity.not_before > now => Standing::NotYet,
        () if days < SOON => Standing::Soon(days),
        () => Standing::Good,
    }
}

/// `2026-12-24`, in UTC.
fn date(seconds: i64) -> String {
    let read = ASN1Time::from_timestamp(seconds).map(|time| time.to_datetime().date().to_string());
    read.unwrap_or_else(|_| "a day that no calendar has".to_owned())
}

const DAY: Duration = Duration::from_secs(86_400);

/// Less than a day, so that what is looked at daily is said daily.
const FORGOTTEN: Duration = Duration::from_secs(23 * 3600);

/// Days.
const SOON: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_said_from_thirty_days_before_its_end() {
        let day = 86_400;
        let validity = Validity { subject: "CN=a".to_owned(), not_before: 100 * day, not_after: 200 * day };
        for (now, wanted) in [
            (99 * day, Standing::NotYet),
            (100 * day, Standing::Good),
            (170 * day, Standing::Good),
            (170 * day + 1, Standing::Soon(29)),
            (200 * day, Standing::Soon(0)),
            (200 * day + 1, Standing::Expired),
        ] {
            assert_eq!(standing(&validity, now), wanted, "{now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_day() {
        assert!(is_news("a".to_owned()) && is_news("b".to_owned()) && !is_news("a".to_owned()));
        sleep(DAY).await;
        assert!(is_news("a".to_owned()) && !is_news("a".to_owned()));
    }

    #[test]
    fn dates_are_written_as_iso_has_them() {
        assert_eq!(date(1_798_070_400), "2026-12-24");
        assert_eq!(date(i64::MAX), "a day that no calendar has");
    }
}
