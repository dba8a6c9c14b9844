//! The series that exist at 0 from the moment a configuration is in force, so that a dashboard
//! shows 0 and not "no data" before the first request.
//!
//! One metric has a series per surface, feature, model and outcome, so not all combinations are
//! created, but those a dashboard would query:
//!
//! - per feature for which `[features]` yields a model (by its own line, its parent's or
//!   `default`): its model and the fallbacks, on the surfaces that GitLab calls for it;
//! - per model of the file: upstream time, queue time and retries; and `feature="direct"` on
//!   `openai_chat`, while the file has few models;
//! - per fallback chain: each model and the next one.
//!
//! Others are created by their first request.

use std::sync::Arc;

use crate::route::{Feature, Route, RouteQuery, Table};
use crate::telemetry::labels::{FallbackLabels, ModelLabels, RouteLabels, Surface};
use crate::telemetry::{InitialSeries, RouteKey};

/// Models above which direct requests get no series from the start: a series costs about 8 µs to
/// create and 100 bytes of every scrape, and a model about 80 of them.
const MAX_DIRECT: usize = 50;

/// Returns the surfaces on which GitLab makes the calls of a feature (contract::gitlab_client §1).
const fn surfaces(feature: Feature) -> &'static [Surface] {
    match feature {
        Feature::CODE_COMPLETIONS | Feature::CODE_GENERATIONS => &[Surface::GitlabCode],
        // the chat, and the prompts of its tools
        Feature::DUO_CHAT => &[Surface::GitlabChatAgent, Surface::GitlabPrompts],
        Feature::EMBEDDINGS_CODE => &[Surface::GitlabEmbeddings],
        _ => &[Surface::GitlabPrompts],
    }
}

/// Returns the series that a routing table names.
pub fn initial_series(table: &Table) -> InitialSeries {
    let mut series = InitialSeries::default();
    for feature in Feature::all() {
        // the walk that requests take; disabled features and those without a model have no series
        let Ok(route) = table.resolve(RouteQuery { feature: Some(feature), metadata: None }) else {
            continue;
        };
        add_feature(&mut series, surfaces(feature), &route);
    }
    let models: Vec<_> = table.models().chain(table.cloud()).collect();
    let model = |route: &&Arc<Route>| ModelLabels { model: Arc::clone(&route.model.id) };
    series.models.extend(models.iter().map(model));
    if models.len() <= MAX_DIRECT {
        series.routes.extend(table.models().map(|route| key(Surface::OpenAiChat, route)));
    }
    series
}

fn add_feature(series: &mut InitialSeries, surfaces: &[Surface], first: &Route) {
    let feature = first.feature_label();
    let mut failed = first;
    for next in first.fallbacks() {
        let (from, to) = (Arc::clone(&failed.model.id), Arc::clone(&next.model.id));
        series.fallbacks.push(FallbackLabels { feature, from, to });
        failed = next;
    }
    for surface in surfaces {
        series.routes.push(key(*surface, first));
        series.routes.extend(first.fallbacks().map(|route| key(*surface, route)));
    }
}

fn key(surface: Surface, route: &Route) -> RouteKey {
    let (feature, model) = (route.feature_label(), Arc::clone(&route.model.id));
    let provider = route.model.provider.label();
    RouteKey { route: RouteLabels { surface, feature, model }, provider }
}
