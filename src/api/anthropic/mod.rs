//! Anthropic's Messages API towards clients. A model whose server has this API gets the body as it
//! came, except for the model's name; for every other model it is translated.
//!
//! Source: Anthropic's Python SDK 2.14 for the shapes, contract::gitlab_client §9.2,
//! contract::providers §d1.19, §d1.20.

mod encode;
pub(super) mod models;
mod translate_messages;
mod translate_request;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use hyper::body::Incoming;

use super::peek::Peek;
use super::{Answer, Context, Routed, body, json};
use crate::error::{GatewayError, Kind};
use crate::generation::{Encode, Generation};
use crate::provider::{NativeCall, Outbound, dialect};
use crate::relay::PassthroughCall;
use crate::route::{Route, RouteQuery};
use crate::wire::Edits;
use encode::{AnthropicFullEncoder, AnthropicResponseMeta, AnthropicStreamEncoder};
use translate_request::MessagesRequest;

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Betas that affect a request or its response, by their names without the date. Others are not
/// sent on: they may reach services that the operator has not chosen (files, code execution, remote
/// tools).
const BETAS: [&str; 15] = [
    "claude-code",
    "computer-use",
    "context-1m",
    "context-management",
    "effort",
    "extended-cache-ttl",
    "fine-grained-tool-streaming",
    "interleaved-thinking",
    "max-tokens-3-5-sonnet",
    "output-128k",
    "pdfs",
    "prompt-caching",
    "structured-outputs",
    "token-counting",
    "token-efficient-tools",
];

/// The name of a field in a dialect's faults, and its name in Anthropic's API.
const FIELD_NAMES: [(&str, &str); 3] = [
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    ("response_format", "output_config.format"),
    ("reasoning_effort", "output_config.effort"),
];

/// The calls of this API that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnthropicCall {
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
}

impl AnthropicCall {
    /// Returns the call's name for the dialects: a model's server may have it natively.
    const fn native(self) -> NativeCall {
        match self {
            Self::Messages => NativeCall::AnthropicMessages,
            Self::CountTokens => NativeCall::AnthropicCountTokens,
        }
    }
}

/// Parses a body of `POST /v1/messages`, whatever its model. Fails with the first fault and its
/// path.
pub fn read_messages_request(body: &[u8]) -> Result<Generation, GatewayError> {
    MessagesRequest::parse(body).map(|request| request.generation)
}

/// Returns whether a request has the version header that Anthropic's clients send.
pub(super) fn is_anthropic_client(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION)
}

