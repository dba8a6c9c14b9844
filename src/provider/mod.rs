//! Dialects: how each kind of model server is asked and how its answers read. Pure: no socket, no
//! clock. The one `match` over [`ProviderKind`] is [`dialect`].

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

pub use gitlab_cloud::{Received, forwarded};
pub use markers::Markers;

use crate::error::{BodyFault, GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::{EndpointUrl, Model, ProviderKind};
use crate::route::Class;
use crate::wire::Payload;

/// An upstream request without its address.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// `POST`, but for what is passed on as it came.
    pub method: Method,
    /// Path below the endpoint's base: `/chat/completions`.
    pub path: Box<str>,
    /// Everything but `content-length`, which the connection writes, and `host`, which it writes
    /// unless one stands here: a signature may cover another one.
    pub headers: HeaderMap,
    /// The body.
    pub body: Payload,
}

/// One attempt at a request: what a signature covers besides the request itself.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Where it goes.
    pub endpoint: &'a EndpointUrl,
    /// The time by the provider's clock: ours, corrected by what [`Dialect::clock_offset`] found.
    pub now: SystemTime,
}

/// A client's body that may pass unchanged but for its model's name, if the model's server speaks
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
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

/// How far the provider's clock is ahead of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    ahead: bool,
    by: Duration,
}

impl ClockOffset {
    /// The offset between two readings.
    pub fn between(ours: SystemTime, theirs: SystemTime) -> Self {
        match theirs.duration_since(ours) {
            Ok(by) => Self { ahead: true, by },
            Err(error) => Self { ahead: false, by: error.duration() },
        }
    }

    /// How large it is, in either direction.
    pub const fn size(self) -> Duration {
        self.by
    }

    /// Our time in the provider's. An offset that leaves the calendar changes nothing.
    pub fn apply(self, ours: SystemTime) -> SystemTime {
        if self.ahead { ours.checked_add(self.by) } else { ours.checked_sub(self.by) }
            .unwrap_or(ours)
    }
}

/// What a passed-through event holds, for the record and for hiding the usage chunk we asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Something a reader would see.
    pub content: bool,
    /// Bytes of its text.
    pub text_len: usize,
    /// Token counts.
    pub usage: Option<Usage>,
    /// Nothing but token counts: the chunk that `include_usage` adds.
    pub only_usage: bool,
    /// The end marker (`[DONE]`).
    pub done: bool,
    /// An error instead of content, and what it counts as.
    pub error: Option<Kind>,
}

/// Turns a model server's stream into deltas, a chunk at a time.
pub trait Decode: Send {
    /// Decodes what a chunk completes; appends to `out`.
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError>;
    /// The upstream's body has ended. Fails when the answer is not complete.
    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), GatewayError>;
}

