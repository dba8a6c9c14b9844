//! One replica of a model, alive: how many requests it has, how long they wait, whether it fails
//! them. The state is kept across reloads by address, so that a reload forgets nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderValue;
use prometheus::IntGauge;
use tokio::time::Instant;

use crate::error::{GatewayError, Kind, RetryScope};
use crate::model::{EndpointUrl, ModelId};
use crate::provider::ClockOffset;
use crate::upstream::balance::inflight::Inflight;
use crate::upstream::balance::peak_ewma::PeakEwma;
use crate::upstream::balance::reported_load::ReportedLoad;
use crate::upstream::balance::timestamped::TimestampedF32;
use crate::upstream::health::breaker::{Availability, Breaker, BreakerSettings, Transition};
use crate::upstream::limit::hedge_budget::RetryAndHedgeBudgets;
use crate::upstream::net::egress::ConnectOptions;

/// The longest time for which a `Retry-After` keeps requests from an endpoint.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// A reported load is stale after three polls that brought nothing (contract::providers §d3.2).
const STALE: Duration = Duration::from_millis(1500);

/// How far a provider's clock is from ours; `None` until a refused signature has shown it.
pub(super) type SharedClock = Arc<Mutex<Option<ClockOffset>>>;

/// One address of one model.
#[derive(Debug)]
pub struct Endpoint {
    /// The server's URL.
    pub url: EndpointUrl,
    /// Key of the pools' connections; two models whose server has the same address and the same
    /// connect options share them.
    pub pool_key: u32,
    /// The `Host` header.
    pub host: HeaderValue,
    /// How a connection to it is made.
    pub(super) connect_options: ConnectOptions,
    pub(super) inflight: Inflight,
    first_token_wait: PeakEwma,
    /// Requests there in addition to ours, where the server reports its load.
    external_load: TimestampedF32,
    breaker: Breaker,
    breaker_settings: Arc<ArcSwap<BreakerSettings>>,
    epoch: Instant,
    /// When the last `Retry-After` ends, in milliseconds after `epoch`.
    retry_after_until: AtomicU64,
    /// What a refused signature has shown about the provider's clock (contract::providers §d1.6).
    /// It belongs to the address, so that an endpoint that is built for one request only has it
    /// too.
    clock: SharedClock,
    /// The budgets of the model, shared by its replicas.
    budgets: Arc<RetryAndHedgeBudgets>,
    /// `None` for an endpoint that a request named: its address is not of a closed set, and no
    /// choice is made between such endpoints.
    metrics: Option<EndpointMetrics>,
}

/// The labels and metric handles of a configured endpoint.
#[derive(Debug)]
pub(super) struct EndpointMetrics {
    pub(super) model: ModelId,
    /// 1 while the endpoint is reachable, else 0.
    pub(super) healthy: IntGauge,
    /// The breaker's state: 0 closed, 1 half open, 2 open.
    pub(super) breaker: IntGauge,
}

/// What the registry builds an endpoint from.
pub(super) struct EndpointParts {
    pub(super) url: EndpointUrl,
    pub(super) pool_key: u32,
    pub(super) connect_options: ConnectOptions,
    pub(super) inflight: Inflight,
    pub(super) breaker_settings: Arc<ArcSwap<BreakerSettings>>,
    pub(super) epoch: Instant,
    pub(super) clock: SharedClock,
    pub(super) budgets: Arc<RetryAndHedgeBudgets>,
    pub(super) metrics: Option<EndpointMetrics>,
}

/// The state of an endpoint, for `/status`.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Whether it is reachable, as far as is known.
    pub healthy: bool,
    /// `closed`, `half_open` or `open`.
    pub breaker: &'static str,
    /// Why the breaker last opened, and how long ago that outage began or, when the breaker has
    /// closed, ended.
    pub failure: Option<(String, Duration)>,
    /// How much of the last `Retry-After` is left.
    pub retry_after: Option<Duration>,
    /// How long requests wait for their first token.
    pub first_token_wait: Option<Duration>,
}

impl Endpoint {
    /// Creates an endpoint without any observation, and publishes its metrics.
    pub(super) fn new(parts: EndpointParts) -> Self {
        let endpoint = Self {
            host: HeaderValue::from_str(parts.url.authority().as_str())
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            url: parts.url,
            pool_key: parts.pool_key,
            connect_options: parts.connect_options,
            inflight: parts.inflight,
            first_token_wait: PeakEwma::default(),
            external_load: TimestampedF32::default(),
            breaker: Breaker::default(),
            breaker_settings: parts.breaker_settings,
            epoch: parts.epoch,
            retry_after_until: AtomicU64::new(0),
            clock: parts.clock,
            budgets: parts.budgets,
            metrics: parts.metrics,
        };
        endpoint.publish_metrics();
        endpoint
    }

    /// Returns the number of our requests under way here.
    pub fn inflight(&self) -> usize {
        self.inflight.count()
    }

