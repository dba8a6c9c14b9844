//! `POST /v1/search/gitlab-docs`: what GitLab's chat reads before it answers a question about
//! GitLab.
//!
//! Source: gitlab-client.md §9.1, ai-gateway-server.md §1.8. Without an index nothing is found,
//! which is no error: GitLab's tool fails on anything but a list.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::{Answer, Context, body, json};
use crate::auth::Caller;
use crate::docs::{Hit, Settings};
use crate::error::{BodyFault, GatewayError};
use crate::route::{Ask, Feature, Route};

/// The official gateway's limits.
const MAX_QUERY: usize = 400_000;
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1..=20;
const PAGE_SIZE: u32 = 4;

/// `type` and `metadata` say nothing that a search needs.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    query: Cow<'a, str>,
    page_size: Option<u32>,
}

/// Answers with the sections that fit the question best.
///
/// The search runs here and not on another thread: in an index of the size of GitLab's
/// documentation a question takes half a millisecond (`docs::tests::measure`).
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let bytes = context.body(incoming).await?;
    if let Some(route) = cloud(&context) {
        context.routed(&route);
        return context.forward(&route, false, &bytes).await;
    }
    let Request { payload } = body::parse(&bytes)?;
    let limit = payload.page_size.unwrap_or(PAGE_SIZE);
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
    let results: Vec<Value> = hits.iter().map(|hit| result(docs, hit)).collect();
    // the official gateway's name for an index of the operator's own
    let metadata = json!({ "provider": "sqlite", "timestamp": context.unix_time() });
    Ok(json(json!({ "response": { "results": results }, "metadata": metadata }).to_string()))
}

/// GitLab's cloud searches its own documentation for a chat that is its own, unless there is an
/// index here. To the holder of a static key it is not open, and nothing is found.
fn cloud(context: &Context<'_>) -> Option<Arc<Route>> {
    if context.snapshot.docs.index.is_some() || matches!(context.caller, Caller::Key(_)) {
        return None;
    }
    let ask = Ask { feature: Some(Feature::DUO_CHAT), metadata: None };
    let route = context.snapshot.table.resolve(ask).ok()?;
    route.model.provider.is_gateway().then_some(route)
}

/// The way to the section stands above its text, so that the model knows what it reads.
fn result(docs: &Settings, hit: &Hit<'_>) -> Value {
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
