//! `POST /v1/chat/{name}`: GitLab's older chat call, which its troubleshooting page still shows as
//! a `curl` command.
//!
//! Source: contract::ai_gateway_server §1.6. The official gateway answers 500 to every valid
//! request here.

use std::borrow::Cow;

use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::{RawTextEncoder, STREAM_CONTENT_TYPE, filtered_for, response_text};
use crate::api::{Answer, Context, Routed, body, json};
use crate::error::{BodyFault, GatewayError, Shape};
use crate::generation::{Generation, Message, Role, Sampling};
use crate::route::{Feature, ModelMetadata, RawModelMetadata, Route, RouteQuery};

/// `max_tokens` of requests that set none. The official default of 8192 does not fit small models'
/// contexts.
const MAX_TOKENS: u32 = 2048;
/// Temperature of requests that set none, the official gateway's.
const TEMPERATURE: f64 = 0.2;

#[derive(Deserialize)]
struct ChatV1Request<'a> {
    #[serde(borrow)]
    prompt_components: Vec<ChatV1Component<'a>>,
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct ChatV1Component<'a> {
    #[serde(borrow)]
    payload: ChatV1Payload<'a>,
}

#[derive(Deserialize)]
struct ChatV1Payload<'a> {
    #[serde(borrow)]
    content: ChatV1Content<'a>,
    #[serde(default)]
    params: ChatV1Params,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_endpoint: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_api_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_identifier: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of {role, content}")]
enum ChatV1Content<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    #[serde(borrow)]
    Messages(Vec<ChatV1Message<'a>>),
}

#[derive(Deserialize)]
struct ChatV1Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct ChatV1Params {
    #[serde(default)]
    stop_sequences: Vec<String>,
    temperature: Option<f64>,
    max_tokens_to_sample: Option<u32>,
}

/// Answers with `{"response", "metadata"}`, or with raw text when `stream` is true.
pub(in crate::api) async fn answer(
    mut context: Context<'_>,
    feature: Feature,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let request: ChatV1Request<'_> = body::parse(&bytes)?;
    let [ChatV1Component { payload }] = request.prompt_components.as_slice() else {
        let fault =
            BodyFault::at("prompt_components", "value_error", "exactly one component is expected");
        return Err(GatewayError::invalid(vec![fault]));
    };
    let stream = request.stream.unwrap_or(false);
    context.facts.stream = stream;
    if stream {
        context.facts.shape = Shape::GitlabText;
    }
    context.record_feature(Some(feature));
    let query = RouteQuery { feature: Some(feature), metadata: metadata(payload)? };
    let mut route = match context.route(query, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let generation = Generation {
        messages: messages(&payload.content)?,
        sampling: Sampling {
            max_tokens: Some(payload.params.max_tokens_to_sample.unwrap_or(MAX_TOKENS)),
            temperature: Some(payload.params.temperature.unwrap_or(TEMPERATURE)),
            stop: payload.params.stop_sequences.clone(),
            ..Sampling::default()
        },
        stream,
        ..Generation::default()
    };
    loop {
        match run_attempt(&mut context, &route, &generation).await {
            Err(error) => route = context.next_fallback(&route, error)?,
            answer => return answer,
        }
    }
}

/// Sends the request to one model.
async fn run_attempt(context: &mut Context<'_>, route: &Route, generation: &Generation) -> Answer {
    let (call, family) = (context.call(route), &route.model.family);
    if generation.stream {
        let encoder = || filtered_for(family, Box::new(RawTextEncoder));
        return context
            .relay
            .stream(call, generation, &encoder, STREAM_CONTENT_TYPE, context.facts)
            .await;
    }
    let deltas = context.relay.generate(call, generation, context.facts).await?;
    let metadata = json!({
        "provider": route.model.provider.label(), "model": &*route.model.upstream_name,
        "timestamp": context.unix_time(),
    });
    Ok(json(json!({"response": response_text(family, &deltas), "metadata": metadata}).to_string()))
}

/// Reads the model that the payload's flat fields name, as `model_metadata` does in other calls;
/// `None` if they name none.
fn metadata(payload: &ChatV1Payload<'_>) -> Result<Option<ModelMetadata>, GatewayError> {
    let raw = RawModelMetadata {
        name: payload.model.clone(),
        endpoint: payload.model_endpoint.clone(),
        api_key: payload.model_api_key.clone(),
        identifier: payload.model_identifier.clone(),
    };
    let path = &["prompt_components", "0", "payload"];
    ModelMetadata::parse_flat(&raw, path).map_err(|fault| GatewayError::invalid(vec![fault]))
}

/// Converts the content to messages; fails on an unknown role.
fn messages(content: &ChatV1Content<'_>) -> Result<Vec<Message>, GatewayError> {
    let items = match content {
        ChatV1Content::Text(text) => return Ok(vec![Message::text(Role::User, text.as_ref())]),
        ChatV1Content::Messages(items) => items,
    };
    let message = |(index, item): (usize, &ChatV1Message<'_>)| match Role::parse(&item.role) {
        Some(role @ (Role::System | Role::User | Role::Assistant)) => {
            Ok(Message::text(role, item.content.as_ref()))
        }
        Some(Role::Tool) | None => {
            let path = ["body", "prompt_components", "0", "payload", "content"];
            let mut loc: Vec<Cow<'static, str>> = path.into_iter().map(Cow::Borrowed).collect();
            loc.extend([index.to_string().into(), "role".into()]);
            let msg = "expected system, user or assistant".to_owned();
            Err(GatewayError::invalid(vec![BodyFault { loc, msg, kind: "value_error" }]))
        }
    };
    items.iter().enumerate().map(message).collect()
}
