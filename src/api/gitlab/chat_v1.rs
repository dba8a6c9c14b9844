//! `POST /v1/chat/{name}`: GitLab's older chat call, which its troubleshooting page still shows as
//! a `curl`.
//!
//! Source: ai-gateway-server.md §1.6. The official gateway answers 500 to every valid request here.

use std::borrow::Cow;

use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::{RawText, STREAM, filtered, text_of};
use crate::api::{Answer, Context, Routed, body, json};
use crate::error::{BodyFault, GatewayError, Shape};
use crate::generation::{Generation, Message, Role, Sampling};
use crate::route::{Ask, Feature, Metadata, RawMetadata, Route};

/// When the request sets none. The official default of 8192 does not fit small models' contexts.
const MAX_TOKENS: u32 = 2048;
/// As the official gateway's.
const TEMPERATURE: f64 = 0.2;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    prompt_components: Vec<Component<'a>>,
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct Component<'a> {
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    content: Content<'a>,
    #[serde(default)]
    params: Params,
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
enum Content<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    #[serde(borrow)]
    Messages(Vec<Turn<'a>>),
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Params {
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
    let request: Request<'_> = body::parse(&bytes)?;
    let [Component { payload }] = request.prompt_components.as_slice() else {
        let fault =
            BodyFault::at("prompt_components", "value_error", "exactly one component is expected");
        return Err(GatewayError::invalid(vec![fault]));
    };
    let stream = request.stream.unwrap_or(false);
    context.facts.stream = stream;
    if stream {
        context.facts.shape = Shape::GitlabText;
    }
    context.asked_for(Some(feature));
    let ask = Ask { feature: Some(feature), metadata: metadata(payload)? };
    let mut route = match context.route(ask, &bytes).await? {
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
        match ask_model(&mut context, &route, &generation).await {
            Err(error) => route = context.instead(&route, error)?,
            answer => return answer,
        }
    }
}

/// Asks one model.
async fn ask_model(context: &mut Context<'_>, route: &Route, generation: &Generation) -> Answer {
    let (call, family) = (context.call(route), &route.model.family);
    if generation.stream {
        let encoder = || filtered(family, Box::new(RawText));
        return context.relay.stream(call, generation, &encoder, STREAM, context.facts).await;
    }
    let deltas = context.relay.ask(call, generation, context.facts).await?;
    let metadata = json!({
        "provider": route.model.provider.label(), "model": &*route.model.upstream_name,
        "timestamp": context.unix_time(),
    });
    Ok(json(json!({"response": text_of(family, &deltas), "metadata": metadata}).to_string()))
}

/// The flat fields name a model as `model_metadata` does elsewhere.
fn metadata(payload: &Payload<'_>) -> Result<Option<Metadata>, GatewayError> {
    let raw = RawMetadata {
        name: payload.model.clone(),
        endpoint: payload.model_endpoint.clone(),
        api_key: payload.model_api_key.clone(),
        identifier: payload.model_identifier.clone(),
    };
    let place = &["prompt_components", "0", "payload"];
    Metadata::check_flat(&raw, place).map_err(|fault| GatewayError::invalid(vec![fault]))
}

fn messages(content: &Content<'_>) -> Result<Vec<Message>, GatewayError> {
    let turns = match content {
        Content::Text(text) => return Ok(vec![Message::text(Role::User, text.as_ref())]),
        Content::Messages(turns) => turns,
    };
    let message = |(index, turn): (usize, &Turn<'_>)| match Role::parse(&turn.role) {
        Some(role @ (Role::System | Role::User | Role::Assistant)) => {
            Ok(Message::text(role, turn.content.as_ref()))
        }
        Some(Role::Tool) | None => {
            let path = ["body", "prompt_components", "0", "payload", "content"];
            let mut loc: Vec<Cow<'static, str>> = path.into_iter().map(Cow::Borrowed).collect();
            loc.extend([index.to_string().into(), "role".into()]);
            let msg = "expected system, user or assistant".to_owned();
            Err(GatewayError::invalid(vec![BodyFault { loc, msg, kind: "value_error" }]))
        }
    };
    turns.iter().enumerate().map(message).collect()
}
