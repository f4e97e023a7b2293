//! What a crash or a lost connection left staged.
//!
//! Such a file is durable here, and its source may have forgotten it or not.
//! The source's listing tells: who is not listed was forgotten, and is
//! published. Who is listed is fetched again, compared, and stays one file
//! ([`Intake::stage`]).

use std::{collections::HashSet, time::SystemTime};

use bytes::Bytes;
use opentelemetry::{Context, KeyValue};
use runtime::telemetry::{is_tracing, journey::Journey};
use spool::Disk;

use crate::destination::{DestinationError, Intake};

/// Publishes what is staged and not listed; one that cannot be published does
/// not keep back the others. Nothing may be under way from the source into
/// `intake`.
pub(crate) async fn publish_forgotten<D: Disk>(
    intake: &Intake<D>,
    listed: &[Bytes],
) -> Result<(), DestinationError> {
    let staged = intake.staged().await?;
    if staged.is_empty() {
        return Ok(());
    }
    let listed: HashSet<&[u8]> = listed.iter().map(|name| &name[..]).collect();
    let mut all = Ok(());
    for name in staged.iter().filter(|name| !listed.contains(name.as_bytes())) {
        // Nobody has read it since the crash.
        let digest = if is_tracing() { intake.digest(name).await? } else { None };
        let began = SystemTime::now();
        let published = intake.publish(name).await;
        let journey = digest.as_ref().filter(|_| published.is_ok()).map(|digest| {
            let attributes = || {
                [
                    KeyValue::new("tentacle.outcome", "settled"),
                    KeyValue::new("file.name", String::from_utf8_lossy(name.as_bytes()).into_owned()),
                ]
            };
            Journey::of(name.as_bytes(), digest).record("file published", began, attributes)
        });
        let _within = journey.map(Context::attach);
        match published {
            Ok(()) => tracing::info!(
                ?name,
                "settled: fetched before a connection or a process ended, and forgotten by its source"
            ),
            Err(error) => all = all.and(Err(error)),
        }
    }
    let flushed = intake.flush().await;
    all.and(flushed)
}
