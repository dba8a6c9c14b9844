//! `POST /v1|v2/prompts/model_configuration/check`: the "Test connection" button of GitLab's model
//! form.
//!
//! Source: contract::gitlab_client §10.1. The request goes to the very model that the form names;
//! `[features]` decides only when the form names none.

use std::time::Duration;

use hyper::body::Incoming;
use serde::Deserialize;

use super::prompts::full_body;
use crate::api::{Answer, Context, Routed, body, json, text_header};
use crate::error::GatewayError;
use crate::generation::{Generation, Message, Role, Sampling};
use crate::route::{ModelMetadata, RawModelMetadata, Route, RouteQuery};

/// Timeout for GitLab before 19.0, which waits 3 s for this response; later versions wait 15 s
/// (contract::gitlab_client §10.1). Just below GitLab's own, so that the button shows our error
/// instead of its timeout.
const TIMEOUT_BEFORE_19: Duration = Duration::from_millis(2800);
/// Timeout for GitLab 19.0 and later, and for clients without a version.
const TIMEOUT: Duration = Duration::from_millis(14_500);

#[derive(Deserialize)]
struct ModelCheckRequest<'a> {
    #[serde(borrow)]
    model_metadata: Option<RawModelMetadata<'a>>,
}

/// Requests a single word from the model. GitLab reads the status only: 200 means that the model
/// answered.
pub(in crate::api) async fn answer(
    mut context: Context<'_>,
    version: u8,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let request: ModelCheckRequest<'_> = body::parse(&bytes)?;
    let raw = request.model_metadata.unwrap_or_default();
    let metadata = ModelMetadata::parse(&raw, &["model_metadata"])
        .map_err(|fault| GatewayError::invalid(vec![fault]))?;
    let route = match context.route(RouteQuery { feature: None, metadata }, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let timeout = timeout_for(text_header(&context.parts.headers, "x-gitlab-version"));
    // this very model is tested, without a fallback
    let (model, budget) = (route.model.clone(), route.timeouts.capped(Some(timeout)));
    let route = Route { model, timeouts: budget, fallback: None, ..*route };
    let generation = Generation {
        messages: vec![Message::text(Role::User, "Reply with the single word OK.")],
        sampling: Sampling { max_tokens: Some(8), temperature: Some(0.0), ..Sampling::default() },
        ..Generation::default()
    };
    let deltas = context.relay.generate(context.call(&route), &generation, context.facts).await?;
    Ok(json(full_body(version, &deltas, &route.model)))
}

/// Returns the timeout for a GitLab of this version.
fn timeout_for(gitlab_version: Option<&str>) -> Duration {
    let major = gitlab_version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 19) { TIMEOUT_BEFORE_19 } else { TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::{TIMEOUT, TIMEOUT_BEFORE_19, timeout_for};

    #[test]
    fn times_out_before_gitlab_does() {
        assert_eq!(timeout_for(Some("18.9.0")), TIMEOUT_BEFORE_19);
        assert_eq!(timeout_for(Some("19.1.0-pre")), TIMEOUT);
        assert_eq!(timeout_for(None), TIMEOUT);
    }
}
