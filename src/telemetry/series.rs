//! What finished requests are counted in: the handles of their series, and the series that exist at
//! 0 before the first request.

use std::sync::Arc;

use prometheus::{Histogram, IntCounter};
use tokio::time::Instant;

use super::Metrics;
use super::labels::{
    Direction, ErrorLabels, FallbackLabels, ModelLabels, RequestLabels, RouteLabels, SurfaceLabels,
    TokenLabels,
};
use super::record::RequestInfo;
use crate::error::{Kind, Outcome, Phase};

/// Failures whose series exist from the start: those of model servers, which alerts are set on.
const FAILURES: [Kind; 8] = [
    Kind::Expired(Phase::Connect),
    Kind::Expired(Phase::FirstByte),
    Kind::Expired(Phase::Idle),
    Kind::Expired(Phase::Total),
    Kind::UpstreamConnect,
    Kind::UpstreamStatus(500),
    Kind::UpstreamBroken,
    Kind::Overloaded,
];

/// A route and the provider of its model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// Surface, feature and model.
    pub route: RouteLabels,
    /// The provider kind's label.
    pub provider: &'static str,
}

/// The series that a configuration names.
#[derive(Debug, Default)]
pub struct InitialSeries {
    /// The routes that requests can take.
    pub routes: Vec<RouteKey>,
    /// The models of the file and of its routes.
    pub models: Vec<ModelLabels>,
    /// The pairs of a model and its fallback.
    pub fallbacks: Vec<FallbackLabels>,
}

/// Handles of the series that one route counts in.
pub(super) struct RouteSeries {
    outcomes: [IntCounter; Outcome::ALL.len()],
    duration: Histogram,
    overhead: Histogram,
    time_to_first_token: Histogram,
    upstream_duration: Histogram,
    queue: Histogram,
    tokens_in: IntCounter,
    tokens_out: IntCounter,
}

impl RouteSeries {
    /// Looks up the handles of a route; series that do not exist are created at 0.
    pub(super) fn of(metrics: &Metrics, key: &RouteKey) -> Self {
        let RouteLabels { surface, feature, model } = key.route.clone();
        let (of_surface, of_model) =
            (SurfaceLabels { surface }, ModelLabels { model: model.clone() });
        let outcome = |outcome| {
            let (provider, model) = (key.provider, model.clone());
            metrics.requests.get(&RequestLabels { surface, feature, model, provider, outcome })
        };
        let tokens = |direction| {
            metrics.tokens.get(&TokenLabels { direction, feature, model: model.clone() })
        };
        Self {
            outcomes: Outcome::ALL.map(outcome),
            duration: metrics.duration.get(&key.route),
            overhead: metrics.overhead.get(&of_surface),
            time_to_first_token: metrics.time_to_first_token.get(&key.route),
            upstream_duration: metrics.upstream_duration.get(&of_model),
            queue: metrics.queue.get(&of_model),
            tokens_in: tokens(Direction::Input),
            tokens_out: tokens(Direction::Output),
        }
    }

    /// Counts a finished request.
    pub(super) fn observe(&self, facts: &RequestInfo, now: Instant) {
        let outcome = facts.outcome();
        if let Some(index) = Outcome::ALL.iter().position(|o| *o == outcome) {
            self.outcomes[index].inc();
        }
        let total = now.saturating_duration_since(facts.started);
        self.duration.observe(total.as_secs_f64());
        if let Some(attempt) = facts.attempt_time(now) {
            self.upstream_duration.observe(attempt.as_secs_f64());
        }
        if facts.upstream_started.is_some() {
            self.overhead.observe(facts.overhead(now).as_secs_f64());
        }
        if let Some(queue) = facts.queue.total(now) {
            self.queue.observe(queue.as_secs_f64());
        }
        if let Some(ttft) = facts.time_to_first_token() {
            self.time_to_first_token.observe(ttft.as_secs_f64());
        }
        if facts.usage.is_reported() {
            self.tokens_in.inc_by(facts.usage.input);
            self.tokens_out.inc_by(facts.usage.output);
        }
    }
}

impl Metrics {
    /// Creates at 0 the series that a configuration names; those that exist keep their values.
    ///
    /// Series of a configuration that is no longer in force stay until the process ends, as those
    /// of requests do.
    pub fn create(&self, initial: &InitialSeries) {
        for key in &initial.routes {
            RouteSeries::of(self, key);
            for kind in FAILURES {
                let RouteLabels { feature, model, .. } = key.route.clone();
                let (code, phase) = (kind.row().code, kind.row().phase);
                self.errors.get(&ErrorLabels { code, phase, feature, model });
            }
        }
        for model in &initial.models {
            self.upstream_duration.get(model);
            self.queue.get(model);
            self.retries.get(model);
        }
        for pair in &initial.fallbacks {
            self.fallbacks.get(pair);
        }
    }

    /// Counts the errors, disconnects, retries and fallbacks of a finished request. Looked up by
    /// labels, since they are rare.
    pub(super) fn count_failures(&self, facts: &RequestInfo) {
        let feature = facts.feature;
        if let Some(kind) = facts.failure {
            let (code, phase) = (kind.row().code, kind.row().phase);
            let model = facts.model.clone();
            self.errors.get(&ErrorLabels { code, phase, feature, model }).inc();
        }
        if facts.outcome() == Outcome::Cancelled {
            self.client_disconnects.get(&SurfaceLabels { surface: facts.surface }).inc();
        }
        self.count_retries(&facts.model, facts.retries - facts.retries_before());
        let next = facts.failed_models.iter().skip(1).map(|next| &next.model).chain([&facts.model]);
        for (failed, next) in facts.failed_models.iter().zip(next) {
            self.count_retries(&failed.model, failed.retries);
            let (from, to) = (failed.model.clone(), next.clone());
            self.fallbacks.get(&FallbackLabels { feature, from, to }).inc();
        }
    }

    fn count_retries(&self, model: &Arc<str>, retries: u32) {
        if retries > 0 {
            self.retries.get(&ModelLabels { model: model.clone() }).inc_by(retries.into());
        }
    }
}
