//! `POST /v1|v2/prompts/{id}`: one of our prompts rendered with GitLab's inputs, answered in full
//! or as a stream.
//!
//! Sources: contract::gitlab_client §8, contract::ai_gateway_server §1.2, §8.2. In full: v1 is a
//! JSON string, v2 an object. Streamed: v1 is raw text, v2 one object per line. Neither is SSE,
//! despite the content type.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{RawTextEncoder, STREAM_CONTENT_TYPE, filtered_for, last_usage, response_text};
use crate::api::{Answer, Context, Routed, body, endpoint, forward, json};
use crate::auth::{Permission, Scopes};
use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{Delta, Encode, Usage};
use crate::model::Model;
use crate::prompt::{LookupError, Prompt, RenderError};
use crate::route::{ModelMetadata, RawModelMetadata, Route, RouteQuery};
use crate::telemetry::rfc3339;

/// The fields that routing needs. The rest of the body is parsed after routing: a request that is
/// forwarded to another gateway is validated there.
#[derive(Deserialize)]
struct PromptRouting<'a> {
    stream: Option<bool>,
    #[serde(borrow)]
    model_metadata: Option<RawModelMetadata<'a>>,
}

/// The fields that the prompt needs.
#[derive(Deserialize)]
struct PromptRequest<'a> {
    inputs: Map<String, Value>,
    #[serde(borrow)]
    prompt_version: Option<Cow<'a, str>>,
}

/// Renders the prompt, sends it to the model and answers with its response.
pub(in crate::api) async fn answer(
    mut context: Context<'_>,
    version: u8,
    incoming: Incoming,
) -> Answer {
    let id = endpoint::prompt_id(context.parts.uri.path());
    let prompts = &context.snapshot.prompts;
    let base = match prompts.base(&id) {
        Ok(base) => base,
        Err(unknown) => {
            // GitLab's cloud may have it
            let answer = forward::unknown_call(context, incoming).await;
            return answer.map_err(|error| {
                if error.kind() == Kind::NotFound { missing_prompt(&unknown) } else { error }
            });
        }
    };
    context.caller.authorize(&permission(base))?;
    let bytes = context.body(incoming).await?;
    let routing: PromptRouting<'_> = body::parse(&bytes)?;
    let stream = routing.stream.unwrap_or(false);
    context.facts.stream = stream;
    context.facts.shape = error_shape(version, stream, base);
    context.record_feature(Some(base.feature));
    let raw = routing.model_metadata.unwrap_or_default();
    let metadata = ModelMetadata::parse(&raw, &["model_metadata"])
        .map_err(|fault| GatewayError::invalid(vec![fault]))?;
    let mut route =
        match context.route(RouteQuery { feature: Some(base.feature), metadata }, &bytes).await? {
            Routed::Model(route) => route,
            Routed::Answered(response) => return Ok(response),
        };
    let mut request: PromptRequest<'_> = body::parse(&bytes)?;
    request.inputs.entry("current_date").or_insert_with(|| current_date(context.facts.wall).into());
    loop {
        match run_attempt(&mut context, &route, version, &id, &request).await {
            Err(error) => route = context.next_fallback(&route, error)?,
            answer => return answer,
        }
    }
}

/// Sends one model the prompt for its family.
async fn run_attempt(
    context: &mut Context<'_>,
    route: &Route,
    version: u8,
    id: &str,
    request: &PromptRequest<'_>,
) -> Answer {
    let (family, stream) = (&route.model.family, context.facts.stream);
    let prompt = context.snapshot.prompts.get(id, family, request.prompt_version.as_deref());
    let prompt = prompt.map_err(|error| missing_prompt(&error))?;
    let rendered = prompt.render(&request.inputs).map_err(|error| render_failed(id, &error))?;
    let generation = rendered.into_generation(family, stream);
    let call = context.call(route);
    if stream {
        let encoder = || {
            let encoder: Box<dyn Encode> = if version == 1 {
                Box::new(RawTextEncoder)
            } else {
                Box::new(LineEncoder::new(&route.model))
            };
            filtered_for(family, encoder)
        };
        return context
            .relay
            .stream(call, &generation, &encoder, STREAM_CONTENT_TYPE, context.facts)
            .await;
    }
    let deltas = context.relay.generate(call, &generation, context.facts).await?;
    Ok(json(full_body(version, &deltas, &route.model)))
}

