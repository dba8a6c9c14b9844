//! One replica of a model, alive: how many requests it has, how long they wait, whether it fails
//! them. The state is kept across reloads by address, so that a reload forgets nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderValue;
use prometheus::IntGauge;
use tokio::time::Instant;

use super::{Outward, Places, Resilience};
use crate::error::{Elsewhere, GatewayError, Kind};
use crate::model::{EndpointUrl, Model, ModelId};
use crate::provider::ClockOffset;
use crate::telemetry::Metrics;
use crate::telemetry::labels::{EndpointLabels, ModelLabels};
use crate::upstream::balance::affinity::Affinity;
use crate::upstream::balance::inflight::Inflight;
use crate::upstream::balance::peak_ewma::Wait;
use crate::upstream::balance::reported_load::Load;
use crate::upstream::balance::timestamped::Stamped;
use crate::upstream::health::breaker::{Breaker, BreakerSettings, Change, Standing};
use crate::upstream::limit::hedge_budget::Extra;
use crate::upstream::net::egress::Way;

/// The longest that an endpoint is passed over because it said so.
const MAX_BUSY: Duration = Duration::from_secs(60);
/// What a server told of its load is old after three looks that brought nothing (providers.md
/// d3.2).
const STALE: Duration = Duration::from_millis(1500);

/// How far a provider's clock is from ours, once we know.
type Clock = Arc<Mutex<Option<ClockOffset>>>;

/// One address of one model.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub url: EndpointUrl,
    /// Key of the pools' connections; the same address, reached in the same way, of two models
    /// shares them.
    pub pool_key: u32,
    /// The `Host` header.
    pub host: HeaderValue,
    /// How it is reached.
    pub(super) way: Way,
    pub(super) inflight: Inflight,
    wait: Wait,
    /// Requests there besides ours, where the server tells its load.
    besides: Stamped,
    breaker: Breaker,
    settings: Arc<ArcSwap<BreakerSettings>>,
    epoch: Instant,
    /// Until when it wants to be left alone, in milliseconds after `epoch`.
    busy_until: AtomicU64,
    /// What a refused signature taught us about the provider's clock (providers.md d1.6): of the
    /// address, so that an endpoint made for one request only knows it too.
    clock: Clock,
    /// Of the model: shared by its replicas.
    extra: Arc<Extra>,
    /// None for an endpoint that a request named: its address is not of a closed set, and nobody
    /// chooses it.
    judged: Option<Judged>,
}

/// What is told of an endpoint of the file.
#[derive(Debug)]
struct Judged {
    model: ModelId,
    healthy: IntGauge,
    breaker: IntGauge,
}

/// How an endpoint is, for `/status`.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Whether it is there, as far as is known.
    pub healthy: bool,
    /// `closed`, `half_open` or `open`.
    pub breaker: &'static str,
    /// Why it was last passed over, and how long ago that began or, when it is back, ended.
    pub failure: Option<(String, Duration)>,
    /// How long it still wants to be left alone.
    pub busy: Option<Duration>,
    /// How long requests wait for their first token.
    pub wait: Option<Duration>,
}

impl Endpoint {
    /// Requests under way here.
    pub fn inflight(&self) -> usize {
        self.inflight.count()
    }

    /// How a choice takes it.
    pub(super) fn standing(&self, now: Duration) -> Standing {
        if millis(now) < self.busy_until.load(Ordering::Relaxed) {
            return Standing::Away;
        }
        self.breaker.standing(now, || self.settings.load().slow_start)
    }

    /// Takes the place of the one request that sees whether it is back; false when another has it.
    pub(super) fn claim(&self, now: Duration) -> bool {
        let claimed = self.breaker.claim(now, &self.settings.load());
        if claimed {
            self.show();
        }
        claimed
    }

    /// How many requests it has: ours, and what its server told of others.
    pub(super) fn load(&self, now: Duration) -> f32 {
        let besides = self
            .besides
            .get(now)
            .filter(|(_, age)| *age < STALE)
            .map_or(0.0, |(besides, _)| besides);
        self.inflight() as f32 + besides
    }

