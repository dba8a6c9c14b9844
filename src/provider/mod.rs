//! Dialects: the requests and responses of each kind of model server. Pure: no socket, no clock.
//! The one `match` over [`ProviderKind`] outside of its own table is [`dialect`].

mod anthropic;
mod azure;
mod bedrock;
mod claude_models;
mod gitlab_cloud;
mod markers;
mod openai;
mod pending_tool_calls;
mod tool_names;
mod turns;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

pub use gitlab_cloud::{ReceivedRequest, forward_request};
pub use markers::Markers;

use crate::error::{BodyFault, GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::{EndpointUrl, Model, ProviderKind};
use crate::route::PriorityClass;
use crate::wire::Payload;

/// Request to a model server, without its address.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Method: `POST`, except for requests that are forwarded as they came.
    pub method: Method,
    /// Path below the endpoint's base path: `/chat/completions`.
    pub path: Box<str>,
    /// Headers without `content-length`, which the connection adds; it adds `host` too unless it is
    /// present here, since a signature may cover a different one.
    pub headers: HeaderMap,
    /// Body.
    pub body: Payload,
}

/// Context of one attempt: what a signature covers in addition to the request itself.
#[derive(Clone, Copy, Debug)]
pub struct SigningContext<'a> {
    /// Endpoint that the attempt is sent to.
    pub endpoint: &'a EndpointUrl,
    /// Time of the provider's clock: our time, corrected by the offset that
    /// [`Dialect::clock_offset`] returned.
    pub now: SystemTime,
}

/// API call whose body passes through unchanged but for the model's name, if the model's server has
/// the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeCall {
    /// OpenAI's `/chat/completions`.
    OpenAiChat,
    /// OpenAI's `/completions`.
    OpenAiCompletions,
    /// OpenAI's `/embeddings`.
    OpenAiEmbeddings,
    /// Anthropic's `/v1/messages`.
    AnthropicMessages,
    /// Anthropic's `/v1/messages/count_tokens`.
    AnthropicCountTokens,
}

/// Offset of the provider's clock from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    ahead: bool,
    by: Duration,
}

impl ClockOffset {
    /// Returns the offset between two readings of the clocks.
    pub fn between(ours: SystemTime, theirs: SystemTime) -> Self {
        match theirs.duration_since(ours) {
            Ok(by) => Self { ahead: true, by },
            Err(error) => Self { ahead: false, by: error.duration() },
        }
    }

    /// Returns the size of the offset, in either direction.
    pub const fn size(self) -> Duration {
        self.by
    }

    /// Converts our time to the provider's. An offset that exceeds the range of `SystemTime` is
    /// ignored.
    pub fn apply(self, ours: SystemTime) -> SystemTime {
        if self.ahead { ours.checked_add(self.by) } else { ours.checked_sub(self.by) }
            .unwrap_or(ours)
    }
}

/// Content of an event that passes through, for the record and for hiding the usage chunk that was
/// requested here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventInfo {
    /// Whether the event has visible content.
    pub content: bool,
    /// Length of its text in bytes.
    pub text_len: usize,
    /// Token counts, if the event has any.
    pub usage: Option<Usage>,
    /// Whether the event has nothing but token counts: the chunk that `include_usage` adds.
    pub only_usage: bool,
    /// Whether the event is the end marker (`[DONE]`).
    pub done: bool,
    /// Kind of the error that the event has instead of content.
    pub error: Option<Kind>,
}

/// Incremental decoder of a model server's stream.
pub trait Decode: Send {
    /// Decodes the events that a chunk completes and appends their deltas to `out`. Fails on an
    /// error event and on bytes that are not the provider's format.
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError>;
    /// Ends the stream when the upstream's body has ended. Fails when the response is not complete.
    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), GatewayError>;
}

/// Protocol of one kind of model server.
pub trait Dialect: Sync {
    /// Encodes a generation as a request. Fails with a 422 that names the field when the provider
    /// has no equivalent: nothing is dropped silently.
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError>;
    /// Returns the path for a body that is already in the server's own dialect, or `None` when it
    /// has to be translated.
    fn native_path(&self, call: NativeCall, model: &Model) -> Option<Box<str>>;
    /// Encodes the request that counts the input tokens of a generation; `None` where the server
    /// has no such call.
    fn encode_token_count(
        &self,
        _generation: &Generation,
        _model: &Model,
    ) -> Result<Option<Outbound>, GatewayError> {
        Ok(None)
    }
    /// Parses the count in the response to that request; `None` when it is unreadable.
    fn parse_token_count(&self, _body: &[u8]) -> Option<u64> {
        None
    }
    /// Sets the priority in the server's own queue, in place of the client's. Called only for
    /// models with `priority`, which configuration allows for dialects that support it.
    fn set_priority(&self, _outbound: &mut Outbound, _class: PriorityClass) {}
    /// Adds the credentials. Called for every attempt, since some signatures cover the time; the
    /// credentials of an earlier attempt are replaced. Fails when there are none that are valid.
    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError>;
    /// Decodes an unstreamed response to a generation. Fails on an error and on a body that is not
    /// the provider's format.
    fn decode_response(
        &self,
        generation: &Generation,
        body: &[u8],
    ) -> Result<Vec<Delta>, GatewayError>;
    /// Creates a decoder of one streamed response to a generation.
    fn stream_decoder(&self, generation: &Generation) -> Box<dyn Decode>;
    /// Parses the `data` of one event that passes through.
    fn inspect_event(&self, data: &[u8]) -> EventInfo;
    /// Returns the byte patterns by which a passed-through response is searched before it is
    /// parsed.
    fn markers(&self) -> &'static Markers {
        Markers::none()
    }
    /// Parses the token counts of an unstreamed response that passes through; `body` may be only
    /// its end. `None` when there are none.
    fn parse_usage(&self, body: &[u8]) -> Option<Usage>;
    /// Builds the error of a non-2xx response.
    fn error_from_response(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> GatewayError;
    /// Returns the offset of the provider's clock from `now` if it is the reason of the refusal:
    /// then another attempt with the corrected time may succeed, and the offset is kept. `None`
    /// otherwise.
    fn clock_offset(
        &self,
        _status: StatusCode,
        _headers: &HeaderMap,
        _body: &Bytes,
        _now: SystemTime,
    ) -> Option<ClockOffset> {
        None
    }
}

