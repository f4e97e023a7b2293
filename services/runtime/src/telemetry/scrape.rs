//! The page that Prometheus scrapes.

use std::sync::OnceLock;

use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Encoder as _, Registry, TextEncoder, process_collector::ProcessCollector};

/// What the page holds; filled by the SDK, and with the figures of this process.
static PAGE: OnceLock<Registry> = OnceLock::new();

/// What reads the metrics of this process for [`page`].
pub(crate) fn reader() -> PrometheusExporter {
    let registry = PAGE.get_or_init(|| {
        let registry = Registry::new();
        // The only one of its names.
        let _ = registry.register(Box::new(ProcessCollector::for_self()));
        registry
    });
    opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        // Names are written with their units: the page and the OTLP push agree.
        .without_units()
        .without_target_info()
        .scope_info_enabled(false)
        .build()
        .expect("the registry is new, so it has nothing of the same name")
}

/// All metrics, in the text format 0.0.4; none where nothing is scraped. Blocks.
pub(crate) fn page() -> Option<Vec<u8>> {
    let mut page = Vec::new();
    TextEncoder::new().encode(&PAGE.get()?.gather(), &mut page).ok()?;
    Some(page)
}

/// The type of [`page`].
pub(crate) const TYPE: &str = prometheus::TEXT_FORMAT;
