//! GitLab's own calls: what its Rails side, Workhorse and its troubleshooting pages send.

pub(super) mod chat_agent;
pub(super) mod chat_v1;
pub(super) mod code;
pub(super) mod definitions;
pub(super) mod docs_search;
pub(super) mod embeddings;
pub(super) mod model_check;
pub(super) mod prompts;
pub(super) mod proxy;
pub(super) mod user_token;

pub use code::CodeCall;
pub use proxy::ProxyCall;

use bytes::BytesMut;

use crate::generation::{
    Delta, Encode, FilterChain, FilteredEncoder, ThinkFilter, Usage, without_thinking,
};
use crate::model::Family;

/// The content type of streams of raw text, lines and v4's events. Only the last are SSE: the
/// official gateway sends this type for all of them, and clients ignore it
/// (contract::ai_gateway_server §1.2).
const STREAM_CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// Returns the text of a response, without its reasoning if the family is configured to strip it.
fn response_text(family: &Family, deltas: &[Delta]) -> String {
    let text = concat_text(deltas);
    if family.strip_reasoning { without_thinking(&text) } else { text }
}

/// Concatenates the text deltas of a response, unchanged.
fn concat_text(deltas: &[Delta]) -> String {
    let texts = deltas.iter().filter_map(|delta| match delta {
        Delta::Text(text) => Some(text.as_str()),
        Delta::Reasoning(_)
        | Delta::ReasoningSignature(_)
        | Delta::ToolCall { .. }
        | Delta::Usage(_)
        | Delta::Stop(_) => None,
    });
    texts.collect()
}

/// Returns the last token usage of a response, or `None` if the server reported none.
fn last_usage(deltas: &[Delta]) -> Option<Usage> {
    deltas
        .iter()
        .rev()
        .find_map(|delta| if let Delta::Usage(usage) = delta { Some(*usage) } else { None })
}

/// Wraps an encoder in the filter that removes `<think>` blocks.
fn without_reasoning(encoder: Box<dyn Encode>) -> Box<dyn Encode> {
    Box::new(FilteredEncoder::new(FilterChain::new(vec![Box::<ThinkFilter>::default()]), encoder))
}

/// Wraps an encoder as [`without_reasoning`] does if the family is configured to strip reasoning.
fn filtered_for(family: &Family, encoder: Box<dyn Encode>) -> Box<dyn Encode> {
    if family.strip_reasoning { without_reasoning(encoder) } else { encoder }
}

/// Encodes a stream as raw text, without any framing.
struct RawTextEncoder;

impl Encode for RawTextEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Delta::Text(text) = delta {
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn finish(&mut self, _out: &mut BytesMut) {}
}
