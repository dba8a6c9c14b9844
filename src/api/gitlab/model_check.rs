//! `POST /v1|v2/prompts/model_configuration/check`: the "Test connection" button of GitLab's model
//! form.
//!
//! Source: gitlab-client.md §10.1. It asks the very model that the form names: `[features]` decides
//! only when the form names none.

use std::time::Duration;

use hyper::body::Incoming;
use serde::Deserialize;

use super::prompts::whole;
use crate::api::{Answer, Context, Routed, body, json, text_header};
use crate::error::GatewayError;
use crate::generation::{Generation, Message, Role, Sampling};
use crate::route::{Ask, Metadata, RawMetadata, Route};

/// GitLab before 19.0 waits 3 s for this answer, later versions 15 s (§10.1); the button then shows
/// our words instead of its own timeout.
const LIMIT_BEFORE_19: Duration = Duration::from_millis(2800);
const LIMIT: Duration = Duration::from_millis(14_500);

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model_metadata: Option<RawMetadata<'a>>,
}

/// Asks the model for a word. 200 says it answered; the text is shown to nobody.
pub(in crate::api) async fn answer(
    mut context: Context<'_>,
    version: u8,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let request: Request<'_> = body::parse(&bytes)?;
    let raw = request.model_metadata.unwrap_or_default();
    let metadata = Metadata::check(&raw, &["model_metadata"])
        .map_err(|fault| GatewayError::invalid(vec![fault]))?;
    let route = match context.route(Ask { feature: None, metadata }, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let limit = limit(text_header(&context.parts.headers, "x-gitlab-version"));
    // this very model is tested, and no other
    let (model, budget) = (route.model.clone(), route.budget.capped(Some(limit)));
    let route = Route { model, budget, fallback: None, ..*route };
    let generation = Generation {
        messages: vec![Message::text(Role::User, "Reply with the single word OK.")],
        sampling: Sampling { max_tokens: Some(8), temperature: Some(0.0), ..Sampling::default() },
        ..Generation::default()
    };
    let deltas = context.relay.ask(context.call(&route), &generation, context.facts).await?;
    Ok(json(whole(version, &deltas, &route.model)))
}

fn limit(gitlab_version: Option<&str>) -> Duration {
    let major = gitlab_version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 19) { LIMIT_BEFORE_19 } else { LIMIT }
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, LIMIT_BEFORE_19, limit};

    #[test]
    fn answers_before_gitlab_gives_up() {
        assert_eq!(limit(Some("18.9.0")), LIMIT_BEFORE_19);
        assert_eq!(limit(Some("19.1.0-pre")), LIMIT);
        assert_eq!(limit(None), LIMIT);
    }
}
