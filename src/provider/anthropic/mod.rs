//! Anthropic's Messages API, as the dialect of a model server.
//!
//! Source: Anthropic's own Python SDK for the shapes (0.x of November 2026),
//! contract::ai_gateway_server §2.3.

mod fault;
mod request;
mod response;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::markers::{ErrorStart, Markers};
use super::{Decode, Dialect, EventInfo, NativeCall, Outbound, SigningContext};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::Model;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Version of the API; there is only one.
const VERSION_IS: HeaderValue = HeaderValue::from_static("2023-06-01");
/// Path below the host: endpoints are reduced to the part before `/v1` (`UrlRule::BeforeV1`).
const PATH: &str = "/v1/messages";

/// How an error in a response with status 200 begins: `{"type":"error",…`, or its members in the
/// other order.
const ERRORS: &[ErrorStart] = &[ErrorStart::NotNull("error"), ErrorStart::Is("type", "\"error\"")];

/// Anthropic's dialect; it has no state.
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError> {
        let body = request::messages_body(generation, &model.upstream_name)?;
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(VERSION, VERSION_IS);
        Ok(Outbound { method: Method::POST, path: PATH.into(), headers, body: body.into() })
    }

    fn native_path(&self, call: NativeCall, _model: &Model) -> Option<Box<str>> {
        match call {
            NativeCall::AnthropicMessages => Some(PATH.into()),
            NativeCall::AnthropicCountTokens => Some(format!("{PATH}/count_tokens").into()),
            NativeCall::OpenAiChat
            | NativeCall::OpenAiCompletions
            | NativeCall::OpenAiEmbeddings => None,
        }
    }

    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        _attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError> {
        outbound.headers.remove(header::AUTHORIZATION);
        outbound.headers.remove(API_KEY);
        outbound.headers.entry(VERSION).or_insert(VERSION_IS);
        let Some(key) = &model.api_key else { return Ok(()) };
        let mut value = HeaderValue::try_from(key.expose().as_str()).map_err(|_| {
            GatewayError::new(Kind::Internal, "The gateway could not address the model server")
                .internal("the Anthropic api_key holds characters that no header may")
        })?;
        value.set_sensitive(true);
        outbound.headers.insert(API_KEY, value);
        Ok(())
    }

    fn decode_response(
        &self,
        generation: &Generation,
        body: &[u8],
    ) -> Result<Vec<Delta>, GatewayError> {
        response::decode_response(generation, body)
    }

    fn stream_decoder(&self, generation: &Generation) -> Box<dyn Decode> {
        Box::new(response::MessagesStreamDecoder::new(generation))
    }

    fn inspect_event(&self, data: &[u8]) -> EventInfo {
        response::inspect_event(data)
    }

    fn markers(&self) -> &'static Markers {
        static MARKERS: LazyLock<Markers> = LazyLock::new(|| {
            Markers::new(
                &["\"usage\"", "\"error\"", "\"message_stop\""],
                "\"stop_reason\":",
                ERRORS,
            )
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
