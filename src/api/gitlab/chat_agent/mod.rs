//! `POST /v2/chat/agent`: one step of GitLab Duo Chat. The model answers, or names a tool, which
//! GitLab runs before it asks again with what the tool said.
//!
//! ```text
//! request → conversation + tools → prompt → model → react + call → events → JSON lines
//! ```
//!
//! Sources: gitlab-client.md §7, §11.1, §12.2; ai-gateway-server.md §4. What is wrong with a
//! request is told by a status; once a model was chosen the answer is a 200, and what fails is an
//! event in it.

mod call;
mod conversation;
mod events;
mod prompt;
mod react;
mod request;
mod tools;

use hyper::body::Incoming;

use conversation::Way;
use events::Events;
use prompt::Setting;
use request::{Named, Request};
use tools::Tool;

use super::unthinking;
use crate::api::{Answer, Context, Routed, body, text_header};
use crate::error::{GatewayError, Kind, NDJSON, Shape};
use crate::model::{Model, ToolStyle};
use crate::route::{Ask, Feature, Metadata, Route};
use crate::snapshot::ToolUse;
use crate::telemetry::rfc3339;

/// Answers with events.
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let bytes = context.body(incoming).await?;
    context.facts.stream = true;
    context.asked_for(Some(Feature::DUO_CHAT));
    let Named { model_metadata } = body::parse(&bytes)?;
    let metadata = Metadata::check(&model_metadata.unwrap_or_default(), &["model_metadata"]);
    let metadata = metadata.map_err(|fault| GatewayError::invalid(vec![fault]))?;
    let mut route =
        match context.route(Ask { feature: Some(Feature::DUO_CHAT), metadata }, &bytes).await? {
            Routed::Model(route) => route,
            Routed::Answered(response) => return Ok(response),
        };
    let request: Request<'_> = body::parse(&bytes)?;
    request.check(&context.caller)?;
    let version = text_header(&context.parts.headers, "x-gitlab-version");
    let offered = tools::offered(&context.caller, version, &request.unavailable());
    context.facts.shape = Shape::GitlabChat(context.snapshot.chat.expiry_as);
    context.promise_lines(NDJSON);
    loop {
        match ask(&mut context, &route, &request, &offered).await {
            Err(error) => route = context.instead(&route, error)?,
            answer => return answer,
        }
    }
}

/// Asks one model, in text if its server refuses functions.
async fn ask(
    context: &mut Context<'_>,
    route: &Route,
    request: &Request<'_>,
    offered: &[&'static Tool],
) -> Answer {
    let tools = context.snapshot.chat.tools;
    let way = way(tools, &route.model);
    match ask_by(way, context, route, request, offered).await {
        Err(error) if tools == ToolUse::Auto && way == Way::Native && refuses_tools(&error) => {
            context.facts.retries += 1;
            ask_by(Way::React, context, route, request, offered).await
        }
        answered => answered,
    }
}

async fn ask_by(
    way: Way,
    context: &mut Context<'_>,
    route: &Route,
    request: &Request<'_>,
    offered: &[&'static Tool],
) -> Answer {
    let prompts = &context.snapshot.prompts;
    let wall = rfc3339(context.facts.wall);
    let date = wall.get(..10).unwrap_or_default();
    let generation =
        Setting { prompts, model: &route.model, date }.generation(request, way, offered)?;
    let encoder =
        || unthinking(Box::new(Events::new(way, offered, route.model.upstream_name.clone())));
    context.relay.stream(context.call(route), &generation, &encoder, NDJSON, context.facts).await
}

/// How a model is to call tools.
fn way(tools: ToolUse, model: &Model) -> Way {
    match (tools, model.family.tools) {
        (ToolUse::Native, _) | (ToolUse::Auto, ToolStyle::Native) => Way::Native,
        (ToolUse::React, _) | (ToolUse::Auto, ToolStyle::React) => Way::React,
    }
}

/// Whether a server said that it, or its model, has no functions: vLLM without
/// `--enable-auto-tool-choice`, llama.cpp without `--jinja`, some of Bedrock's models.
fn refuses_tools(error: &GatewayError) -> bool {
    let refused = matches!(error.kind(), Kind::UpstreamStatus(400 | 404 | 422 | 500 | 501));
    let says_so = |said: &str| {
        said.contains("tool") && (said.contains("requires") || said.contains("support"))
    };
    refused && [Some(error.public()), error.operator()].into_iter().flatten().any(says_so)
}

#[cfg(test)]
mod tests {
    use super::refuses_tools;
    use crate::error::{GatewayError, Kind};

    #[test]
    fn servers_without_functions_are_known_by_their_words() {
        let error =
            |status, said: &str| GatewayError::new(Kind::UpstreamStatus(status), said.to_owned());
        for said in [
            "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",
            "tools param requires --jinja flag",
            "This model doesn't support tool use in streaming mode.",
        ] {
            assert!(refuses_tools(&error(400, said)), "{said}");
        }
        assert!(refuses_tools(&error(500, "x").internal("tools param requires --jinja flag")));
        assert!(!refuses_tools(&error(400, "maximum context length")));
        assert!(!refuses_tools(&error(429, "too many tools")));
        assert!(
            !refuses_tools(&error(400, "tools.0.function.name: too long")),
            "a fault of ours, the same again in text"
        );
    }
}
