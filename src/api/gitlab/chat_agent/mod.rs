//! `POST /v2/chat/agent`: one step of GitLab Duo Chat. The model answers, or calls a tool, which
//! GitLab runs before it sends the next request with the tool's result.
//!
//! ```text
//! request → conversation + tools → prompt → model → react + call → events → JSON lines
//! ```
//!
//! Sources: contract::gitlab_client §7, §11.1, §12.2; contract::ai_gateway_server §4. An invalid
//! request gets an error status; once a model is chosen the response is a 200, and a failure is an
//! event in it.

mod call;
mod conversation;
mod events;
mod prompt;
mod react;
mod request;
mod tools;

use hyper::body::Incoming;

use conversation::ToolProtocol;
use events::ChatEventEncoder;
use prompt::ChatPromptBuilder;
use request::{ChatRequest, ChatRouting};
use tools::Tool;

use super::without_reasoning;
use crate::api::{Answer, Context, Routed, body, text_header};
use crate::error::{GatewayError, Kind, NDJSON, Shape};
use crate::model::{Model, ToolStyle};
use crate::route::{Feature, ModelMetadata, Route, RouteQuery};
use crate::snapshot::ToolUse;
use crate::telemetry::rfc3339;

/// Answers with a stream of events, one JSON object per line.
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let bytes = context.body(incoming).await?;
    context.facts.stream = true;
    context.record_feature(Some(Feature::DUO_CHAT));
    let ChatRouting { model_metadata } = body::parse(&bytes)?;
    let metadata = ModelMetadata::parse(&model_metadata.unwrap_or_default(), &["model_metadata"]);
    let metadata = metadata.map_err(|fault| GatewayError::invalid(vec![fault]))?;
    let mut route = match context
        .route(RouteQuery { feature: Some(Feature::DUO_CHAT), metadata }, &bytes)
        .await?
    {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let request: ChatRequest<'_> = body::parse(&bytes)?;
    request.validate(&context.caller)?;
    let version = text_header(&context.parts.headers, "x-gitlab-version");
    let tools = tools::available_to(&context.caller, version, &request.unavailable_resources());
    context.facts.shape = Shape::GitlabChat(context.snapshot.chat.expiry_as);
    context.allow_early_response(NDJSON);
    loop {
        match run_attempt(&mut context, &route, &request, &tools).await {
            Err(error) => route = context.next_fallback(&route, error)?,
            answer => return answer,
        }
    }
}

/// Sends the request to one model; once more with the tools in text if its server rejects
/// functions.
async fn run_attempt(
    context: &mut Context<'_>,
    route: &Route,
    request: &ChatRequest<'_>,
    tools: &[&'static Tool],
) -> Answer {
    let tool_use = context.snapshot.chat.tools;
    let protocol = tool_protocol(tool_use, &route.model);
    let can_fall_back = tool_use == ToolUse::Auto && protocol == ToolProtocol::Native;
    match send(protocol, context, route, request, tools).await {
        Err(error) if can_fall_back && is_tool_rejection(&error) => {
            context.facts.retries += 1;
            send(ToolProtocol::React, context, route, request, tools).await
        }
        answer => answer,
    }
}

/// Sends the prompt for one protocol to the model and answers with the encoded stream.
async fn send(
    protocol: ToolProtocol,
    context: &mut Context<'_>,
    route: &Route,
    request: &ChatRequest<'_>,
    tools: &[&'static Tool],
) -> Answer {
    let registry = &context.snapshot.prompts;
    let now = rfc3339(context.facts.wall);
    let date = now.get(..10).unwrap_or_default();
    let builder = ChatPromptBuilder { registry, model: &route.model, date };
    let generation = builder.build(request, protocol, tools)?;
    let encoder = || {
        let model = route.model.upstream_name.clone();
        without_reasoning(Box::new(ChatEventEncoder::new(protocol, tools, model)))
    };
    context.relay.stream(context.call(route), &generation, &encoder, NDJSON, context.facts).await
}

/// Returns the protocol by which a model calls tools: the configured one, else its family's.
fn tool_protocol(tool_use: ToolUse, model: &Model) -> ToolProtocol {
    match (tool_use, model.family.tools) {
        (ToolUse::Native, _) | (ToolUse::Auto, ToolStyle::Native) => ToolProtocol::Native,
        (ToolUse::React, _) | (ToolUse::Auto, ToolStyle::React) => ToolProtocol::React,
    }
}

/// Returns whether a server rejected the request because it, or its model, has no functions: vLLM
/// without `--enable-auto-tool-choice`, llama.cpp without `--jinja`, some of Bedrock's models.
fn is_tool_rejection(error: &GatewayError) -> bool {
    let has_status = matches!(error.kind(), Kind::UpstreamStatus(400 | 404 | 422 | 500 | 501));
    let mentions_tools = |text: &str| {
        text.contains("tool") && (text.contains("requires") || text.contains("support"))
    };
    has_status && [Some(error.public()), error.operator()].into_iter().flatten().any(mentions_tools)
}

#[cfg(test)]
mod tests {
    use super::is_tool_rejection;
    use crate::error::{GatewayError, Kind};

    #[test]
    fn servers_without_functions_are_recognized_by_their_errors() {
        let error =
            |status, text: &str| GatewayError::new(Kind::UpstreamStatus(status), text.to_owned());
        for text in [
            "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",
            "tools param requires --jinja flag",
            "This model doesn't support tool use in streaming mode.",
        ] {
            assert!(is_tool_rejection(&error(400, text)), "{text}");
        }
        assert!(is_tool_rejection(&error(500, "x").internal("tools param requires --jinja flag")));
        assert!(!is_tool_rejection(&error(400, "maximum context length")));
        assert!(!is_tool_rejection(&error(429, "too many tools")));
        assert!(
            !is_tool_rejection(&error(400, "tools.0.function.name: too long")),
            "our own fault, which would repeat with tools in text"
        );
    }
}
