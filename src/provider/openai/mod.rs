//! OpenAI's API as served by vLLM, llama.cpp and most model servers.
//!
//! Source: contract::providers §d3, contract::ai_gateway_server §2.4, and the rigs' README for the
//! behaviour of real servers.

mod fault;
mod priority;
mod request;
mod response;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::markers::{ErrorStart, Markers};
use super::{Decode, Dialect, EventInfo, NativeCall, Outbound, SigningContext};
use crate::error::GatewayError;
use crate::generation::{Delta, Generation, Usage};
use crate::model::Model;
use crate::route::PriorityClass;

/// How an error in a response with status 200 begins: `{"error":…`, where servers that always name
/// the field send `null`; or as gateways in front of Anthropic send it.
const ERRORS: &[ErrorStart] = &[ErrorStart::NotNull("error"), ErrorStart::Is("type", "\"error\"")];

/// OpenAI's dialect; it has no state.
pub(super) struct OpenAi;

impl Dialect for OpenAi {
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (path, body) = match &generation.raw_prompt {
            Some(text) => {
                ("/completions", request::raw_body(text, generation, &model.upstream_name))
            }
            None => ("/chat/completions", request::chat_body(generation, &model.upstream_name)),
        };
        Ok(Outbound { method: Method::POST, path: path.into(), headers, body: body.into() })
    }

    fn native_path(&self, call: NativeCall, _model: &Model) -> Option<Box<str>> {
        match call {
            NativeCall::OpenAiChat => Some("/chat/completions".into()),
            NativeCall::OpenAiCompletions => Some("/completions".into()),
            NativeCall::OpenAiEmbeddings => Some("/embeddings".into()),
            NativeCall::AnthropicMessages | NativeCall::AnthropicCountTokens => None,
        }
    }

    fn set_priority(&self, outbound: &mut Outbound, class: PriorityClass) {
        outbound.body = priority::with_priority(&outbound.body, class);
    }

    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        _attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError> {
        let Some(key) = &model.api_key else { return Ok(()) };
        // A key that is not a header value was refused when it was read; nothing is sent instead.
        if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", key.expose())) {
            value.set_sensitive(true);
            outbound.headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }

    fn decode_response(
        &self,
        _generation: &Generation,
        body: &[u8],
    ) -> Result<Vec<Delta>, GatewayError> {
        response::decode_response(body)
    }

    fn stream_decoder(&self, _generation: &Generation) -> Box<dyn Decode> {
        Box::new(response::ChatStreamDecoder::new())
    }

    fn inspect_event(&self, data: &[u8]) -> EventInfo {
        response::inspect_event(data)
    }

    fn markers(&self) -> &'static Markers {
        static MARKERS: LazyLock<Markers> = LazyLock::new(|| {
            Markers::new(&["\"usage\"", "[DONE]", "\"error\""], "\"finish_reason\":", ERRORS)
        });
        &MARKERS
    }

    fn parse_usage(&self, body: &[u8]) -> Option<Usage> {
        response::parse_usage(body)
    }

    fn error_from_response(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> GatewayError {
        fault::from_response(status, headers, body)
    }
}
