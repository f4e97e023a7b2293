//! Certificates that run out are said in time.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;
use transport::tls::{Validity, validities};
use x509_parser::time::ASN1Time;

/// Looks at certificates once a day, for as long as it is held.
pub(crate) type Watch = AbortOnDropHandle<()>;

/// Says every day what of the certificates in these files has run out or soon
/// will. Must be called within a tokio runtime.
pub(crate) fn watch(files: Vec<PathBuf>) -> Watch {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(DAY).await;
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
pub(crate) fn say(files: &[PathBuf]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs().cast_signed());
    for path in files {
        for validity in validities(path).unwrap_or_default() {
            let (file, subject) = (path.display(), &validity.subject);
            match standing(&validity, now) {
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

    #[test]
    fn dates_are_written_as_iso_has_them() {
        assert_eq!(date(1_798_070_400), "2026-12-24");
        assert_eq!(date(i64::MAX), "a day that no calendar has");
    }
}