    /// Whether it has long had nothing to do, so that nothing shows how it is now.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        self.load(now) < 1.0 && self.inflight.was_quiet(now)
    }

    /// Its server told its load.
    pub(super) fn tells(&self, load: Load) {
        self.besides.put(load.besides(self.inflight()), self.now());
    }

    /// Its health check succeeded.
    pub(super) fn is_well(&self) {
        if let Some(change) = self.breaker.healthy(self.now()) {
            self.changed(&change);
        }
    }

    /// Its health check failed again; the next word comes within `time`.
    pub(super) fn is_unwell(&self, why: &str, time: Duration) {
        let now = self.now();
        let change = self.breaker.unhealthy(now + time, now);
        if let (Change::Out(..), Some(Judged { model, .. })) = (&change, &self.judged) {
            tracing::warn!(%model, endpoint = %self.url, "health check: {why}");
        }
        self.changed(&change);
    }

    /// How long requests wait for their first token here, in seconds; none when that is not known.
    pub(super) fn wait(&self, now: Duration) -> Option<f32> {
        self.wait.seconds(now)
    }

    /// The clock of what is remembered of endpoints: since the registry was made, so that all share
    /// it.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The time by the provider's clock, as far as we know it.
    pub fn provider_time(&self) -> SystemTime {
        let now = SystemTime::now();
        let offset = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        offset.map_or(now, |offset| offset.apply(now))
    }

    /// Notes how far the provider's clock is from ours.
    pub fn set_clock(&self, offset: ClockOffset) {
        let by = offset.size();
        tracing::warn!(endpoint = %self.url, ?by, "the provider's clock differs from ours: check this machine's time");
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
    }

    /// Notes what an attempt showed of it.
    pub fn saw(&self, seen: Seen) {
        self.saw_at(seen, self.now());
    }

    pub(super) fn saw_at(&self, seen: Seen, now: Duration) {
        let settings = || self.settings.load();
        let change = match seen {
            _ if self.judged.is_none() => None,
            Seen::Unreachable => Some(self.breaker.unreachable(now, &settings())),
            Seen::Answered => self.breaker.reached(now),
            Seen::Spoke(waited) => {
                // sent when it was forgotten: what it was like before does not count beside this
                if self.inflight() == 1 && self.inflight.was_quiet(now.saturating_sub(waited)) {
                    self.wait.forget();
                }
                self.wait.observe(waited, now);
                self.extra.hedges.observe(waited);
                self.breaker.success(now.saturating_sub(waited), now, || **settings())
            }
            Seen::Failed(kind) if is_endpoints_fault(kind) => {
                self.breaker.failure(kind, now, &settings())
            }
            Seen::Failed(_) => None,
            Seen::Busy(time) => {
                self.left_alone(time.min(MAX_BUSY), now);
                None
            }
        };
        if let Some(change) = change {
            self.changed(&change);
        }
    }

    /// Notes a failed attempt. One that says when to come back is no failure: the endpoint is well,
    /// and full.
    pub fn failed(&self, error: &GatewayError) {
        let busy = error.retry_after_seconds().filter(|_| error.kind().is_busy());
        self.saw(busy.map_or(Seen::Failed(error.kind()), |seconds| {
            Seen::Busy(Duration::from_secs(seconds))
        }));
    }

    fn left_alone(&self, time: Duration, now: Duration) {
        let before = self.busy_until.fetch_max(millis(now + time), Ordering::Relaxed);
        if before <= millis(now)
            && let Some(Judged { model, .. }) = &self.judged
        {
            tracing::info!(%model, endpoint = %self.url, "endpoint wants to be left alone for {time:?}: others are asked");
        }
    }

    /// Tells what has changed, once.
    fn changed(&self, change: &Change) {
        self.show();
        let Some(Judged { model, .. }) = &self.judged else { return };
        let endpoint = &self.url;
        match change {
            Change::Out(length, cause) => tracing::warn!(
                %model, %endpoint,
                "endpoint {cause}: passed over for {length:?} while there is another; `weir probe {model}` and its own log say more"
            ),
            Change::Still(length) => {
                tracing::debug!(%model, %endpoint, "endpoint still fails: passed over for {length:?}")
            }
            Change::Back => {
                // whoever is back is another than it was
                self.wait.forget();
                tracing::info!(%model, %endpoint, "endpoint answers again: its share of requests grows to the whole");
            }
        }
    }

    fn show(&self) {
        if let Some(judged) = &self.judged {
            judged.healthy.set((!self.breaker.is_away()).into());
            judged.breaker.set(self.breaker.state());
        }
    }

    /// How it is.
    pub fn condition(&self) -> Condition {
        let now = self.now();
        let outage = *self.breaker.outage();
        Condition {
            healthy: !self.breaker.is_away(),
            breaker: match self.breaker.state() {
                0 => "closed",
                1 => "half_open",
                _ => "open",
            },
            failure: outage
                .cause
                .map(|cause| (cause.to_string(), now.saturating_sub(outage.since))),
            busy: Duration::from_millis(self.busy_until.load(Ordering::Relaxed))
                .checked_sub(now)
                .filter(|left| !left.is_zero()),
            wait: self.wait(now).map(Duration::from_secs_f32),
        }
    }

    /// A client's request for the model, which earns its replicas a share of a retry.
    pub fn earn_retry(&self, now: Instant) {
        self.extra.retries.deposit(now);
    }

    /// Whether a request that failed here may go to another replica of the model.
    pub fn may_retry(&self, now: Instant) -> bool {
        self.extra.retries.withdraw(now)
    }

    /// A client's request for the model: how long this endpoint has before another is asked beside
    /// it.
    pub fn hedge_after(&self, now: Instant) -> Option<Duration> {
        self.extra.hedges.begin(now)
    }

    /// Whether another may be asked beside it.
    pub fn may_hedge(&self, now: Instant) -> bool {
        self.extra.hedges.withdraw(now)
    }

    /// Counts one request in; the guard counts it out.
    pub fn enter(self: &Arc<Self>) -> Entered {
        self.inflight.enter();
        Entered(Arc::clone(self))
    }
}

