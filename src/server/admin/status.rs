//! `/status` as JSON: the routing table and the reason of each route, the state and counts of each
//! model, the result of the last reload. The page (`status.html`) polls it; scripts may too. No
//! field can contain a secret: endpoint URLs have no user part by construction, and keys are not
//! read here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use serde::Serialize;

use super::numbers::{Buckets, Family, count, label_of, sum, sum_by};
use crate::auth::{IssuerStatus, Policy};
use crate::error::Outcome;
use crate::model::Timeouts;
use crate::route::{Choice, Feature, Route, RouteQuery, Rule, Table};
use crate::snapshot::{LastReload, Snapshot};
use crate::telemetry::rfc3339;
use crate::upstream::{Endpoint, EndpointStatus};

/// The state of the process itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) uptime: Duration,
    pub(super) draining: bool,
}

/// The document. Counts are since the start of the process.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    version: &'static str,
    uptime_s: u64,
    /// The number of the configuration in force.
    generation: u64,
    draining: bool,
    last_reload: Reload<'a>,
    auth: Auth,
    features: Vec<FeatureRow<'a>>,
    models: Vec<ModelRow<'a>>,
    /// By surface.
    inflight: BTreeMap<&'a str, u64>,
    requests_total: u64,
    /// By surface.
    requests: BTreeMap<&'a str, u64>,
    /// By outcome.
    outcomes: BTreeMap<&'a str, u64>,
    /// By code, of those that occurred.
    errors: BTreeMap<&'a str, u64>,
    /// Upper bounds of `models[].duration_buckets` and `ttft_buckets`; these have one count more,
    /// the number of all observations.
    bucket_bounds_s: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Reload<'a> {
    at: String,
    ok: bool,
    faults: &'a [String],
}

/// How callers are authenticated.
#[derive(Debug, Serialize)]
struct Auth {
    /// `off`, `keys` or `gitlab`.
    mode: &'static str,
    static_keys: usize,
    issuers: Vec<IssuerRow>,
}

/// An issuer whose tokens are accepted.
#[derive(Debug, Serialize)]
struct IssuerRow {
    /// The URL in the file.
    url: String,
    /// The `iss` of its tokens, once it has been fetched.
    issuer: Option<String>,
    keys: usize,
    /// The age of the keys.
    age_s: Option<u64>,
    /// Why the last fetch failed, if it did.
    error: Option<String>,
}

/// One row of the routing table.
#[derive(Debug, Serialize)]
struct FeatureRow<'a> {
    feature: &'static str,
    title: &'static str,
    parent: Option<&'static str>,
    /// A model's name, `disabled`, or null: the request must name a model, or it fails with 422.
    model: Option<&'a str>,
    /// Its fallback models, in order.
    fallback: Vec<&'a str>,
    /// `feature`, `parent` or `default`.
    rule: Option<&'static str>,
    /// The key of `[features]` that decided.
    key: Option<&'static str>,
    timeouts_ms: Option<TimeoutsRow>,
}

#[derive(Debug, Serialize)]
struct TimeoutsRow {
    connect: u64,
    first_byte: u64,
    idle: u64,
    total: u64,
}

/// One model of the file; or `request`, all models that requests define themselves.
#[derive(Debug, Serialize)]
struct ModelRow<'a> {
    name: &'a str,
    provider: Option<&'static str>,
    family: Option<&'a str>,
    upstream_name: Option<&'a str>,
    endpoints: Vec<EndpointRow>,
    inflight: u64,
    /// Requests that wait because of `max_parallel`.
    waiting: u64,
    /// By outcome.
    requests: BTreeMap<&'static str, u64>,
    errors: Vec<ErrorRow<'a>>,
    retries: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    ttft_p50_ms: Option<f64>,
    ttft_p99_ms: Option<f64>,
    tokens_in: u64,
    tokens_out: u64,
    duration_buckets: Vec<u64>,
    ttft_buckets: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct EndpointRow {
    url: String,
    /// Whether requests are sent to it.
    healthy: bool,
    /// `closed`, `half_open` or `open`.
    breaker: &'static str,
    /// Why it was last unavailable, also if it has recovered.
    failure: Option<String>,
    /// How long ago that began or, if it has recovered, ended.
    failure_s: Option<u64>,
    /// How long no requests are sent to it because of its `Retry-After`.
    busy_s: Option<u64>,
    /// The recent time to the first token.
    wait_ms: Option<u64>,
    inflight: usize,
}

