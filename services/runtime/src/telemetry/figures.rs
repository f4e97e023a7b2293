//! Figures that every program has: its build, its health, and its runtime's.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::metrics::{Instrument, Stream};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use super::METER;
use crate::health::Health;

/// Which build this is.
pub(super) fn build_info() {
    let of = [KeyValue::new("version", env!("CARGO_PKG_VERSION"))];
    let _ = global::meter(METER)
        .u64_observable_gauge("tentacle_build_info")
        .with_description("Always 1: the version of the program")
        .with_callback(move |seen| seen.observe(1, &of))
        .build();
}

/// Figures of the process, by the names that Prometheus' own clients give them.
pub(super) fn process() {
    let (meter, began) = (global::meter(METER), SystemTime::now());
    let gauge = |name: &'static str, unit: &'static str, about: &'static str, of: fn() -> Option<u64>| {
        let _ = meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |seen| {
                if let Some(figure) = of() {
                    seen.observe(figure, &[]);
                }
            })
            .build();
    };
    gauge("process_resident_memory_bytes", "By", "Memory that is in use", || {
        status("VmRSS:").map(|kilobytes| kilobytes * 1024)
    });
    gauge("process_threads", "{thread}", "Threads of the system", || status("Threads:"));
    gauge("process_open_fds", "{descriptor}", "Descriptors that are open", || {
        Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
    });
    gauge("process_max_fds", "{descriptor}", "Descriptors that may be open", || {
        getrlimit(Resource::Nofile).current
    });
    let _ = meter
        .f64_observable_gauge("process_start_time_seconds")
        .with_unit("s")
        .with_description("When the process began, in seconds since 1970")
        .with_callback(move |seen| {
            seen.observe(began.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()), &[]);
        })
        .build();
    let _ = meter
        .f64_observable_counter("process_cpu_seconds")
        .with_unit("s")
        .with_description("Time of processors that was used")
        .with_callback(move |seen| {
            let used = clock_gettime(ClockId::ProcessCPUTime);
            seen.observe(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9, &[]);
        })
        .build();
}

/// A figure of proc_pid_status(5).
fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

/// Tells what the checks of a service say, as `/readyz` does, and how its runtime is. Must be called within it.
pub fn service(health: &Health) {
    let (meter, health) = (global::meter(METER), health.clone());
    let _ = meter
        .u64_observable_gauge("tentacle_ready")
        .with_description("Whether a check of /readyz passes")
        .with_callback(move |seen| {
            for standing in health.standings() {
                seen.observe(u64::from(standing.result.is_ok()), &[KeyValue::new("check", standing.name)]);
            }
        })
        .build();
    let metrics = Handle::current().metrics();
    let seen = metrics.clone();
    let _ = meter
        .u64_observable_gauge("tokio_workers")
        .with_description("Threads that run tasks")
        .with_callback(move |gauge| gauge.observe(seen.num_workers() as u64, &[]))
        .build();
    let seen = metrics.clone();
    let _ = meter
        .u64_observable_gauge("tokio_alive_tasks")
        .with_description("Tasks that have not ended")
        .with_callback(move |gauge| gauge.observe(seen.num_alive_tasks() as u64, &[]))
        .build();
    let seen = metrics.clone();
    let _ = meter
        .u64_observable_gauge("tokio_global_queue_depth")
        .with_description("Tasks that wait for a thread")
        .with_callback(move |gauge| gauge.observe(seen.global_queue_depth() as u64, &[]))
        .build();
    let _ = meter
        .f64_observable_counter("tokio_busy_seconds")
        .with_unit("s")
        .with_description("Time that the threads have spent on tasks")
        .with_callback(move |counter| {
            let busy = (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker));
            counter.observe(busy.sum::<std::time::Duration>().as_secs_f64(), &[]);
        })
        .build();
}

/// Room for the series of a metric. The SDK takes the memory for all of them at once, for each metric: what is told for
/// each thing that is configured has room for what bounds those labels, and all else has few labels of few values.
pub(super) fn room(of: &Instrument) -> Option<Stream> {
    let is_of_each = OF_EACH.iter().any(|prefix| of.name().starts_with(prefix));
    let series = if is_of_each { MOST_SERIES } else { FEW_SERIES };
    Stream::builder().with_cardinality_limit(series).build().ok()
}

/// What is told for each source, destination, upstream server or certificate's file: there may be thousands.
const OF_EACH: [&str; 4] =
    ["tentacle_source_", "tentacle_destination_", "tentacle_upstream_", "tentacle_certificate_"];

/// Of each of those: what bounds their labels is below it by far.
const MOST_SERIES: usize = 12_500;

/// Of anything else: by far more than commands, outcomes and reasons.
const FEW_SERIES: usize = 400;