/// Whether a failure is held against the endpoint: where another may succeed, and it is not we who
/// failed. A content filter's refusal and whatever else the request itself brought about is not.
fn is_endpoints_fault(kind: Kind) -> bool {
    kind.row().elsewhere == Elsewhere::Replica
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What an attempt showed of its endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// No connection: nothing was sent.
    Unreachable,
    /// The head of an answer.
    Answered,
    /// The first content, so long after the request was sent.
    Spoke(Duration),
    /// The attempt failed after the connection was there; the kind says whose fault it was.
    Failed(Kind),
    /// It is well, and wants to be left alone for so long (`Retry-After`).
    Busy(Duration),
}

/// A request under way at an endpoint; lives as long as the answer's body.
#[derive(Debug)]
pub struct Entered(Arc<Endpoint>);

impl Entered {
    /// Where.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.inflight.leave(self.0.now());
    }
}

/// The endpoints of one snapshot, by model.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    by_model: HashMap<ModelId, Vec<Arc<Endpoint>>>,
    affinities: HashMap<ModelId, Arc<Affinity>>,
    outward: Arc<Outward>,
    places: HashMap<ModelId, Arc<Places>>,
}

impl Endpoints {
    /// The replicas of a model of the file.
    pub fn of(&self, model: &ModelId) -> Option<&[Arc<Endpoint>]> {
        self.by_model.get(model).map(Vec::as_slice)
    }

    /// Who of a model's replicas has seen what, where that counts.
    pub(super) fn affinity(&self, model: &Model) -> Option<&Affinity> {
        if model.replicas.affinity {
            self.affinities.get(&model.id).map(|affinity| &**affinity)
        } else {
            None
        }
    }

    /// The places of a model of the file.
    pub fn places(&self, model: &Model) -> Option<&Arc<Places>> {
        self.places.get(&model.id).filter(|_| !model.from_request)
    }

    /// Everything, for `/status`.
    pub fn iter(&self) -> impl Iterator<Item = (&ModelId, &[Arc<Endpoint>])> {
        self.by_model.iter().map(|(model, list)| (model, list.as_slice()))
    }

    /// How the snapshot's servers are reached.
    pub(super) const fn outward(&self) -> &Arc<Outward> {
        &self.outward
    }
}

/// Makes endpoints, and finds again those it made: one per process.
pub struct Registry {
    metrics: Arc<Metrics>,
    settings: Arc<ArcSwap<BreakerSettings>>,
    epoch: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    endpoints: HashMap<(ModelId, EndpointUrl), Arc<Endpoint>>,
    addresses: HashMap<Address, Peer>,
    extras: HashMap<ModelId, Arc<Extra>>,
    affinities: HashMap<ModelId, Arc<Affinity>>,
    places: HashMap<ModelId, Arc<Places>>,
}