/// Returns the dialect of a kind of server.
pub const fn dialect(kind: ProviderKind) -> &'static dyn Dialect {
    match kind {
        ProviderKind::OpenAi => &openai::OpenAi,
        ProviderKind::Azure => &azure::Azure,
        ProviderKind::Bedrock => &bedrock::Bedrock,
        ProviderKind::BedrockOpenAi => &bedrock::BedrockOpenAi,
        ProviderKind::Anthropic => &anthropic::Anthropic,
        ProviderKind::Gitlab => &gitlab_cloud::GitlabCloud,
    }
}

/// Builds the 422 for a field that a provider does not support; `field` is its name in OpenAI's
/// API.
fn unsupported_field(field: &'static str, provider: &str, why: &str) -> GatewayError {
    GatewayError::invalid(vec![BodyFault::at(
        field,
        "value_error",
        format!("{provider} {why}: leave `{field}` out"),
    )])
}

/// Fails for a raw text, in dialects with conversations only. Callers that have a raw text check
/// [`Dialect::native_path`] first.
fn refuse_raw_text(generation: &Generation, provider: &str) -> Result<(), GatewayError> {
    if generation.raw_prompt.is_none() {
        return Ok(());
    }
    Err(unsupported_field("prompt", provider, "does not continue raw text, it answers messages"))
}

/// Returns whether the `code` of an OpenAI-style error means that a content filter refused: Azure's
/// code (contract::providers §d2.4) and OpenAI's own two.
fn is_filter_code(code: &str) -> bool {
    matches!(code, "content_filter" | "content_policy_violation" | "invalid_prompt")
}

/// Builds the error of a response that is not the provider's format.
fn unreadable_response(what: &str, error: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::new(Kind::UpstreamBroken, "The model server's answer could not be read")
        .internal(format!("{what}: {error}"))
}

/// Returns the start of a foreign body, at most 500 bytes, for the log.
pub fn excerpt(body: &[u8]) -> String {
    const LOGGED: usize = 500;
    String::from_utf8_lossy(&body[..body.len().min(LOGGED)]).into_owned()
}

/// Returns a path segment with everything but RFC 3986's unreserved characters percent-encoded,
/// once, as it is sent. A SigV4 signature's canonical path encodes it again
/// (contract::providers §d1.2, §d1.3).
fn percent_encode(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(segment.len() + 16);
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            // writing to a String does not fail
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Returns the delay before a retry in whole seconds, rounded up. `retry-after-ms` and
/// `x-ms-retry-after-ms` are finer than `retry-after` and preferred (contract::providers §d2.6).
fn retry_after(headers: &HeaderMap) -> Option<HeaderValue> {
    let millis = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let fine = millis("retry-after-ms").or_else(|| millis("x-ms-retry-after-ms"));
    fine.map(|ms| HeaderValue::from(ms.div_ceil(1000)))
        .or_else(|| headers.get(header::RETRY_AFTER).cloned())
}

#[cfg(test)]
mod tests {
    use super::{percent_encode, refuse_raw_text};
    use crate::generation::Generation;

    #[test]
    fn raw_texts_are_refused_by_name_where_they_are_unsupported() {
        assert!(refuse_raw_text(&Generation::default(), "Anthropic").is_ok());
        let error = refuse_raw_text(
            &Generation { raw_prompt: Some("a".into()), ..Generation::default() },
            "Anthropic",
        )
        .unwrap_err();
        assert!(error.public().starts_with("Anthropic does not continue raw text"), "{error:?}");
    }

    #[test]
    fn segments_are_encoded_once() {
        assert_eq!(percent_encode("eu.amazon.nova-micro-v1:0"), "eu.amazon.nova-micro-v1%3A0");
        assert_eq!(percent_encode("arn:a/b c~%é"), "arn%3Aa%2Fb%20c~%25%C3%A9");
    }
}
