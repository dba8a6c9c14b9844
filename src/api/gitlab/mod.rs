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
pub use proxy::Proxied;

use bytes::BytesMut;

use crate::generation::{Delta, Encode, Filtered, Filters, Think, Usage, without_thinking};
use crate::model::Family;

/// Not SSE, despite the type: the official gateway says so, and clients read raw text or lines
/// (ai-gateway-server.md §1.2).
const STREAM: &str = "text/event-stream; charset=utf-8";

/// The words of an answer, without the thinking of a model whose family has it taken off.
fn text_of(family: &Family, deltas: &[Delta]) -> String {
    let words = words(deltas);
    if family.strip_reasoning { without_thinking(&words) } else { words }
}

/// The words of an answer as they came.
fn words(deltas: &[Delta]) -> String {
    let words = deltas.iter().filter_map(|delta| match delta {
        Delta::Text(text) => Some(text.as_str()),
        Delta::Reasoning(_)
        | Delta::ReasoningSignature(_)
        | Delta::ToolCall { .. }
        | Delta::Usage(_)
        | Delta::Stop(_) => None,
    });
    words.collect()
}

/// What was counted last, if anything was.
fn usage_of(deltas: &[Delta]) -> Option<Usage> {
    deltas
        .iter()
        .rev()
        .find_map(|delta| if let Delta::Usage(usage) = delta { Some(*usage) } else { None })
}

/// This encoder, behind the filter that takes a reasoning model's thinking off.
fn unthinking(encoder: Box<dyn Encode>) -> Box<dyn Encode> {
    Box::new(Filtered::new(Filters::new(vec![Box::<Think>::default()]), encoder))
}

/// This encoder; behind that filter if the family says so.
fn filtered(family: &Family, encoder: Box<dyn Encode>) -> Box<dyn Encode> {
    if family.strip_reasoning { unthinking(encoder) } else { encoder }
}

/// Raw text: the words, and nothing else.
struct RawText;

impl Encode for RawText {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Delta::Text(text) = delta {
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn finish(&mut self, _out: &mut BytesMut) {}
}
