//! `POST /v1/search/gitlab-docs`: the search that GitLab's chat runs before it answers a question
//! about GitLab.
//!
//! Source: contract::gitlab_client §9.1, contract::ai_gateway_server §1.8. Without an index the
//! response is an empty list and no error: GitLab's tool fails on anything but a list.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::{Answer, Context, body, json};
use crate::auth::Caller;
use crate::docs::{Hit, Settings};
use crate::error::{BodyFault, GatewayError};
use crate::route::{Feature, Route, RouteQuery};

/// Longest query in characters; the official gateway's limit.
const MAX_QUERY: usize = 400_000;
/// Valid page sizes; the official gateway's limits.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1..=20;
/// Page size of requests that set none.
const DEFAULT_PAGE_SIZE: u32 = 4;

/// The body. Its `type` and `metadata` are ignored, since the search does not depend on them.
#[derive(Deserialize)]
struct DocsSearchRequest<'a> {
    #[serde(borrow)]
    payload: SearchPayload<'a>,
}

#[derive(Deserialize)]
struct SearchPayload<'a> {
    #[serde(borrow)]
    query: Cow<'a, str>,
    page_size: Option<u32>,
}

/// Answers with the sections that match the query best.
///
/// The search runs here and not on another thread: in an index of the size of GitLab's
/// documentation a query takes half a millisecond (`docs::tests::measure`).
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let bytes = context.body(incoming).await?;
    if let Some(route) = gitlab_cloud_route(&context) {
        context.record_route(&route);
        return context.forward(&route, false, &bytes).await;
    }
    let DocsSearchRequest { payload } = body::parse(&bytes)?;
    let limit = payload.page_size.unwrap_or(DEFAULT_PAGE_SIZE);
    let fault = |field: &'static str, msg: &str| {
        let loc = ["body", "payload", field].map(Cow::Borrowed).to_vec();
        GatewayError::invalid(vec![BodyFault { loc, msg: msg.to_owned(), kind: "value_error" }])
    };
    if !PAGE_SIZES.contains(&limit) {
        return Err(fault("page_size", "expected a number from 1 to 20"));
    }
    if payload.query.chars().count() > MAX_QUERY {
        return Err(fault("query", "expected at most 400000 characters"));
    }
    let docs = &context.snapshot.docs;
    let hits = docs
        .index
        .as_ref()
        .map(|index| index.search(&payload.query, limit as usize))
        .unwrap_or_default();
    let results: Vec<Value> = hits.iter().map(|hit| search_result(docs, hit)).collect();
    // the official gateway's name for an index of the operator's own
    let metadata = json!({ "provider": "sqlite", "timestamp": context.unix_time() });
    Ok(json(json!({ "response": { "results": results }, "metadata": metadata }).to_string()))
}

/// Returns the route to GitLab's cloud, which searches its own documentation if it also answers the
/// chat. `None` if there is a local index or the chat's model is local, and for holders of a static
/// key, which the cloud does not accept: they get an empty list.
fn gitlab_cloud_route(context: &Context<'_>) -> Option<Arc<Route>> {
    if context.snapshot.docs.index.is_some() || matches!(context.caller, Caller::Key(_)) {
        return None;
    }
    let query = RouteQuery { feature: Some(Feature::DUO_CHAT), metadata: None };
    let route = context.snapshot.table.resolve(query).ok()?;
    route.model.provider.is_gateway().then_some(route)
}

/// Returns one search result. Its content begins with the path of headings to the section, which
/// gives the model the context of the text.
fn search_result(docs: &Settings, hit: &Hit<'_>) -> Value {
    let titles: Vec<&str> =
        std::iter::once(hit.title).chain(hit.headings.iter().copied()).collect();
    let mut metadata: Map<String, Value> = titles
        .iter()
        .enumerate()
        .map(|(level, title)| (format!("Header{}", level + 1), json!(title)))
        .collect();
    metadata.insert("title".to_owned(), json!(hit.title));
    metadata.insert("filename".to_owned(), json!(docs.link(hit.path)));
    metadata.insert("source".to_owned(), json!(hit.path));
    json!({ "id": hit.id, "content": format!("{}\n\n{}", titles.join(" > "), hit.text), "metadata": metadata })
}