    /// Returns whether the balancer may choose it.
    pub(super) fn availability(&self, now: Duration) -> Availability {
        if millis(now) < self.retry_after_until.load(Ordering::Relaxed) {
            return Availability::Unreachable;
        }
        self.breaker.availability(now, || self.breaker_settings.load().slow_start)
    }

    /// Reserves the half-open breaker's one probe request for the caller; returns false when
    /// another request has it.
    pub(super) fn try_probe(&self, now: Duration) -> bool {
        let is_probe = self.breaker.try_probe(now, &self.breaker_settings.load());
        if is_probe {
            self.publish_metrics();
        }
        is_probe
    }

    /// Returns the number of requests it has: ours, and those of others that its server reported.
    pub(super) fn load(&self, now: Duration) -> f32 {
        let external = self
            .external_load
            .get(now)
            .filter(|(_, age)| *age < STALE)
            .map_or(0.0, |(external, _)| external);
        self.inflight() as f32 + external
    }

    /// Returns whether it has been idle for so long that nothing shows its current state.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.load(now) < 1.0 && self.inflight.was_idle(now)
    }

    /// Records the load that its server reported.
    pub(super) fn report_load(&self, load: ReportedLoad) {
        self.external_load.set(load.external_load(self.inflight()), self.now());
    }

    /// Records that its health check succeeded.
    pub(super) fn mark_healthy(&self) {
        if let Some(transition) = self.breaker.healthy(self.now()) {
            self.on_transition(&transition);
        }
    }

    /// Records that its health check failed again; the result of the next one is due within `time`.
    pub(super) fn mark_unhealthy(&self, why: &str, time: Duration) {
        let now = self.now();
        let transition = self.breaker.unhealthy(now + time, now);
        if let (Transition::Opened(..), Some(EndpointMetrics { model, .. })) =
            (&transition, &self.metrics)
        {
            tracing::warn!(%model, endpoint = %self.url, "health check: {why}");
        }
        self.on_transition(&transition);
    }

    /// Returns how long requests wait for their first token here, in seconds, or `None` when
    /// nothing was observed of late.
    pub(super) fn first_token_wait(&self, now: Duration) -> Option<f32> {
        self.first_token_wait.seconds(now)
    }

    /// Returns the time since the registry was created: the clock of all observations, shared by
    /// all endpoints.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Returns the time by the provider's clock, as far as its offset is known.
    pub fn provider_time(&self) -> SystemTime {
        let now = SystemTime::now();
        let offset = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        offset.map_or(now, |offset| offset.apply(now))
    }

    /// Sets how far the provider's clock is from ours.
    pub fn set_clock_offset(&self, offset: ClockOffset) {
        let by = offset.size();
        tracing::warn!(endpoint = %self.url, ?by, "the provider's clock differs from ours: check this machine's time");
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
    }

    /// Records what an attempt observed of it.
    pub fn record(&self, observation: Observation) {
        self.record_at(observation, self.now());
    }

    pub(super) fn record_at(&self, observation: Observation, now: Duration) {
        let settings = || self.breaker_settings.load();
        let transition = match observation {
            _ if self.metrics.is_none() => None,
            Observation::Unreachable => Some(self.breaker.unreachable(now, &settings())),
            Observation::HeadersReceived => self.breaker.reached(now),
            Observation::FirstToken(waited) => self.on_first_token(waited, now),
            Observation::Failed(kind) if is_endpoints_fault(kind) => {
                self.breaker.failure(kind, now, &settings())
            }
            Observation::Failed(_) => None,
            Observation::RetryAfter(time) => {
                self.on_retry_after(time.min(MAX_RETRY_AFTER), now);
                None
            }
        };
        if let Some(transition) = transition {
            self.on_transition(&transition);
        }
    }

    /// Records a failed attempt. An error with a `Retry-After` is no failure: the endpoint is
    /// healthy, and full.
    pub fn record_failure(&self, error: &GatewayError) {
        let retry_after = error.retry_after_seconds().filter(|_| error.kind().is_busy());
        self.record(retry_after.map_or(Observation::Failed(error.kind()), |seconds| {
            Observation::RetryAfter(Duration::from_secs(seconds))
        }));
    }

    fn on_first_token(&self, waited: Duration, now: Duration) -> Option<Transition> {
        let sent = now.saturating_sub(waited);
        // sent while the endpoint was idle: this wait replaces the older ones
        if self.inflight() == 1 && self.inflight.was_idle(sent) {
            self.first_token_wait.reset();
        }
        self.first_token_wait.observe(waited, now);
        self.budgets.hedges.observe(waited);
        self.breaker.success(sent, now, || **self.breaker_settings.load())
    }

    fn on_retry_after(&self, time: Duration, now: Duration) {
        let before = self.retry_after_until.fetch_max(millis(now + time), Ordering::Relaxed);
        if before <= millis(now)
            && let Some(EndpointMetrics { model, .. }) = &self.metrics
        {
            tracing::info!(%model, endpoint = %self.url, "endpoint returned Retry-After: requests go to other replicas for {time:?}");
        }
    }

    /// Publishes a transition of the breaker, and logs it once.
    fn on_transition(&self, transition: &Transition) {
        self.publish_metrics();
        let Some(EndpointMetrics { model, .. }) = &self.metrics else { return };
        let endpoint = &self.url;
        match transition {
            Transition::Opened(length, cause) => tracing::warn!(
                %model, %endpoint,
                "endpoint {cause}: circuit breaker opened for {length:?}, requests go to other replicas if there are any; see `weir probe {model}` and the server's own log"
            ),
            Transition::StillOpen(length) => {
                tracing::debug!(%model, %endpoint, "endpoint still fails: circuit breaker stays open for {length:?}")
            }
            Transition::Closed => {
                // a server that has recovered does not behave as it did before
                self.first_token_wait.reset();
                tracing::info!(%model, %endpoint, "endpoint has recovered: circuit breaker closed, its share of requests grows back to a full one");
            }
        }
    }

    fn publish_metrics(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.healthy.set((!self.breaker.is_unreachable()).into());
            metrics.breaker.set(self.breaker.metric_value());
        }
    }

    /// Returns its state, for `/status`.
    pub fn status(&self) -> EndpointStatus {
        let now = self.now();
        let outage = *self.breaker.outage();
        EndpointStatus {
            healthy: !self.breaker.is_unreachable(),
            breaker: match self.breaker.metric_value() {
                0 => "closed",
                1 => "half_open",
                _ => "open",
            },
            failure: outage
                .cause
                .map(|cause| (cause.to_string(), now.saturating_sub(outage.since))),
            retry_after: Duration::from_millis(self.retry_after_until.load(Ordering::Relaxed))
                .checked_sub(now)
                .filter(|left| !left.is_zero()),
            first_token_wait: self.first_token_wait(now).map(Duration::from_secs_f32),
        }
    }

    /// Deposits one client request's share of a retry in the model's retry budget.
    pub fn deposit_retry(&self, now: Instant) {
        self.budgets.retries.deposit(now);
    }

    /// Withdraws one retry from the model's retry budget: a request that failed here may go to
    /// another replica. Returns false when the budget is used up.
    pub fn withdraw_retry(&self, now: Instant) -> bool {
        self.budgets.retries.withdraw(now)
    }

    /// Deposits one client request's share in the model's hedging budget, and returns how long this
    /// endpoint has before a hedged request goes to another; `None` when none is to be sent.
    pub fn hedge_delay(&self, now: Instant) -> Option<Duration> {
        self.budgets.hedges.begin(now)
    }

    /// Withdraws one hedged request from the model's hedging budget; returns false when the budget
    /// is used up.
    pub fn withdraw_hedge(&self, now: Instant) -> bool {
        self.budgets.hedges.withdraw(now)
    }

    /// Counts one request in; the guard counts it out when dropped.
    pub fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.inflight.enter();
        InFlightGuard { endpoint: Arc::clone(self) }
    }
}