#[derive(Debug, Serialize)]
struct ErrorRow<'a> {
    code: &'a str,
    phase: &'a str,
    count: u64,
}

/// Builds the document.
pub(super) fn of<'a>(
    snapshot: &'a Snapshot,
    reload: &'a LastReload,
    families: &'a [MetricFamily],
    process: Process,
) -> Status<'a> {
    let requests = Family::of(families, "weir_requests_total");
    let durations = Family::of(families, "weir_request_duration_seconds");
    Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: process.uptime.as_secs(),
        generation: snapshot.generation,
        draining: process.draining,
        last_reload: Reload { at: rfc3339(reload.at), ok: reload.ok, faults: &reload.faults },
        auth: auth(&snapshot.auth),
        features: features(&snapshot.table),
        models: models(snapshot, families),
        inflight: sum_by(Family::of(families, "weir_inflight").all(), "surface"),
        requests_total: sum(requests.all()),
        requests: sum_by(requests.all(), "surface"),
        outcomes: sum_by(requests.all(), "outcome"),
        errors: occurred(sum_by(Family::of(families, "weir_errors_total").all(), "code")),
        bucket_bounds_s: Buckets::merge(durations.all().take(1)).bounds(),
    }
}

fn auth(policy: &Policy) -> Auth {
    let row = |status: IssuerStatus| IssuerRow {
        url: status.url,
        issuer: status.issuer,
        keys: status.keys,
        age_s: status.age.map(|age| age.as_secs()),
        error: status.last_error,
    };
    let issuers = policy.issuer_statuses().into_iter().map(row).collect();
    Auth { mode: policy.mode(), static_keys: policy.static_key_count(), issuers }
}

fn features(table: &Table) -> Vec<FeatureRow<'_>> {
    let mut rows: Vec<_> = Feature::all().map(|feature| feature_row(table, feature)).collect();
    let choice = table.default_choice();
    rows.push(FeatureRow {
        feature: "default",
        title: "Every other request",
        parent: None,
        model: choice.map(model_of),
        fallback: choice.map(fallbacks_of).unwrap_or_default(),
        rule: choice.map(|_| label(Rule::Default)),
        key: choice.map(|_| "default"),
        timeouts_ms: choice.and_then(|choice| match choice {
            Choice::Model(route) => Some(timeouts(&route.timeouts)),
            Choice::Disabled => None,
        }),
    });
    rows
}

fn feature_row(table: &Table, feature: Feature) -> FeatureRow<'_> {
    let choice =
        table.feature_choice(feature).or_else(|| Some((table.default_choice()?, Rule::Default)));
    // resolved as for requests, so that the page shows the timeouts that apply
    let route = table.resolve(RouteQuery { feature: Some(feature), metadata: None }).ok();
    FeatureRow {
        feature: feature.name(),
        title: feature.title(),
        parent: feature.parent().map(Feature::name),
        model: choice.map(|(choice, _)| model_of(choice)),
        fallback: choice.map(|(choice, _)| fallbacks_of(choice)).unwrap_or_default(),
        rule: choice.map(|(_, rule)| label(rule)),
        key: choice.and_then(|(_, rule)| match rule {
            Rule::Parent => feature.parent().map(Feature::name),
            Rule::Default => Some("default"),
            Rule::Feature | Rule::Request | Rule::Token | Rule::Named => Some(feature.name()),
        }),
        timeouts_ms: route.map(|route| timeouts(&route.timeouts)),
    }
}

fn model_of(choice: &Choice) -> &str {
    match choice {
        Choice::Model(route) => &route.model.id,
        Choice::Disabled => "disabled",
    }
}

fn fallbacks_of(choice: &Choice) -> Vec<&str> {
    match choice {
        Choice::Model(route) => route.fallbacks().map(|next| &*next.model.id).collect(),
        Choice::Disabled => Vec::new(),
    }
}

const fn label(rule: Rule) -> &'static str {
    match rule {
        Rule::Feature => "feature",
        Rule::Parent => "parent",
        Rule::Request => "request",
        Rule::Token => "token",
        Rule::Default => "default",
        Rule::Named => "named",
    }
}

fn timeouts(budget: &Timeouts) -> TimeoutsRow {
    let ms = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    TimeoutsRow {
        connect: ms(budget.connect),
        first_byte: ms(budget.first_byte),
        idle: ms(budget.idle),
        total: ms(budget.total),
    }
}

