//! What a crash or a lost connection left staged.
//!
//! Such a file is durable here, and its source may have forgotten it or not.
//! The source's listing tells: who is not listed was forgotten, and is
//! published. Who is listed is fetched again, compared, and stays one file
//! ([`Intake::stage`]).

use std::collections::HashSet;

use bytes::Bytes;

use crate::destination::{DestinationError, Intake};

/// Publishes what is staged and not listed; one that cannot be published does
/// not keep back the others. Nothing may be under way from the source into
/// `intake`.
pub(crate) async fn publish_forgotten(intake: &Intake, listed: &[Bytes]) -> Result<(), DestinationError> {
    let staged = intake.staged().await?;
    if staged.is_empty() {
        return Ok(());
    }
    let listed: HashSet<&[u8]> = listed.iter().map(|name| &name[..]).collect();
    let mut published = Ok(());
    for name in staged.iter().filter(|name| !listed.contains(name.as_bytes())) {
        match intake.publish(name).await {
            Ok(()) => tracing::info!(
                ?name,
                "settled: fetched before a connection or a process ended, and forgotten by its source"
            ),
            Err(error) => published = published.and(Err(error)),
        }
    }
    let flushed = intake.flush().await;
    published.and(flushed)
}
