//! What flushes cost, for whoever has a meter.

use std::{sync::LazyLock, time::Instant};

use opentelemetry::{
    global,
    metrics::{Histogram, Meter},
};
use tracing::Span;

/// One flush of a folder, which many files may share.
pub(crate) struct Flush {
    files: u64,
    began: Instant,
    span: Span,
}

impl Flush {
    /// Begins; `files` wait for it.
    pub(crate) fn begin(files: usize) -> Self {
        let files = files as u64;
        let span = tracing::info_span!(
            target: "tentacle::trace",
            parent: None,
            "flush",
            tentacle.flush.files = files,
            tentacle.outcome = tracing::field::Empty,
            error.type = tracing::field::Empty,
        );
        Self { files, began: Instant::now(), span }
    }

    pub(crate) fn end(self, result: &std::io::Result<()>) {
        METRICS.seconds.record(self.began.elapsed().as_secs_f64(), &[]);
        METRICS.files.record(self.files, &[]);
        match result {
            Ok(()) => self.span.record("tentacle.outcome", "ok"),
            Err(error) => self
                .span
                .record("tentacle.outcome", "failed")
                .record("error.type", tracing::field::display(error.kind())),
        };
    }
}

struct Metrics {
    seconds: Histogram<f64>,
    files: Histogram<u64>,
}

/// Made with the first flush, when the program's meter stands.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(&global::meter("tentacle")));

impl Metrics {
    fn new(meter: &Meter) -> Self {
        Self {
            seconds: meter
                .f64_histogram("tentacle_flush_seconds")
                .with_unit("s")
                .with_description("How long a flush of a folder took")
                .with_boundaries(vec![
                    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
                    5.0, 10.0,
                ])
                .build(),
            files: meter
                .u64_histogram("tentacle_flush_files")
                .with_unit("{file}")
                .with_description("How many files shared a flush of a folder")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
                .build(),
        }
    }
}
