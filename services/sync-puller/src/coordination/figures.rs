//! Figures of leases.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge},
};
use runtime::telemetry::METER;

/// What is told of leases.
pub(super) struct Figures {
    held: Gauge<u64>,
    members: Gauge<u64>,
    renewals: Counter<u64>,
}

/// How the renewal of a shard's lease went.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Ok,
    /// It is tried again.
    Failed,
    /// Another process has the lease.
    Lost,
}

/// Of this process.
pub(super) fn figures() -> &'static Figures {
    static FIGURES: LazyLock<Figures> = LazyLock::new(Figures::new);
    &FIGURES
}

// === impl Figures ===

impl Figures {
    fn new() -> Self {
        let meter = global::meter(METER);
        Self {
            held: meter
                .u64_gauge("tentacle_shards_held")
                .with_description("Shards whose sources this process pulls")
                .build(),
            members: meter
                .u64_gauge("tentacle_members")
                .with_description("Processes that share shards, as this one sees them")
                .build(),
            renewals: meter
                .u64_counter("tentacle_lease_renewals")
                .with_description("Renewals of shards' leases, by how they went")
                .build(),
        }
    }

    pub(super) fn counted(&self, held: usize, members: usize) {
        self.held.record(held as u64, &[]);
        self.members.record(members as u64, &[]);
    }

    pub(super) fn renewed(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Lost => "lost",
        };
        self.renewals.add(1, &[KeyValue::new("outcome", outcome)]);
    }
}
