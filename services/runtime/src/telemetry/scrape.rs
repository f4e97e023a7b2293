//! The page that Prometheus scrapes.

use std::sync::OnceLock;

use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Registry, TextEncoder};

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

/// The form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Prometheus' own, version 0.0.4.
    Text,

    /// OpenMetrics 1.0
    /// (<https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>).
    OpenMetrics,
}

/// All metrics; none where nothing is scraped. Blocks.
pub(crate) fn page(form: Form) -> Option<String> {
    let page = TextEncoder::new().encode_to_string(&PAGE.get()?.gather()).ok()?;
    Some(match form {
        Form::Text => page,
        Form::OpenMetrics => open_metrics(&page),
    })
}

/// What differs: a counter is described without the end of its name, and the page's end is said.
fn open_metrics(text: &str) -> String {
    let mut page = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        let described = |start: &str| {
            let (name, about) = line.strip_prefix(start)?.split_once(' ')?;
            Some(format!("{start}{} {about}", name.strip_suffix("_total").unwrap_or(name)))
        };
        page.push_str(
            &described("# HELP ").or_else(|| described("# TYPE ")).unwrap_or_else(|| line.to_owned()),
        );
        page.push('\n');
    }
    page.push_str("# EOF\n");
    page
}

// === impl Form ===

impl Form {
    /// What these values of `Accept` ask for: that of who does not know OpenMetrics, unless they name it.
    pub(crate) fn asked_for<'a>(accept: impl IntoIterator<Item = &'a str>) -> Form {
        let named = accept.into_iter().any(|value| value.contains("application/openmetrics-text"));
        if named { Form::OpenMetrics } else { Form::Text }
    }

    /// The page's `Content-Type`.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Form::Text => prometheus::TEXT_FORMAT,
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}
