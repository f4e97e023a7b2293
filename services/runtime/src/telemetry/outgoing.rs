//! The way to a collector: bounded queues, a thread of their own, and a count of what was lost on it.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, thread};

use opentelemetry::metrics::Counter;
use opentelemetry::{InstrumentationScope, KeyValue, global};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{self, BatchLogProcessor, LogBatch, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, Span, SpanData, SpanProcessor};
use tokio::runtime::{Builder, Handle};

use super::settings::{Batch, Target};
use super::{LOST, METER, SettingsError, wire};

/// The thread that holds the connections to collectors. It ends with the process: an export that was given up may still
/// be at its timers.
#[derive(Debug)]
pub(crate) struct Courier {
    handle: Handle,
}

/// One kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

/// An exporter that works on the courier's thread, has a bound, and counts what it could not send.
#[derive(Debug)]
pub(crate) struct Outgoing<E> {
    exporter: E,
    handle: Handle,
    patience: Duration,
    way: Arc<Way>,
}

/// One signal's way.
#[derive(Debug)]
struct Way {
    signal: Signal,
    /// What is queued, of spans and log records.
    waiting: AtomicUsize,
    /// Whether the last export failed.
    failing: AtomicBool,
}

/// A processor that queues no more than a bound, and counts what comes on top.
#[derive(Debug)]
struct Bounded<P> {
    processor: P,
    most: usize,
    way: Arc<Way>,
}

// === impl Courier ===

impl Courier {
    pub(crate) fn start() -> io::Result<Courier> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let runs = move || runtime.block_on(pending::<()>());
        thread::Builder::new().name("telemetry".to_owned()).spawn(runs)?;
        Ok(Courier { handle })
    }

    pub(crate) fn spans(&self, target: &Target) -> Result<Outgoing<SpanExporter>, SettingsError> {
        let _within = self.handle.enter();
        Ok(self.outgoing(wire::spans(target)?, Signal::Traces, target))
    }

    pub(crate) fn metrics(&self, target: &Target) -> Result<Outgoing<MetricExporter>, SettingsError> {
        let _within = self.handle.enter();
        Ok(self.outgoing(wire::metrics(target)?, Signal::Metrics, target))
    }

    pub(crate) fn logs(&self, target: &Target) -> Result<Outgoing<LogExporter>, SettingsError> {
        let _within = self.handle.enter();
        Ok(self.outgoing(wire::logs(target)?, Signal::Logs, target))
    }

    fn outgoing<E>(&self, exporter: E, signal: Signal, target: &Target) -> Outgoing<E> {
        let way = Arc::new(Way { signal, waiting: AtomicUsize::new(0), failing: AtomicBool::new(false) });
        // More than one request may take, for the exporter says more of why it failed.
        let patience = target.patience + Duration::from_secs(1);
        Outgoing { exporter, handle: self.handle.clone(), patience, way }
    }
}

/// Spans that wait for `exporter`.
pub(crate) fn bounded_spans(exporter: Outgoing<SpanExporter>, batch: &Batch) -> impl SpanProcessor + use<> {
    let config = trace::BatchConfigBuilder::default()
        .with_max_queue_size(batch.queue)
        .with_max_export_batch_size(batch.batch)
        .with_scheduled_delay(batch.delay)
        .build();
    let way = Arc::clone(&exporter.way);
    let exporter = exporter.within(batch.patience);
    Bounded { processor: BatchSpanProcessor::new(exporter, config), most: batch.queue, way }
}

/// Log records that wait for `exporter`.
pub(crate) fn bounded_logs(exporter: Outgoing<LogExporter>, batch: &Batch) -> impl LogProcessor + use<> {
    let config = logs::BatchConfigBuilder::default()
        .with_max_queue_size(batch.queue)
        .with_max_export_batch_size(batch.batch)
        .with_scheduled_delay(batch.delay)
        .build();
    let way = Arc::clone(&exporter.way);
    let exporter = exporter.within(batch.patience);
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(config).build();
    Bounded { processor, most: batch.queue, way }
}

/// Metrics that are pushed `every` so often.
pub(crate) fn periodic(
    exporter: Outgoing<MetricExporter>,
    every: Duration,
) -> PeriodicReader<Outgoing<MetricExporter>> {
    PeriodicReader::builder(exporter).with_interval(every).build()
}