/// One kind of model server.
pub trait Dialect: Sync {
    /// The request for a generation. Fails with a 422 that names the field when the provider has no
    /// such thing: nothing is dropped in silence.
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError>;
    /// The path for a body that is already in the server's own dialect, or `None` when it has to be
    /// translated.
    fn native(&self, call: Native, model: &Model) -> Option<Box<str>>;
    /// The request that counts what a generation would read, or `None` where the server cannot
    /// count beforehand.
    fn count(&self, _asked: &Generation, _model: &Model) -> Result<Option<Outbound>, GatewayError> {
        Ok(None)
    }
    /// The number in the answer to it.
    fn counted(&self, _body: &[u8]) -> Option<u64> {
        None
    }
    /// Tells the server whose request goes first in its own queue, over what the client says of it.
    /// Only for models with `priority`, which the file gives to no other dialects than those that
    /// can.
    fn prioritize(&self, _outbound: &mut Outbound, _class: Class) {}
    /// Adds the credentials. Called on every attempt, since some signatures cover the time; what an
    /// earlier attempt added is replaced.
    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        attempt: &Attempt<'_>,
    ) -> Result<(), GatewayError>;
    /// Decodes a whole, unstreamed answer to what was asked.
    fn answer(&self, asked: &Generation, body: &[u8]) -> Result<Vec<Delta>, GatewayError>;
    /// A decoder for one streamed answer to what was asked.
    fn decoder(&self, asked: &Generation) -> Box<dyn Decode>;
    /// Reads the `data` of one passed-through event.
    fn look(&self, data: &[u8]) -> Seen;
    /// Returns the byte patterns by which a passed-through response is searched before it is parsed.
    fn markers(&self) -> &'static Markers {
        Markers::none()
    }
    /// Reads the token counts of a passed-through, unstreamed answer.
    fn usage_of(&self, body: &[u8]) -> Option<Usage>;
    /// What a non-2xx answer means.
    fn fault(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError;
    /// How far the provider's clock is from `now`, if that is why it refused the request: then one
    /// more attempt by the corrected time is worth while, and the offset worth keeping.
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

/// The dialect of a kind of server.
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

/// The 422 for what a provider cannot do: `field` is the request's, in OpenAI's words.
fn untranslatable(field: &'static str, provider: &str, why: &str) -> GatewayError {
    GatewayError::invalid(vec![BodyFault::at(
        field,
        "value_error",
        format!("{provider} {why}: leave `{field}` out"),
    )])
}

/// Refuses a raw text, for dialects that know conversations only. Whoever asks looks at
/// [`Dialect::native`] first.
fn chat_only(generation: &Generation, provider: &str) -> Result<(), GatewayError> {
    if generation.raw.is_none() {
        return Ok(());
    }
    Err(untranslatable("prompt", provider, "goes on with no raw text, it answers messages"))
}

/// Whether a content filter refused, by the `code` of an error in OpenAI's words: Azure's name for
/// it (providers.md d2.4) and OpenAI's own two.
fn is_filter_code(code: &str) -> bool {
    matches!(code, "content_filter" | "content_policy_violation" | "invalid_prompt")
}

/// An answer that is not the provider's format.
fn unreadable(what: &str, error: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::new(Kind::UpstreamBroken, "The model server's answer could not be read")
        .internal(format!("{what}: {error}"))
}

/// The start of a foreign body, for the log.
pub fn excerpt(body: &[u8]) -> String {
    const LOGGED: usize = 500;
    String::from_utf8_lossy(&body[..body.len().min(LOGGED)]).into_owned()
}

/// A path segment, everything but RFC 3986's unreserved characters encoded, once: what goes on the
/// wire. A SigV4 signature's canonical path encodes it again (providers.md d1.2, d1.3).
fn encoded_once(segment: &str) -> String {
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

/// When to come back: `retry-after-ms` and `x-ms-retry-after-ms` are finer than `retry-after` and
/// preferred (providers.md d2.6), in whole seconds, rounded up.
fn retry_after(headers: &HeaderMap) -> Option<HeaderValue> {
    let millis = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let fine = millis("retry-after-ms").or_else(|| millis("x-ms-retry-after-ms"));
    fine.map(|ms| HeaderValue::from(ms.div_ceil(1000)))
        .or_else(|| headers.get(header::RETRY_AFTER).cloned())
}

#[cfg(test)]
mod tests {
    use super::{chat_only, encoded_once};
    use crate::generation::Generation;

    #[test]
    fn raw_texts_are_refused_by_name_where_nothing_takes_them() {
        assert!(chat_only(&Generation::default(), "Anthropic").is_ok());
        let error =
            chat_only(&Generation { raw: Some("a".into()), ..Generation::default() }, "Anthropic")
                .unwrap_err();
        assert!(error.public().starts_with("Anthropic goes on with no raw text"), "{error:?}");
    }

    #[test]
    fn segments_are_encoded_once() {
        assert_eq!(encoded_once("eu.amazon.nova-micro-v1:0"), "eu.amazon.nova-micro-v1%3A0");
        assert_eq!(encoded_once("arn:a/b c~%é"), "arn%3Aa%2Fb%20c~%25%C3%A9");
    }
}
