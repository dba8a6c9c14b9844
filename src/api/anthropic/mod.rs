//! Anthropic's Messages API towards clients. A model whose server speaks it gets the body as it
//! came, but for the model's name; every other model gets it translated.
//!
//! Source: Anthropic's Python SDK 2.14 for the shapes, gitlab-client.md §9.2, providers.md
//! d1.19–20.

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
use crate::provider::{Native, Outbound, dialect};
use crate::relay::Passed;
use crate::route::{Ask, Route};
use crate::wire::Edits;
use encode::{Events, Naming, Whole};
use translate_request::MessagesRequest;

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Betas that shape a request or its answer, by their names without the date. Others stay behind:
/// they may reach services that the operator has not chosen (files, code execution, remote tools).
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

/// What a dialect calls a field it refuses, and what Anthropic's clients call it.
const FIELDS: [(&str, &str); 3] = [
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    ("response_format", "output_config.format"),
    ("reasoning_effort", "output_config.effort"),
];

/// Which of the two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnthropicCall {
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
}

impl AnthropicCall {
    /// The same, where the model's server speaks it.
    const fn native(self) -> Native {
        match self {
            Self::Messages => Native::AnthropicMessages,
            Self::CountTokens => Native::AnthropicCountTokens,
        }
    }
}

/// What a body of `POST /v1/messages` asks, of whichever model. Fails with the first fault and its
/// place.
pub fn read_messages_request(body: &[u8]) -> Result<Generation, GatewayError> {
    MessagesRequest::parse(body).map(|request| request.generation)
}

/// Whether a client says that it is Anthropic's.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION)
}

/// Forwards a call to the model that its `model` names, or to what `otherwise` asks for when no
/// model of the file has that name.
pub(super) async fn forward(
    mut context: Context<'_>,
    call: AnthropicCall,
    otherwise: Option<Ask>,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let peek: Peek<'_> = body::parse(&bytes)?;
    context.facts.stream = call == AnthropicCall::Messages && peek.stream()?;
    let mut route = match context.route_named(&peek.model()?, otherwise, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    loop {
        match ask(&mut context, call, &route, &peek, &bytes).await {
            Err(error) => route = context.instead(&route, error)?,
            answer => return answer,
        }
    }
}

/// Asks one model: in the client's own words, or translated.
async fn ask(
    context: &mut Context<'_>,
    call: AnthropicCall,
    route: &Route,
    peek: &Peek<'_>,
    body: &Bytes,
) -> Answer {
    let path = match (dialect(route.model.provider).native(call.native(), &route.model), call) {
        (Some(path), _) => path,
        (None, AnthropicCall::Messages) => return translated(context, route, body).await,
        (None, AnthropicCall::CountTokens) => return counted(context, route, body).await,
    };
    let mut edits = Edits::default();
    peek.rename(body, &route.model, &mut edits)?;
    let (headers, left_out) = forwarded(&context.parts.headers);
    context.facts.note = left_out;
    let path = if context.parts.uri.query() == Some("beta=true") {
        format!("{path}?beta=true").into()
    } else {
        path
    };
    let outbound = Outbound { method: Method::POST, path, headers, body: edits.apply(body) };
    let passed = Passed { outbound, stream: context.facts.stream, hide_usage: false };
    context.relay.pass(context.call(route), passed, context.facts).await
}

/// A call to a model whose server speaks another dialect: translated both ways.
async fn translated(context: &mut Context<'_>, route: &Route, body: &Bytes) -> Answer {
    let MessagesRequest { model, generation } = MessagesRequest::parse(body)?;
    let naming = Naming { id: format!("msg_{:032x}", fastrand::u128(..)), model };
    let encoder = || -> Box<dyn Encode> {
        let naming = naming.clone();
        if generation.stream { Box::new(Events::new(naming)) } else { Box::new(Whole::new(naming)) }
    };
    context
        .written(route, &generation, &encoder)
        .await
        .map_err(|error| error.with_fields_named(&FIELDS))
}

/// The headers that go to a server of Anthropic's, and what the operator is told was left out of
/// them.
fn forwarded(theirs: &HeaderMap) -> (HeaderMap, Option<String>) {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // without one the dialect sets its own
    if let Some(version) = theirs.get(VERSION) {
        headers.insert(VERSION, version.clone());
    }
    let all = theirs.get_all(BETA).iter().filter_map(|value| value.to_str().ok());
    let all = all.flat_map(|value| value.split(',')).map(str::trim).filter(|beta| !beta.is_empty());
    let (kept, left_out): (Vec<&str>, Vec<&str>) = all.partition(|beta| is_known(beta));
    if let Ok(value) = HeaderValue::try_from(kept.join(","))
        && !value.is_empty()
    {
        headers.insert(BETA, value);
    }
    let left_out = left_out.join(",");
    let note: String = format!("anthropic-beta left out: {left_out}").chars().take(200).collect();
    (headers, (!left_out.is_empty()).then_some(note))
}

/// `name-2025-01-31`: the name is one of the list.
fn is_known(beta: &str) -> bool {
    let is_date = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    BETAS.iter().any(|known| beta.strip_prefix(known).is_some_and(is_date))
}

/// How much a call to such a model would read, where its server can tell.
async fn counted(context: &mut Context<'_>, route: &Route, body: &Bytes) -> Answer {
    let generation = read_messages_request(body)?;
    let count = context.relay.count(context.call(route), &generation, context.facts).await;
    let tokens = count
        .map_err(|error| error.with_fields_named(&FIELDS))?
        .ok_or_else(|| cannot_count(route))?;
    Ok(json(serde_json::json!({ "input_tokens": tokens }).to_string()))
}

fn cannot_count(route: &Route) -> GatewayError {
    let (id, kind) = (&route.model.id, route.model.provider.label());
    let text = format!("The server of the model `{id}` ({kind}) does not count tokens beforehand");
    GatewayError::new(Kind::NotFound, text)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::forwarded;

    #[test]
    fn betas_pass_by_name_whatever_their_date() {
        let mut theirs = HeaderMap::new();
        let mut betas = |text: &'static str| {
            theirs.append("anthropic-beta", HeaderValue::from_static(text));
        };
        betas("context-1m-2025-08-07, files-api-2025-04-14");
        betas("effort-2025-11-24,effortless-1, ");
        theirs.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        theirs.insert("x-api-key", HeaderValue::from_static("canary"));
        let (headers, note) = forwarded(&theirs);
        assert_eq!(headers["anthropic-beta"], "context-1m-2025-08-07,effort-2025-11-24");
        assert_eq!(headers["anthropic-version"], "2023-06-01");
        assert_eq!(headers.len(), 3, "nothing else: {headers:?}");
        assert_eq!(
            note.as_deref(),
            Some("anthropic-beta left out: files-api-2025-04-14,effortless-1")
        );
        assert_eq!(forwarded(&HeaderMap::new()).1, None);
    }
}