/// Begins to count what is lost, from 0: once there is who counts.
pub(crate) fn start_counting(signals: &[Signal]) {
    let counter = global::meter(METER)
        .u64_counter(LOST)
        .with_description("Spans, log records and pushes of metrics that no collector got, by why")
        .build();
    for signal in signals {
        counter.add(0, &signal.lost("failed"));
        if *signal != Signal::Metrics {
            counter.add(0, &signal.lost("queue_full"));
        }
    }
    let _ = COUNTER.set(counter);
}

static COUNTER: OnceLock<Counter<u64>> = OnceLock::new();

// === impl Signal ===

impl Signal {
    pub(crate) const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    fn lost(self, reason: &'static str) -> [KeyValue; 2] {
        [KeyValue::new("signal", self.as_str()), KeyValue::new("reason", reason)]
    }
}

// === impl Way ===

impl Way {
    fn lose(&self, count: usize, reason: &'static str) {
        if let Some(counter) = COUNTER.get() {
            counter.add(count as u64, &self.signal.lost(reason));
        }
    }

    /// Takes one in, if there is room.
    fn has_room(&self, most: usize) -> bool {
        if self.waiting.fetch_add(1, Relaxed) < most {
            return true;
        }
        self.waiting.fetch_sub(1, Relaxed);
        self.lose(1, "queue_full");
        false
    }

    /// So many have left the queue.
    fn left(&self, count: usize) {
        let _ = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| Some(waiting.saturating_sub(count)));
    }

    /// Says when it begins to fail, and when it has ended to.
    fn ended(&self, result: &OTelSdkResult, count: usize) {
        let signal = self.signal.as_str();
        match result {
            Ok(()) => {
                if self.failing.swap(false, Relaxed) {
                    tracing::info!(signal, "telemetry is sent again");
                }
            }
            Err(error) => {
                self.lose(count, "failed");
                if !self.failing.swap(true, Relaxed) {
                    tracing::warn!(signal, %error, "telemetry cannot be sent: what does not find a collector is counted and dropped");
                }
            }
        }
    }
}

// === impl Outgoing ===

impl<E> Outgoing<E> {
    /// With no more than this time for an export.
    fn within(mut self, patience: Duration) -> Self {
        self.patience = self.patience.min(patience);
        self
    }

    async fn export(&self, count: usize, work: impl Future<Output = OTelSdkResult> + Send) -> OTelSdkResult {
        let patience = self.patience;
        let bounded = async move {
            match tokio::time::timeout(patience, work).await {
                Ok(result) => result,
                Err(_) => Err(OTelSdkError::Timeout(patience)),
            }
        };
        let result = On { handle: &self.handle, work: Box::pin(bounded) }.await;
        self.way.ended(&result, count);
        result
    }
}

impl trace::SpanExporter for Outgoing<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.way.left(count);
        self.export(count, trace::SpanExporter::export(&self.exporter, batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        trace::SpanExporter::shutdown_with_timeout(&self.exporter, timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        trace::SpanExporter::set_resource(&mut self.exporter, resource);
    }
}

impl logs::LogExporter for Outgoing<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.way.left(count);
        self.export(count, logs::LogExporter::export(&self.exporter, batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        logs::LogExporter::shutdown_with_timeout(&self.exporter, timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        logs::LogExporter::set_resource(&mut self.exporter, resource);
    }
}

impl PushMetricExporter for Outgoing<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.export(1, PushMetricExporter::export(&self.exporter, metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        PushMetricExporter::force_flush(&self.exporter)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        PushMetricExporter::shutdown_with_timeout(&self.exporter, timeout)
    }

    fn temporality(&self) -> Temporality {
        PushMetricExporter::temporality(&self.exporter)
    }
}

// === impl Bounded ===

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.way.has_room(self.most) {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Bounded<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.way.has_room(self.most) {
            self.processor.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Work that is polled by a thread of the SDK, and finds the timers and sockets of the courier's.
struct On<'a, W> {
    handle: &'a Handle,
    work: Pin<Box<W>>,
}

impl<W: Future> Future for On<'_, W> {
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<W::Output> {
        let _within = self.handle.enter();
        self.work.as_mut().poll(context)
    }
}

impl<W> fmt::Debug for On<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("On")
    }
}