/// Returns the body of a response that is not streamed: v1 a JSON string, v2 an object.
pub(super) fn full_body(version: u8, deltas: &[Delta], model: &Model) -> String {
    let text = response_text(&model.family, deltas);
    if version == 1 {
        return Value::String(text).to_string();
    }
    content_object(&text, last_usage(deltas).as_ref(), &model.upstream_name)
}

/// Returns `{"content": …}`, with the token counts under the model's real name: GitLab adds them
/// up.
fn content_object(text: &str, usage: Option<&Usage>, model: &str) -> String {
    let mut object = json!({ "content": text });
    if let Some(usage) = usage {
        object["usage"] =
            json!({model: {"input_tokens": usage.input, "output_tokens": usage.output}});
    }
    object.to_string()
}

/// Encodes a stream as one object per line; the last one carries the token counts.
struct LineEncoder {
    model: Arc<str>,
    usage: Option<Usage>,
}

impl LineEncoder {
    fn new(model: &Model) -> Self {
        Self { model: Arc::clone(&model.upstream_name), usage: None }
    }

    fn write(&self, text: &str, usage: Option<&Usage>, out: &mut BytesMut) {
        out.extend_from_slice(content_object(text, usage, &self.model).as_bytes());
        out.extend_from_slice(b"\n");
    }
}

impl Encode for LineEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => self.write(text, None, out),
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Reasoning(_)
            | Delta::ReasoningSignature(_)
            | Delta::ToolCall { .. }
            | Delta::Stop(_) => {}
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.write("", self.usage.as_ref(), out);
    }
}

/// Returns the shape of error bodies. GitLab shows the error body of a streamed chat tool to the
/// user as text (contract::gitlab_client §11.3).
const fn error_shape(version: u8, stream: bool, base: &Prompt) -> Shape {
    match (stream, version) {
        (true, 1) if base.streams => Shape::GitlabPromptsText,
        (false, _) | (true, 1) => Shape::GitlabPrompts,
        (true, _) => Shape::GitlabPromptsLines,
    }
}

/// Returns the permission for a prompt: any of its unit primitives (contract::gitlab_client §5.3).
fn permission(base: &Prompt) -> Permission {
    let any_of = Scopes::from_names(base.unit_primitives.iter().map(String::as_str));
    Permission::to_access(any_of, format!("'{}'", base.id))
}

/// Returns the error for a prompt that does not exist, or not in this version
/// (contract::gitlab_client §8.4).
pub(super) fn missing_prompt(missing: &LookupError) -> GatewayError {
    let kind = match missing {
        LookupError::Prompt(_) => Kind::NotFound,
        LookupError::Version { .. } => Kind::NoPromptVersion,
        LookupError::Constraint => Kind::PromptVersion,
    };
    GatewayError::new(kind, missing.to_string())
}

/// Returns the error for a prompt that could not be rendered.
pub(super) fn render_failed(id: &str, error: &RenderError) -> GatewayError {
    match error {
        RenderError::Missing(_) => GatewayError::new(Kind::MissingInput, error.to_string()),
        RenderError::Failed(failure) => GatewayError::new(
            Kind::Internal,
            format!("The prompt '{id}' cannot be rendered with these inputs"),
        )
        .internal(failure.to_string()),
    }
}

/// Formats the date as `November 23, 2026`, in UTC (contract::gitlab_client §8.1).
fn current_date(now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let text = rfc3339(now);
    let mut parts = text.split(['-', 'T']);
    let (year, month, day) = (parts.next(), parts.next(), parts.next());
    let month = month.and_then(|month| MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?));
    format!("{} {}, {}", month.unwrap_or(&"January"), day.unwrap_or("01"), year.unwrap_or("1970"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::current_date;

    #[test]
    fn dates_are_formatted_as_gitlab_expects_them() {
        let at = |seconds| current_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(1_795_392_000), "November 23, 2026");
        assert_eq!(at(0), "January 01, 1970");
    }
}
