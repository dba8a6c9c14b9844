//! `Delta`: one step of a model's answer, and the trait by which a surface writes it.

use bytes::BytesMut;

use super::Usage;

/// One step of an answer, in the order the model made it.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Words of the answer.
    Text(String),
    /// Words of a reasoning model's thinking; never part of the answer.
    Reasoning(String),
    /// The provider's signature over the thinking before it: a client that sends the thinking back
    /// sends this with it.
    ReasoningSignature(String),
    /// A piece of a function call.
    ToolCall {
        /// Our own running index: 0, 1, … in order of first appearance.
        index: u32,
        /// Present on the call's first piece.
        id: Option<String>,
        /// Present on the call's first piece.
        name: Option<String>,
        /// A fragment of JSON text; may be empty.
        arguments: String,
    },
    /// Token counts; the last one stands.
    Usage(Usage),
    /// The model stopped, and why.
    Stop(StopReason),
}

impl Delta {
    /// Whether a reader would see something: what "time to first token" waits for.
    pub fn is_content(&self) -> bool {
        match self {
            Self::Text(text) | Self::Reasoning(text) => !text.is_empty(),
            Self::ToolCall { .. } => true,
            Self::ReasoningSignature(_) | Self::Usage(_) | Self::Stop(_) => false,
        }
    }

    /// Bytes of text that a reader would see.
    pub const fn text_len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Reasoning(text) | Self::ToolCall { arguments: text, .. } => {
                text.len()
            }
            Self::ReasoningSignature(_) | Self::Usage(_) | Self::Stop(_) => 0,
        }
    }
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was done, or met a stop text.
    End,
    /// It ran into `max_tokens` or its context window.
    Length,
    /// It wants its calls answered.
    ToolCalls,
    /// The provider's filter cut it.
    ContentFilter,
    /// A reason this version does not know.
    Other,
}

/// A surface's way of writing an answer. Encoders hold their own state, do no I/O and cannot fail:
/// what cannot be said on a surface was refused when the request was read.
pub trait Encode: Send {
    /// Appends the bytes for one step, or nothing.
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut);
    /// Appends what ends a complete answer, or nothing.
    fn finish(&mut self, out: &mut BytesMut);
    /// Bytes that it keeps until what comes before them has ended.
    fn held(&self) -> usize {
        0
    }
    /// Why a complete answer is a failure all the same, for the operator; asked after `finish`.
    fn fault(&self) -> Option<&str> {
        None
    }
}
