//! The rounds of one source: one that fails waits, and delays no other.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;

use crate::{
    report::Report,
    source::{Round, Source, SourceError},
};

/// What a source that is pulled once came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emptied {
    Yes,
    No,
}

/// Pulls until the term ends, or until `stays` is closed: the source's name
/// stands for this buffer no more.
pub(crate) async fn pull(mut source: Source, report: Report, mut stays: watch::Receiver<()>) {
    let term = source.term.clone();
    let mut backoff = backoff(source.options.interval);
    loop {
        tokio::select! {
            () = source.may_go_on() => {}
            () = term.ending() => return,
            _ = stays.changed() => return gone(&source, &report),
        }
        let round = source.round().await;
        if term.is_ending() {
            return;
        }
        say(&source, &round);
        tell(&source, &round, &report);
        if stays.has_changed().is_err() {
            return gone(&source, &report);
        }
        let pause = match &round.end {
            // Then it is waited for, and no longer than that.
            Err(error) if source.is_paused_by(error).await => Duration::ZERO,
            // It begins anew, with what it finds.
            Err(error) if is_taken_away(error) => return,
            // Something came, so there may be more.
            _ if round.tally.files > 0 => Duration::ZERO,
            Ok(()) => spread(source.options.interval),
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
            () = term.ending() => return,
            _ = stays.changed() => return gone(&source, &report),
        }
    }
}

/// Pulls until a round finds nothing more; whether nothing is left.
pub(crate) async fn pull_once(mut source: Source) -> Emptied {
    let (mut files, mut bytes) = (0, 0);
    loop {
        let round = source.round().await;
        files += round.tally.files;
        bytes += round.tally.bytes;
        say(&source, &round);
        let emptied = match &round.end {
            Err(_) => Emptied::No,
            Ok(()) if round.tally.files > 0 && !source.term.is_ending() => continue,
            Ok(()) if round.left > 0 || source.term.is_ending() => Emptied::No,
            Ok(()) => Emptied::Yes,
        };
        tracing::info!(source = %source.shown, files, bytes, emptied = emptied == Emptied::Yes, "source pulled");
        return emptied;
    }
}

fn gone(source: &Source, report: &Report) {
    report.gone(&source.shown);
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

fn tell(source: &Source, round: &Round, report: &Report) {
    let failure = round.end.as_ref().err().map(ToString::to_string);
    report.round(&source.shown, (round.tally.files, round.tally.bytes), round.left as u64, failure);
}

/// Whether what is staged is gone: another process has taken it over, or an
/// operator has removed it.
fn is_taken_away(error: &SourceError) -> bool {
    matches!(error.disk(), Some(error) if error.kind() == std::io::ErrorKind::NotFound)
}

/// Sources that were found empty at one time are not asked at one time again.
fn spread(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
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
