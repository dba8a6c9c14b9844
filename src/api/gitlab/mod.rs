//! GitLab's own calls: what its Rails side, Workhorse and its troubleshooting pages send.

pub(super) mod chat_v1;
pub(super) mod definitions;
pub(super) mod docs_search;
pub(super) mod embeddings;
pub(super) mod model_check;
pub(super) mod user_token;

use crate::generation::Delta;

/// The words of an answer.
fn text_of(deltas: &[Delta]) -> String {
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
