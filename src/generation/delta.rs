//! `Delta`: one increment of a model's response, and the trait with which a surface encodes it.

use bytes::BytesMut;

use super::Usage;

/// Increment of a response, in the order in which the model generated it.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Text of the response.
    Text(String),
    /// Text of a reasoning model's thinking; never part of the response's text.
    Reasoning(String),
    /// Provider's signature over the preceding thinking: a client that sends the thinking back
    /// sends this with it.
    ReasoningSignature(String),
    /// Fragment of a function call.
    ToolCall {
        /// Index of the call, assigned here: 0, 1, … in order of first appearance.
        index: u32,
        /// Id of the call, on its first fragment.
        id: Option<String>,
        /// Name of the function, on the call's first fragment.
        name: Option<String>,
        /// Fragment of the arguments' JSON text; may be empty.
        arguments: String,
    },
    /// Token counts; the last ones are final.
    Usage(Usage),
    /// End of the generation, and its reason.
    Stop(StopReason),
}

impl Delta {
    /// Returns whether the delta has visible content: "time to first token" ends with it.
    pub fn is_content(&self) -> bool {
        match self {
            Self::Text(text) | Self::Reasoning(text) => !text.is_empty(),
            Self::ToolCall { .. } => true,
            Self::ReasoningSignature(_) | Self::Usage(_) | Self::Stop(_) => false,
        }
    }

    /// Returns the length of the visible text in bytes.
    pub const fn text_len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Reasoning(text) | Self::ToolCall { arguments: text, .. } => {
                text.len()
            }
            Self::ReasoningSignature(_) | Self::Usage(_) | Self::Stop(_) => 0,
        }
    }
}

/// Reason why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The response is complete, or a stop sequence was generated.
    End,
    /// `max_tokens` or the context window is exhausted.
    Length,
    /// The model waits for the results of its calls.
    ToolCalls,
    /// The provider's content filter stopped the response.
    ContentFilter,
    /// Any other reason.
    Other,
}

/// Encoder of a response for one surface. Encoders have their own state, do no I/O and cannot fail:
/// what a surface has no format for was refused when the request was parsed.
pub trait Encode: Send {
    /// Appends the bytes of one delta, possibly none.
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut);
    /// Appends the end of a complete response, possibly nothing.
    fn finish(&mut self, out: &mut BytesMut);
    /// Returns the number of bytes that are buffered until the preceding part has ended.
    fn buffered_bytes(&self) -> usize {
        0
    }
    /// Returns why a complete response is a failure nevertheless, for the operator; `None` for a
    /// success. Called after `finish`.
    fn failure(&self) -> Option<&str> {
        None
    }
}
