//! `POST /v1/code/user_access_token`: a token with which a user's IDE calls code completion
//! directly.
//!
//! Source: contract::gitlab_client §3.4, §6.4; contract::ai_gateway_server §1.9, §5.4. The IDE's
//! own requests name no model, so the token is pinned to the model that completes code now. Without
//! one the token would grant nothing: GitLab gets an error with the reason, and the IDE keeps
//! sending its requests through GitLab, whose requests name a model.

use std::time::SystemTime;

use hyper::body::Incoming;
use serde_json::json;

use crate::api::{Answer, Context, Routed, json, text_header};
use crate::auth::{Caller, TokenSubject};
use crate::error::{GatewayError, Kind};
use crate::route::{Feature, RouteQuery};

/// Issues a token and answers with `{"token", "expires_at"}`.
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    // GitLab sends no body, and nothing in it would be read
    let bytes = context.body(incoming).await?;
    let query = RouteQuery { feature: Some(Feature::CODE_COMPLETIONS), metadata: None };
    // where GitLab's cloud completes code, it also issues the tokens
    let route = match context.route(query, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let header = |name| text_header(&context.parts.headers, name).unwrap_or_default();
    let user = TokenSubject {
        id: header("x-gitlab-global-user-id"),
        realm: header("x-gitlab-realm"),
        instance_id: header("x-gitlab-instance-id"),
        model: &route.model.id,
    };
    // realm and instance were checked against GitLab's token; without a user anybody could use this
    // one
    if user.id.is_empty() && context.caller != Caller::Anonymous {
        return Err(GatewayError::new(Kind::BadRequest, "Missing X-Gitlab-Global-User-Id header"));
    }
    let issued = context.snapshot.user_tokens.issue(user, SystemTime::now())?;
    Ok(json(json!({ "token": issued.token, "expires_at": issued.expires_at }).to_string()))
}