/// Sends a call to the model that its `model` names, or to the model of `default_query` if none of
/// that name is configured, then to its fallbacks.
pub(super) async fn forward(
    mut context: Context<'_>,
    call: AnthropicCall,
    default_query: Option<RouteQuery>,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let peek: Peek<'_> = body::parse(&bytes)?;
    context.facts.stream = call == AnthropicCall::Messages && peek.stream()?;
    let mut route = match context.route_named(&peek.model()?, default_query, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    loop {
        match try_model(&mut context, call, &route, &peek, &bytes).await {
            Err(error) => route = context.next_fallback(&route, error)?,
            answer => return answer,
        }
    }
}

/// Calls one model: passes the body through if its server has this API, else translates it.
async fn try_model(
    context: &mut Context<'_>,
    call: AnthropicCall,
    route: &Route,
    peek: &Peek<'_>,
    body: &Bytes,
) -> Answer {
    let path = match (dialect(route.model.provider).native_path(call.native(), &route.model), call)
    {
        (Some(path), _) => path,
        (None, AnthropicCall::Messages) => return call_translated(context, route, body).await,
        (None, AnthropicCall::CountTokens) => return count_tokens(context, route, body).await,
    };
    let mut edits = Edits::default();
    peek.replace_model(body, &route.model, &mut edits)?;
    let (headers, note) = forwarded_headers(&context.parts.headers);
    context.facts.note = note;
    let path = if context.parts.uri.query() == Some("beta=true") {
        format!("{path}?beta=true").into()
    } else {
        path
    };
    let outbound = Outbound { method: Method::POST, path, headers, body: edits.apply(body) };
    let passed = PassthroughCall { outbound, stream: context.facts.stream, hide_usage: false };
    context.relay.forward(context.call(route), passed, context.facts).await
}

/// Translates a call for a model whose server has another API, and the response for the client.
async fn call_translated(context: &mut Context<'_>, route: &Route, body: &Bytes) -> Answer {
    let MessagesRequest { model, generation } = MessagesRequest::parse(body)?;
    let meta = AnthropicResponseMeta { id: format!("msg_{:032x}", fastrand::u128(..)), model };
    let encoder = || -> Box<dyn Encode> {
        match generation.stream {
            true => Box::new(AnthropicStreamEncoder::new(meta.clone())),
            false => Box::new(AnthropicFullEncoder::new(meta.clone())),
        }
    };
    context
        .respond(route, &generation, &encoder)
        .await
        .map_err(|error| error.with_fields_named(&FIELD_NAMES))
}

/// Returns the headers to send to a server of Anthropic's, and a note for the access log if betas
/// were left out of them.
fn forwarded_headers(received: &HeaderMap) -> (HeaderMap, Option<String>) {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // without it the dialect sets its own
    if let Some(version) = received.get(VERSION) {
        headers.insert(VERSION, version.clone());
    }
    let all = received.get_all(BETA).iter().filter_map(|value| value.to_str().ok());
    let all = all.flat_map(|value| value.split(',')).map(str::trim).filter(|beta| !beta.is_empty());
    let (kept, left_out): (Vec<&str>, Vec<&str>) = all.partition(|beta| is_known_beta(beta));
    if let Ok(value) = HeaderValue::try_from(kept.join(","))
        && !value.is_empty()
    {
        headers.insert(BETA, value);
    }
    let left_out = left_out.join(",");
    let note: String = format!("anthropic-beta left out: {left_out}").chars().take(200).collect();
    (headers, (!left_out.is_empty()).then_some(note))
}

/// Returns whether a beta (`name-2025-01-31`) has a name of the list, with any date.
fn is_known_beta(beta: &str) -> bool {
    let is_date = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    BETAS.iter().any(|known| beta.strip_prefix(known).is_some_and(is_date))
}

/// Returns how many tokens a call would use as input, as counted by the server of a model with
/// another API. Fails with 404 if that server cannot count.
async fn count_tokens(context: &mut Context<'_>, route: &Route, body: &Bytes) -> Answer {
    let generation = read_messages_request(body)?;
    let count = context.relay.count_tokens(context.call(route), &generation, context.facts).await;
    let tokens = count
        .map_err(|error| error.with_fields_named(&FIELD_NAMES))?
        .ok_or_else(|| counting_unsupported(route))?;
    Ok(json(serde_json::json!({ "input_tokens": tokens }).to_string()))
}

fn counting_unsupported(route: &Route) -> GatewayError {
    let (id, kind) = (&route.model.id, route.model.provider.label());
    let text = format!("The server of the model `{id}` ({kind}) does not count tokens beforehand");
    GatewayError::new(Kind::NotFound, text)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::forwarded_headers;

    #[test]
    fn known_betas_are_sent_on_whatever_their_date() {
        let mut received = HeaderMap::new();
        let mut betas = |text: &'static str| {
            received.append("anthropic-beta", HeaderValue::from_static(text));
        };
        betas("context-1m-2025-08-07, files-api-2025-04-14");
        betas("effort-2025-11-24,effortless-1, ");
        received.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        received.insert("x-api-key", HeaderValue::from_static("canary"));
        let (headers, note) = forwarded_headers(&received);
        assert_eq!(headers["anthropic-beta"], "context-1m-2025-08-07,effort-2025-11-24");
        assert_eq!(headers["anthropic-version"], "2023-06-01");
        assert_eq!(headers.len(), 3, "nothing else: {headers:?}");
        assert_eq!(
            note.as_deref(),
            Some("anthropic-beta left out: files-api-2025-04-14,effortless-1")
        );
        assert_eq!(forwarded_headers(&HeaderMap::new()).1, None);
    }
}
