//! The ids of the trace that a line belongs to, at its end.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::is_tracing;

/// Lines of JSON, by another format: with the fields `trace_id` and `span_id`.
pub(super) struct Json<F>(pub(super) F);

/// Lines for people, by another format: with the same two behind them.
pub(super) struct Human<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(here) = here() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let object = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writeln!(writer, r#"{object},"trace_id":"{}","span_id":"{}"}}"#, here.trace_id(), here.span_id())
    }
}

impl<S, N, F> FormatEvent<S, N> for Human<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(here) = here() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} trace_id={} span_id={}", line.trim_end(), here.trace_id(), here.span_id())
    }
}

/// The span that the line is written in.
fn here() -> Option<SpanContext> {
    if !is_tracing() {
        return None;
    }
    Context::map_current(|context| {
        let here = context.span().span_context().clone();
        here.is_valid().then_some(here)
    })
}
