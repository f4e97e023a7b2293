//! All sources, each by itself: one that fails waits, and delays no other.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use runtime::drain::DrainWatch;
use tokio::sync::watch;

use crate::source::{Round, Source};

/// What a source that is pulled once came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emptied {
    Yes,
    No,
}

/// Pulls for good, until the drain starts, or until `stays` is closed: its
/// name stands for it no more.
pub(crate) async fn pull(mut source: Source, drain: DrainWatch, mut stays: watch::Receiver<()>) {
    let mut backoff = backoff(source.options.interval);
    loop {
        tokio::select! {
            () = source.may_go_on() => {}
            () = drain.started() => return,
            _ = stays.changed() => return gone(&source),
        }
        let round = source.round().await;
        if drain.is_started() {
            return;
        }
        say(&source, &round);
        if stays.has_changed().is_err() {
            return gone(&source);
        }
        let pause = match &round.end {
            // Something came, so there may be more.
            _ if round.tally.files > 0 => Duration::ZERO,
            Ok(()) => source.options.interval,
            Err(error) if source.is_paused_by(error).await => Duration::ZERO,
            Err(_) => {
                source.figures.retried();
                backoff.next().unwrap_or(LONGEST_PAUSE)
            }
        };
        if round.end.is_ok() {
            backoff = self::backoff(source.options.interval);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = drain.started() => return,
            _ = stays.changed() => return gone(&source),
        }
    }
}

/// Pulls until a round finds nothing more; whether nothing is left.
pub(crate) async fn pull_once(mut source: Source, drain: DrainWatch) -> Emptied {
    let (mut files, mut bytes) = (0, 0);
    loop {
        let round = source.round().await;
        files += round.tally.files;
        bytes += round.tally.bytes;
        say(&source, &round);
        let emptied = match &round.end {
            Err(_) => Emptied::No,
            Ok(()) if round.tally.files > 0 && !drain.is_started() => continue,
            Ok(()) if round.left > 0 || drain.is_started() => Emptied::No,
            Ok(()) => Emptied::Yes,
        };
        tracing::info!(source = %source.shown, files, bytes, emptied = emptied == Emptied::Yes, "source pulled");
        return emptied;
    }
}

fn gone(source: &Source) {
    tracing::info!(source = %source.shown, "no longer pulled: its name does not stand for this address any more");
}

fn say(source: &Source, round: &Round) {
    let (files, bytes, left) = (round.tally.files, round.tally.bytes, round.left);
    match &round.end {
        Ok(()) if files > 0 => tracing::info!(source = %source.shown, files, bytes, left, "round ended"),
        Ok(()) => tracing::debug!(source = %source.shown, left, "nothing to fetch"),
        Err(error) => tracing::warn!(source = %source.shown, files, bytes, %error, "round failed"),
    }
}

/// Longer each time, spread by chance, bounded.
fn backoff(interval: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(interval.min(Duration::from_secs(1)))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

const LONGEST_PAUSE: Duration = Duration::from_secs(300);