/// What all endpoints of one address share.
#[derive(Clone)]
struct Peer {
    pool_key: u32,
    clock: Clock,
}

/// What a connection depends on: scheme, host, port; whether its address was checked after
/// resolution; whose way it was made in, and as whom.
type Address = (EndpointUrl, bool, u32, u32);

impl Registry {
    /// An empty one.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, settings: Arc::default(), epoch: Instant::now(), known: Mutex::default() }
    }

    /// The endpoints of these models; those that are gone from the file are forgotten. One that is
    /// reached in another way than before begins anew.
    pub fn endpoints<'a>(
        &self,
        models: impl Iterator<Item = &'a Arc<Model>>,
        outward: Arc<Outward>,
        resilience: &Resilience,
    ) -> Endpoints {
        self.settings.store(Arc::new(resilience.breaker));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        let (mut kept, mut extras) = (HashMap::new(), HashMap::new());
        let mut by_model: HashMap<ModelId, Vec<Arc<Endpoint>>> = HashMap::new();
        let (mut places, mut affinities) = (HashMap::new(), HashMap::new());
        for model in models {
            if model.replicas.affinity {
                let same = known
                    .affinities
                    .get(&model.id)
                    .filter(|known| known.is_of(&model.endpoints))
                    .cloned();
                let affinity =
                    same.unwrap_or_else(|| Arc::new(Affinity::new(model.endpoints.clone())));
                affinities.insert(Arc::clone(&model.id), affinity);
            }
            let extra = known
                .extras
                .remove(&model.id)
                .unwrap_or_else(|| Arc::new(Extra::new(Instant::now())));
            extra.retries.set_share(resilience.retry_share);
            extra.hedges.set(resilience.hedging);
            places.insert(Arc::clone(&model.id), self.places(&known.places, model));
            for url in &model.endpoints {
                let key = (Arc::clone(&model.id), url.clone());
                let way = outward.to_model(model, url);
                let same = known
                    .endpoints
                    .get(&key)
                    .filter(|known| known.way.outward == way.outward)
                    .cloned();
                let endpoint = same.unwrap_or_else(|| {
                    self.make(&mut known.addresses, model, url, way, Some(&extra))
                });
                kept.insert(key, Arc::clone(&endpoint));
                by_model.entry(Arc::clone(&model.id)).or_default().push(endpoint);
            }
            extras.insert(Arc::clone(&model.id), extra);
        }
        for (model, url) in known.endpoints.keys().filter(|key| !kept.contains_key(*key)) {
            self.forget(model, url);
        }
        for model in known.places.keys().filter(|model| !places.contains_key(*model)) {
            self.metrics.model_waiting.remove(&ModelLabels { model: Arc::clone(model) });
        }
        (known.endpoints, known.extras) = (kept, extras);
        known.places.clone_from(&places);
        known.affinities.clone_from(&affinities);
        Endpoints { by_model, affinities, outward, places }
    }

    /// A model's places, found again if it had some, with the numbers that hold now.
    fn places(&self, known: &HashMap<ModelId, Arc<Places>>, model: &Model) -> Arc<Places> {
        let Some(places) = known.get(&model.id) else {
            let waiting =
                self.metrics.model_waiting.get(&ModelLabels { model: Arc::clone(&model.id) });
            return Arc::new(Places::new(Arc::clone(&model.id), model.room, waiting));
        };
        places.set(model.room);
        Arc::clone(places)
    }

    /// An endpoint of a model that a request brought: no state outlives the request but what its
    /// address shares, kept connections and clock.
    pub fn transient(&self, model: &Model, url: &EndpointUrl, outward: &Outward) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.make(&mut known.addresses, model, url, outward.to_model(model, url), None)
    }

    /// With the budget of a model of the file, whose addresses are a closed set, so that they may
    /// be labels.
    fn make(
        &self,
        addresses: &mut HashMap<Address, Peer>,
        model: &Model,
        url: &EndpointUrl,
        way: Way,
        extra: Option<&Arc<Extra>>,
    ) -> Arc<Endpoint> {
        // A request may name anything: the table of addresses is cleared before it grows without
        // bound. Cleared keys are not reused, so a kept connection is never found under another
        // address.
        const MAX_ADDRESSES: usize = 4096;
        static NEXT_KEY: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        if addresses.len() >= MAX_ADDRESSES {
            addresses.clear();
        }
        let new =
            || Peer { pool_key: NEXT_KEY.fetch_add(1, Ordering::Relaxed), clock: Clock::default() };
        // a connection to the operator's own address was not checked: a request's may not find it
        let address = (url.without_base(), way.checked.is_some(), way.outward, way.tls.id);
        let Peer { pool_key, clock } = addresses.entry(address).or_insert_with(new).clone();
        let in_file = extra.is_some();
        let label = if in_file { url.authority().as_str() } else { "request" };
        let labels = EndpointLabels { model: Arc::clone(&model.id), endpoint: label.into() };
        let judged = in_file.then(|| Judged {
            model: Arc::clone(&model.id),
            healthy: self.metrics.upstream_healthy.get(&labels),
            breaker: self.metrics.breaker_state.get(&labels),
        });
        let endpoint = Endpoint {
            host: HeaderValue::from_str(url.authority().as_str())
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            url: url.clone(),
            way,
            pool_key,
            inflight: Inflight::new(self.metrics.upstream_inflight.get(&labels)),
            wait: Wait::default(),
            besides: Stamped::default(),
            breaker: Breaker::default(),
            settings: Arc::clone(&self.settings),
            epoch: self.epoch,
            busy_until: AtomicU64::new(0),
            clock,
            extra: extra.cloned().unwrap_or_else(|| Arc::new(Extra::new(self.epoch))),
            judged,
        };
        endpoint.show();
        Arc::new(endpoint)
    }

    fn forget(&self, model: &ModelId, url: &EndpointUrl) {
        let endpoint = url.authority().as_str().into();
        let labels = EndpointLabels { model: Arc::clone(model), endpoint };
        self.metrics.upstream_inflight.remove(&labels);
        self.metrics.upstream_healthy.remove(&labels);
        self.metrics.breaker_state.remove(&labels);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{Registry, Resilience, Seen, Standing, is_endpoints_fault};
    use crate::error::{Kind, Phase};
    use crate::model::{Access, BudgetPatch, EndpointUrl, Model, ProviderKind};
    use crate::provider::ClockOffset;
    use crate::telemetry::Metrics;
    use crate::upstream::Outward;

    fn model(from_request: bool) -> Model {
        Model {
            id: "request".into(),
            provider: ProviderKind::Bedrock,
            upstream_name: "x".into(),
            family: std::sync::Arc::default(),
            endpoints: vec![EndpointUrl::parse("http://h/base").unwrap()],
            api_key: None,
            access: Access::Key,
            timeouts: BudgetPatch::default(),
            replicas: crate::model::Replicas::default(),
            room: None,
            priority: false,
            from_request,
        }
    }

    #[test]
    fn an_address_keeps_its_clock_and_its_connections_to_itself() {
        let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
        let outward = Outward::default();
        let transient = |from_request| {
            let model = model(from_request);
            registry.transient(&model, &model.endpoints[0], &outward)
        };
        let operators = transient(false);
        assert_ne!(
            operators.pool_key,
            transient(true).pool_key,
            "unchecked connections are not for requests"
        );
        let now = SystemTime::now();
        operators.set_clock(ClockOffset::between(now, now + Duration::from_hours(1)));
        assert!(
            transient(false).provider_time() > now + Duration::from_mins(59),
            "the next request knows it"
        );
        assert!(transient(true).provider_time() < now + Duration::from_mins(59));
    }

    #[test]
    fn what_is_held_against_an_endpoint_is_what_another_may_do_better() {
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

    #[test]
    fn an_endpoint_that_wants_to_be_left_alone_is_not_for_ever() {
        let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
        let model = Arc::new(model(false));
        let endpoints =
            registry.endpoints([&model].into_iter(), Arc::default(), &Resilience::default());
        let endpoint = &endpoints.of(&model.id).unwrap()[0];
        endpoint.saw_at(Seen::Busy(Duration::from_hours(1)), Duration::from_secs(1));
        endpoint.saw_at(Seen::Busy(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(
            endpoint.standing(Duration::from_secs(60)),
            Standing::Away,
            "the longest word counts"
        );
        assert_eq!(endpoint.standing(Duration::from_secs(61)), Standing::In);
    }
}
