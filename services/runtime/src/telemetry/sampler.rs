use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// Decides by the trace's id, so that all who have a hand in one file's journey decide alike; what happens within a
/// span of this process follows that span.
#[derive(Clone, Debug)]
pub(crate) struct Journeys(pub(crate) Sampler);

impl ShouldSample for Journeys {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let local = parent
            .map(|parent| parent.span().span_context().clone())
            .filter(|parent| parent.is_valid() && !parent.is_remote());
        match local {
            Some(parent) => SamplingResult {
                decision: match parent.is_sampled() {
                    true => SamplingDecision::RecordAndSample,
                    false => SamplingDecision::Drop,
                },
                attributes: Vec::new(),
                trace_state: parent.trace_state().clone(),
            },
            None => SamplingResult {
                trace_state: TraceState::default(),
                ..self.0.should_sample(None, trace_id, name, kind, attributes, links)
            },
        }
    }
}