/// The metrics' label of models that requests define (`Table::resolve`).
const REQUEST_MODELS: &str = "request";

fn models<'a>(snapshot: &'a Snapshot, families: &'a [MetricFamily]) -> Vec<ModelRow<'a>> {
    let mut routes: Vec<&Arc<Route>> =
        snapshot.table.models().chain(snapshot.table.cloud()).collect();
    routes.sort_by(|a, b| a.model.id.cmp(&b.model.id));
    let mut rows: Vec<_> =
        routes.into_iter().map(|route| model_row(snapshot, route, families)).collect();
    // they are in no file, so they have a row once one was requested
    let was_requested =
        Family::of(families, "weir_requests_total").with("model", REQUEST_MODELS).next().is_some();
    if was_requested && rows.iter().all(|row| row.name != REQUEST_MODELS) {
        rows.push(counts_of(REQUEST_MODELS, families));
    }
    rows
}

fn endpoint_row(endpoint: &Arc<Endpoint>) -> EndpointRow {
    let EndpointStatus { healthy, breaker, failure, retry_after: busy, first_token_wait: wait } =
        endpoint.status();
    let (failure, failure_s) = failure.map(|(why, ago)| (why, ago.as_secs())).unzip();
    EndpointRow {
        url: endpoint.url.to_string(),
        healthy,
        breaker,
        failure,
        failure_s,
        busy_s: busy.map(|left| left.as_secs() + 1),
        wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        inflight: endpoint.inflight(),
    }
}

fn model_row<'a>(
    snapshot: &'a Snapshot,
    route: &'a Route,
    families: &'a [MetricFamily],
) -> ModelRow<'a> {
    let model = &route.model;
    let endpoints = snapshot.endpoints.of(&model.id).unwrap_or_default();
    ModelRow {
        provider: Some(model.provider.label()),
        family: Some(&*model.family.name),
        upstream_name: Some(&model.upstream_name),
        endpoints: endpoints.iter().map(endpoint_row).collect(),
        ..counts_of(&model.id, families)
    }
}

/// Returns the row of a model with its counts, without what the file defines.
fn counts_of<'a>(name: &'a str, families: &'a [MetricFamily]) -> ModelRow<'a> {
    let family = |metric: &str| Family::of(families, metric).with("model", name);
    let by_outcome = sum_by(family("weir_requests_total"), "outcome");
    let outcome = |outcome: Outcome| {
        let label = outcome.label();
        (label, by_outcome.get(label).copied().unwrap_or_default())
    };
    let tokens = sum_by(family("weir_tokens_total"), "direction");
    let tokens = |direction: &str| tokens.get(direction).copied().unwrap_or_default();
    let duration = Buckets::merge(family("weir_request_duration_seconds"));
    let ttft = Buckets::merge(family("weir_time_to_first_token_seconds"));
    ModelRow {
        name,
        provider: None,
        family: None,
        upstream_name: None,
        endpoints: Vec::new(),
        inflight: sum(family("weir_upstream_inflight")),
        waiting: sum(family("weir_model_waiting")),
        requests: Outcome::ALL.into_iter().map(outcome).collect(),
        errors: errors(name, families),
        retries: sum(family("weir_retries_total")),
        p50_ms: duration.quantile_ms(0.5),
        p99_ms: duration.quantile_ms(0.99),
        ttft_p50_ms: ttft.quantile_ms(0.5),
        ttft_p99_ms: ttft.quantile_ms(0.99),
        tokens_in: tokens("input"),
        tokens_out: tokens("output"),
        duration_buckets: duration.counts(),
        ttft_buckets: ttft.counts(),
    }
}

/// Removes what has not occurred: common errors have a series from the start.
fn occurred<K: Ord>(mut counts: BTreeMap<K, u64>) -> BTreeMap<K, u64> {
    counts.retain(|_, count| *count > 0);
    counts
}

/// Returns the errors of a model that occurred, the most frequent first.
fn errors<'a>(model: &'a str, families: &'a [MetricFamily]) -> Vec<ErrorRow<'a>> {
    let mut counts: BTreeMap<_, u64> = BTreeMap::new();
    for metric in Family::of(families, "weir_errors_total").with("model", model) {
        *counts.entry((label_of(metric, "code"), label_of(metric, "phase"))).or_default() +=
            count(metric);
    }
    let mut rows: Vec<_> = occurred(counts)
        .into_iter()
        .map(|((code, phase), count)| ErrorRow { code, phase, count })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}
