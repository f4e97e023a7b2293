//! The page that Prometheus scrapes.

use std::sync::OnceLock;

use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Encoder as _, Registry, TextEncoder};

/// What the page holds; filled by the SDK.
static PAGE: OnceLock<Registry> = OnceLock::new();

/// What reads the metrics of this process for [`page`].
pub(crate) fn reader() -> PrometheusExporter {
    opentelemetry_prometheus::exporter()
        .with_registry(PAGE.get_or_init(Registry::new).clone())
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
