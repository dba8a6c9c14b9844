//! Dialects: how each kind of model server is asked and how its answers read. Pure: no socket, no clock.
//! The one `match` over [`ProviderKind`] is [`dialect`].

mod openai;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::error::GatewayError;
use crate::generation::{Delta, Generation, Usage};
use crate::route::{Model, ProviderKind};
use crate::wire::Payload;

/// An upstream request without its address.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Path below the endpoint's base: `/chat/completions`.
    pub path: Box<str>,
    /// Everything but `host` and `content-length`, which the connection writes.
    pub headers: HeaderMap,
    /// The body.
    pub body: Payload,
}

/// What a passed-through event holds, for the record and for hiding the usage chunk we asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Something a reader would see.
    pub content: bool,
    /// Token counts.
    pub usage: Option<Usage>,
    /// Nothing but token counts: the chunk that `include_usage` adds.
    pub only_usage: bool,
    /// The end marker (`[DONE]`).
    pub done: bool,
    /// An error instead of content.
    pub error: bool,
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
    /// The request for a generation.
    fn encode(&self, generation: &Generation, model: &Model) -> Outbound;
    /// Adds the credentials. Called on every attempt, since some signatures cover the time.
    fn authorize(&self, outbound: &mut Outbound, model: &Model);
    /// Decodes a whole, unstreamed answer.
    fn answer(&self, body: &[u8]) -> Result<Vec<Delta>, GatewayError>;
    /// A decoder for one streamed answer.
    fn decoder(&self) -> Box<dyn Decode>;
    /// Reads the `data` of one passed-through event.
    fn look(&self, data: &[u8]) -> Seen;
    /// Reads the token counts of a passed-through, unstreamed answer.
    fn usage_of(&self, body: &[u8]) -> Option<Usage>;
    /// What a non-2xx answer means.
    fn fault(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError;
}

/// The dialect of a kind of server, or `None` for kinds that this version does not speak.
pub const fn dialect(kind: ProviderKind) -> Option<&'static dyn Dialect> {
    match kind {
        ProviderKind::OpenAi => Some(&openai::OpenAi),
        ProviderKind::Azure | ProviderKind::Bedrock | ProviderKind::Anthropic => None,
    }
}