/// Returns whether a failure counts against the endpoint: where another replica may succeed, and
/// the fault is not ours. A content filter's refusal and any other failure that the request itself
/// caused do not count.
fn is_endpoints_fault(kind: Kind) -> bool {
    kind.row().retry_scope == RetryScope::OtherReplica
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What an attempt observed of its endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Observation {
    /// No connection: nothing was sent.
    Unreachable,
    /// The head of a response arrived.
    HeadersReceived,
    /// The first content arrived, this long after the request was sent.
    FirstToken(Duration),
    /// The attempt failed after the connection was made; the kind shows whose fault it was.
    Failed(Kind),
    /// The endpoint is healthy, and is to get no requests for this long (`Retry-After`).
    RetryAfter(Duration),
}

/// A request under way at an endpoint; lives as long as the response's body.
#[derive(Debug)]
pub struct InFlightGuard {
    endpoint: Arc<Endpoint>,
}

impl InFlightGuard {
    /// Returns the endpoint that the request was sent to.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.endpoint.inflight.leave(self.endpoint.now());
    }
}

#[cfg(test)]
mod tests {
    use super::is_endpoints_fault;
    use crate::error::{Kind, Phase};

    #[test]
    fn only_failures_that_another_replica_may_avoid_count_against_an_endpoint() {
        for kind in [408, 429, 500, 503].map(Kind::UpstreamStatus) {
            assert!(is_endpoints_fault(kind), "{kind:?}");
        }
        for kind in
            [Kind::UpstreamBroken, Kind::Expired(Phase::FirstByte), Kind::Expired(Phase::Idle)]
        {
            assert!(is_endpoints_fault(kind), "{kind:?}");
        }
        for kind in [400, 401, 403, 404, 413, 422].map(Kind::UpstreamStatus) {
            assert!(!is_endpoints_fault(kind), "{kind:?}");
        }
        for kind in [
            Kind::ContentFilter,
            Kind::NoAnswer,
            Kind::NoCredentials,
            Kind::Internal,
            Kind::Overloaded,
            Kind::Draining,
        ] {
            assert!(!is_endpoints_fault(kind), "{kind:?}");
        }
    }
}
