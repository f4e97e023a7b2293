//! Figures of files that go over, alike for all services.

use std::sync::LazyLock;
use std::time::Instant;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};

use super::METER;

/// Counts files by the command that they go over by.
#[derive(Debug)]
pub struct Files {
    files: Counter<u64>,
    bytes: Counter<u64>,
    seconds: Histogram<f64>,
}

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us; or, for who stands between, to the server.
    In,

    /// From us; or from the server.
    Out,
}

/// Those of this process: made with the first file, when its meter stands.
pub static FILES: LazyLock<Files> = LazyLock::new(Files::new);

impl Files {
    fn new() -> Files {
        let meter = global::meter(METER);
        Files {
            files: meter
                .u64_counter("tentacle_files")
                .with_description("Files that a command was for, by the command and what became of it")
                .build(),
            bytes: meter
                .u64_counter("tentacle_bytes")
                .with_unit("By")
                .with_description("Bytes of files that went over whole, in and out")
                .build(),
            seconds: meter
                .f64_histogram("tentacle_file_seconds")
                .with_unit("s")
                .with_description("How long a file took, from its command until it had gone over")
                .with_boundaries(SECONDS.to_vec())
                .build(),
        }
    }

    /// A command for a file came to this end: a word from a short list.
    pub fn ended(&self, command: &'static str, outcome: &'static str) {
        self.files.add(1, &[KeyValue::new("command", command), KeyValue::new("outcome", outcome)]);
    }

    /// A file went over whole; its command came at `began`.
    pub fn whole(&self, command: &'static str, direction: Direction, bytes: u64, began: Instant) {
        self.ended(command, "ok");
        let command = KeyValue::new("command", command);
        let direction = KeyValue::new("direction", direction.as_str());
        self.bytes.add(bytes, &[command.clone(), direction]);
        self.seconds.record(began.elapsed().as_secs_f64(), &[command]);
    }
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0];
