//! What a program tells of itself to others: traces, metrics and logs by OpenTelemetry, and the page that Prometheus
//! scrapes.
//!
//! It is set up by the standard `OTEL_*` variables alone
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>). Without an endpoint nothing
//! is traced or sent, and what the code says to it costs next to nothing. A collector that is down or slow changes
//! nothing but a counter, [`LOST`].

mod figures;
pub mod files;
pub mod journey;
mod outgoing;
mod sampler;
mod scrape;
mod settings;
mod wire;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

pub use self::figures::service;
use self::outgoing::{Courier, Signal};
pub(crate) use self::scrape::{Form, page};
use self::settings::Settings;
pub use self::settings::SettingsError;
use crate::logs::{self, LogError, Logs};

/// The target of the spans of a program. The log has no line for them.
///
/// Spans are made by `tracing`'s macros with this target: where nothing is traced, such a call is a look at one flag.
pub const SPANS: &str = "tentacle::trace";

/// What all metrics are made by.
pub const METER: &str = "tentacle";

/// The counter of what could not be sent.
pub const LOST: &str = "tentacle_telemetry_dropped";

/// What telemetry has to know of a program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name, which `OTEL_SERVICE_NAME` overrides.
    pub name: &'static str,

    /// Whether its metrics can be scraped ([`crate::http`]).
    pub scraped: bool,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A variable's value is of no use.
    #[error(transparent)]
    Settings(#[from] SettingsError),

    /// The logs cannot be written.
    #[error(transparent)]
    Logs(#[from] LogError),

    /// Its thread.
    #[error("the thread that sends telemetry cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// The telemetry and the logs of a process. When this is dropped, what waits is sent, within [`LAST_WORDS`], and then
/// written.
#[derive(Debug)]
#[must_use = "telemetry and logs end when this is dropped"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    exported_logs: Option<SdkLoggerProvider>,
    _logs: Logs,
}

/// A layer of what is told, on top of the registry.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts the logs and the telemetry of this process: before any other thread, and once.
///
/// # Errors
/// [`TelemetryError`]. What the specification wants to be passed over is warned of.
pub fn start(program: Program, log: &logs::Settings) -> Result<Telemetry, TelemetryError> {
    let settings = Settings::from_environment()?;
    let courier = settings.sends().then(Courier::start).transpose()?;
    let resource = resource(program.name);
    let metrics = start_metrics(&settings, program, &resource, courier.as_ref())?;
    let mut layers = Vec::new();
    let traces = match (&settings.traces, &courier) {
        (Some(target), Some(courier)) => {
            let exporter = courier.spans(target)?;
            let provider = SdkTracerProvider::builder()
                .with_span_processor(outgoing::bounded_spans(exporter, &settings.batch))
                .with_sampler(sampler::Journeys(settings.sampler.clone()))
                .with_resource(resource.clone())
                .build();
            layers.push(span_layer(&provider));
            global::set_tracer_provider(provider.clone());
            TRACING.store(true, Relaxed);
            Some(provider)
        }
        _ => None,
    };
    let exported_logs = match (&settings.logs, &courier) {
        (Some(target), Some(courier)) => {
            let exporter = courier.logs(target)?;
            let provider = SdkLoggerProvider::builder()
                .with_log_processor(outgoing::bounded_logs(exporter, &settings.log_batch))
                .with_resource(resource)
                .build();
            let bridge = OpenTelemetryTracingBridge::new(&provider);
            layers.push(bridge.with_filter(logs::levels(log.verbosity)).boxed());
            Some(provider)
        }
        _ => None,
    };
    let logs = logs::start(log, layers)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    Ok(Telemetry { traces, metrics, exported_logs, _logs: logs })
}

/// Whether spans are made: what serves them alone, such as a digest, is worth its cost then.
pub fn is_tracing() -> bool {
    TRACING.load(Relaxed)
}

static TRACING: AtomicBool = AtomicBool::new(false);

// === impl Telemetry ===

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Each may wait for a collector that does not answer: all of them together have the time of one.
        thread::scope(|scope| {
            if let Some(traces) = &self.traces {
                scope.spawn(|| traces.shutdown_with_timeout(LAST_WORDS));
            }
            if let Some(logs) = &self.exported_logs {
                scope.spawn(|| logs.shutdown_with_timeout(LAST_WORDS));
            }
            if let Some(metrics) = &self.metrics {
                scope.spawn(|| metrics.shutdown_with_timeout(LAST_WORDS));
            }
        });
    }
}

fn start_metrics(
    settings: &Settings,
    program: Program,
    resource: &Resource,
    courier: Option<&Courier>,
) -> Result<Option<SdkMeterProvider>, TelemetryError> {
    let pushed = settings.metrics.as_ref().zip(courier);
    let scraped = program.scraped && !settings.disabled;
    if pushed.is_none() && !scraped {
        return Ok(None);
    }
    let mut provider = SdkMeterProvider::builder().with_resource(resource.clone()).with_view(figures::room);
    if scraped {
        provider = provider.with_reader(scrape::reader());
    }
    if let Some((target, courier)) = pushed {
        provider = provider.with_reader(outgoing::periodic(courier.metrics(target)?, settings.push_every));
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    figures::build_info();
    figures::process();
    outgoing::start_counting(&Signal::ALL);
    Ok(Some(provider))
}

fn span_layer(provider: &SdkTracerProvider) -> BoxedLayer {
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(METER))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_filter(Targets::new().with_target(SPANS, LevelFilter::TRACE))
        .boxed()
}

fn resource(name: &'static str) -> Resource {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    let instance = INSTANCE.get_or_init(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}-{}", std::process::id())
    });
    let own = [
        KeyValue::new("service.namespace", "tentacle"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.as_str()),
    ];
    let mut builder = Resource::builder_empty()
        .with_service_name(name)
        .with_attributes(own)
        .with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()))
        .with_detector(Box::new(opentelemetry_sdk::resource::TelemetryResourceDetector));
    if let Some(named) = std::env::var("OTEL_SERVICE_NAME").ok().filter(|named| !named.is_empty()) {
        builder = builder.with_service_name(named);
    }
    builder.build()
}

/// How long a program that ends waits for what it has not sent.
pub const LAST_WORDS: Duration = Duration::from_secs(3);
