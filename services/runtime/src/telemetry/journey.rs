//! The journey of a file: one trace, whoever handles the file.
//!
//! The wire of Tentacle has no room for a trace's context. So each who handles a file derives the context from what
//! all of them know, its name and its content:
//!
//! ```text
//! digest = SHA-256("tentacle-journey-v1" 00 NAME 00 SHA-256(CONTENT))
//! trace  = the first 16 bytes of digest
//! parent = the 8 bytes behind them
//! ```
//!
//! where `00` is a byte of value zero, `NAME` is the name's bytes as they are on the wire, and `SHA-256(CONTENT)` is
//! the 32 bytes of the digest, not their hexadecimal form. A result of zeros alone has its last bit set, as an id of
//! zeros is none. Every span of the journey is a child of `parent`, which nobody sends, and is linked to the span of
//! the connection or round within which the file was handled. Whether the journey is sampled is decided by its trace
//! id: equal ratios at both ends sample the same files.

use std::io::{self, Read};
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue, global};
use sha2::{Digest as _, Sha256};

use super::{METER, is_tracing};

/// The trace of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Of all its spans.
    pub trace: TraceId,

    /// The parent of all its spans.
    pub parent: SpanId,
}

/// The digest of a content that passes by: computed while something is traced, as nobody else asks for it.
#[derive(Clone, Debug, Default)]
pub struct Passing(Option<Begun>);

#[derive(Clone, Debug)]
struct Begun {
    hash: Sha256,
    at: SystemTime,
}

// === impl Journey ===

impl Journey {
    /// The journey of a file of this name, and this SHA-256 of its content.
    pub fn of(name: &[u8], content: &[u8; 32]) -> Journey {
        let digest = Sha256::new().chain_update(VERSION).chain_update([0]);
        let digest: [u8; 32] =
            digest.chain_update(name).chain_update([0]).chain_update(content).finalize().into();
        let (mut trace, mut parent) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&digest[..16]);
        parent.copy_from_slice(&digest[16..24]);
        let trace = TraceId::from(u128::from_be_bytes(trace).max(1));
        Journey { trace, parent: SpanId::from(u64::from_be_bytes(parent).max(1)) }
    }

    /// Adds a span, from `began` to now, linked to the span that this is called within. The returned context is the
    /// span's: what is logged in it carries the journey's ids.
    pub fn record(
        &self,
        step: &'static str,
        began: SystemTime,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> Context {
        let parent = SpanContext::new(self.trace, self.parent, TraceFlags::SAMPLED, true, TraceState::NONE);
        let parent = Context::new().with_remote_span_context(parent);
        let tracer = global::tracer(METER);
        let mut builder = tracer.span_builder(step).with_kind(SpanKind::Internal).with_start_time(began);
        let here = Context::current().span().span_context().clone();
        if here.is_valid() {
            builder = builder.with_links(vec![Link::with_context(here)]);
        }
        let span = tracer.build_with_context(builder, &parent);
        let context = parent.with_span(span);
        let span = context.span();
        if span.is_recording() {
            attributes.into_iter().for_each(|attribute| span.set_attribute(attribute));
            span.set_status(Status::Ok);
            span.end();
        }
        context.clone()
    }
}

// === impl Passing ===

impl Passing {
    /// A content that begins now.
    pub fn begin() -> Passing {
        Passing(is_tracing().then(|| Begun { hash: Sha256::new(), at: SystemTime::now() }))
    }

    /// More of it.
    pub fn update(&mut self, piece: &[u8]) {
        if let Some(begun) = &mut self.0 {
            begun.hash.update(piece);
        }
    }

    /// `from`, with what is read from it as more of the content.
    pub fn reading<R: Read>(&mut self, from: R) -> impl Read + use<'_, R> {
        Reading { passing: self, from }
    }

    /// All of it: the journey of the file of this name, and when its content began; none where nothing is traced.
    pub fn end(self, name: &[u8]) -> Option<(Journey, SystemTime)> {
        let Begun { hash, at } = self.0?;
        Some((Journey::of(name, &hash.finalize().into()), at))
    }
}

struct Reading<'a, R> {
    passing: &'a mut Passing,
    from: R,
}

impl<R: Read> Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.passing.update(&buffer[..count]);
        Ok(count)
    }
}

const VERSION: &[u8] = b"tentacle-journey-v1";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of docs/operations.md, which another program was asked for too:
    /// `(printf 'tentacle-journey-v1\0web01.1.data\0'; printf '<agent_data/>\n' | openssl dgst -sha256 -binary) | sha256sum`
    #[test]
    fn the_documented_example_is_what_is_derived() {
        let content: [u8; 32] = Sha256::digest(b"<agent_data/>\n").into();
        let journey = Journey::of(b"web01.1.data", &content);
        let page = include_str!("../../../../docs/operations.md");
        assert!(page.contains(&format!("{}", journey.trace)), "{journey:?}");
        assert!(page.contains(&format!("{}", journey.parent)), "{journey:?}");
    }

    #[test]
    fn name_and_content_make_the_journey() {
        let one = Journey::of(b"a", &[1; 32]);
        assert_eq!(one, Journey::of(b"a", &[1; 32]));
        assert_ne!(one, Journey::of(b"b", &[1; 32]));
        assert_ne!(one, Journey::of(b"a", &[2; 32]));
    }

    #[test]
    fn without_traces_nothing_is_hashed() {
        let mut passing = Passing::begin();
        passing.update(b"x");
        assert!(passing.0.is_none() && passing.end(b"a").is_none());
    }
}
