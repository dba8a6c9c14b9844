//! One replica of a model, alive: how many requests it has, whether it was reached. The state is kept
//! across reloads by address, so that a reload forgets nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use prometheus::IntGauge;
use tokio::time::Instant;

use super::outward::Way;
use super::wait::Wait;
use super::{Outward, Places};
use crate::error::Kind;
use crate::provider::ClockOffset;
use crate::route::{EndpointUrl, Model, ModelId};
use crate::telemetry::Metrics;

/// How long an endpoint that was not reached is left alone while there is another.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How far a provider's clock is from ours, once we know.
type Clock = Arc<Mutex<Option<ClockOffset>>>;

/// One address of one model.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub url: EndpointUrl,
    /// Key of the pools' connections; the same address, reached in the same way, of two models shares them.
    pub pool_key: u32,
    /// The `Host` header.
    pub host: HeaderValue,
    /// How it is reached.
    pub(super) way: Way,
    inflight: AtomicUsize,
    wait: Wait,
    epoch: Instant,
    /// 0 while it is reached; else when it may be tried again, in milliseconds after `epoch`.
    retry_at: AtomicU64,
    /// What a refused signature taught us about the provider's clock (providers.md d1.6): of the address, so
    /// that an endpoint made for one request only knows it too.
    clock: Clock,
    inflight_gauge: IntGauge,
    /// None for an endpoint that a request named: its address is not of a closed set.
    healthy_gauge: Option<IntGauge>,
}

impl Endpoint {
    /// Requests under way here.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Whether the last attempt reached it.
    pub fn is_healthy(&self) -> bool {
        self.retry_at.load(Ordering::Relaxed) == 0
    }

    /// Whether a request should go here rather than elsewhere: it was reached last time, or it is time to see.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        retry_at == 0 || millis(now) >= retry_at
    }

    /// One request goes to see whether it is back; the others wait for its word.
    pub(super) fn claim(&self, now: Duration) {
        if !self.is_healthy() {
            self.retry_at.store(millis(now + RETRY_AFTER), Ordering::Relaxed);
        }
    }

    /// How long requests wait for their first token here, in seconds; none when that is not known.
    pub(super) fn wait(&self, now: Duration) -> Option<f32> {
        self.wait.seconds(now)
    }

    /// The clock of what is remembered of endpoints: since the registry was made, so that all share it.
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
        match seen {
            Seen::Unreachable => self.reached(false, now),
            Seen::Answered => self.reached(true, now),
            Seen::Spoke(waited) => self.wait.observe(waited, now),
            Seen::Failed(_) => {}
        }
    }

    fn reached(&self, reached: bool, now: Duration) {
        let retry_at = if reached { 0 } else { millis(now + RETRY_AFTER) };
        let was_reached = self.retry_at.swap(retry_at, Ordering::Relaxed) == 0;
        if was_reached != reached {
            // whoever is back is another than it was
            self.wait.forget();
            let Some(gauge) = &self.healthy_gauge else {
                return;
            };
            gauge.set(reached.into());
            if reached {
                tracing::info!(endpoint = %self.url, "endpoint answers again");
            } else {
                tracing::warn!(endpoint = %self.url, "endpoint cannot be reached");
            }
        }
    }

    /// Counts one request in; the guard counts it out.
    pub fn enter(self: &Arc<Self>) -> Entered {
        self.inflight.fetch_add(1, Ordering::Relaxed);
        self.inflight_gauge.inc();
        Entered(Arc::clone(self))
    }
}

/// For an atomic; 0 is kept for "none".
fn millis(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1)
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
        self.0.inflight.fetch_sub(1, Ordering::Relaxed);
        self.0.inflight_gauge.dec();
    }
}

/// The endpoints of one snapshot, by model.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    by_model: HashMap<ModelId, Vec<Arc<Endpoint>>>,
    outward: Arc<Outward>,
    places: HashMap<ModelId, Arc<Places>>,
}

impl Endpoints {
    /// The replicas of a model of the file.
    pub fn of(&self, model: &ModelId) -> Option<&[Arc<Endpoint>]> {
        self.by_model.get(model).map(Vec::as_slice)
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
    epoch: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    endpoints: HashMap<(ModelId, EndpointUrl), Arc<Endpoint>>,
    addresses: HashMap<Address, Peer>,
    places: HashMap<ModelId, Arc<Places>>,
}

/// What all endpoints of one address share.
#[derive(Clone)]
struct Peer {
    pool_key: u32,
    clock: Clock,
}

/// What a connection depends on: scheme, host, port; whether its address was checked after resolution; whose way it
/// was made in, and as whom.
type Address = (EndpointUrl, bool, u32, u32);

impl Registry {
    /// An empty one.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, epoch: Instant::now(), known: Mutex::default() }
    }

    /// The endpoints of these models; those that are gone from the file are forgotten. One that is reached in another
    /// way than before begins anew.
    pub fn endpoints<'a>(&self, models: impl Iterator<Item = &'a Arc<Model>>, outward: Arc<Outward>) -> Endpoints {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = HashMap::new();
        let mut by_model: HashMap<ModelId, Vec<Arc<Endpoint>>> = HashMap::new();
        let mut places = HashMap::new();
        for model in models {
            places.insert(Arc::clone(&model.id), self.places(&known.places, model));
            for url in &model.endpoints {
                let key = (Arc::clone(&model.id), url.clone());
                let way = outward.to_model(model, url);
                let same = known.endpoints.get(&key).filter(|known| known.way.outward == way.outward).cloned();
                let endpoint = same.unwrap_or_else(|| self.make(&mut known.addresses, model, url, way, true));
                kept.insert(key, Arc::clone(&endpoint));
                by_model.entry(Arc::clone(&model.id)).or_default().push(endpoint);
            }
        }
        for (model, url) in known.endpoints.keys().filter(|key| !kept.contains_key(*key)) {
            self.forget(model, url);
        }
        for model in known.places.keys().filter(|model| !places.contains_key(*model)) {
            // Not there when the model never had a queue.
            let _ = self.metrics.model_waiting.remove_label_values(&[model]);
        }
        known.endpoints = kept;
        known.places.clone_from(&places);
        Endpoints { by_model, outward, places }
    }

    /// A model's places, found again if it had some, with the numbers that hold now.
    fn places(&self, known: &HashMap<ModelId, Arc<Places>>, model: &Model) -> Arc<Places> {
        let Some(places) = known.get(&model.id) else {
            let waiting = self.metrics.model_waiting.with_label_values(&[&model.id]);
            return Arc::new(Places::new(Arc::clone(&model.id), model.room, waiting));
        };
        places.set(model.room);
        Arc::clone(places)
    }

    /// An endpoint of a model that a request brought: no state outlives the request but what its address
    /// shares, kept connections and clock.
    pub fn transient(&self, model: &Model, url: &EndpointUrl, outward: &Outward) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.make(&mut known.addresses, model, url, outward.to_model(model, url), false)
    }

    /// `in_file`: its address is of a closed set, so it may be a label.
    fn make(
        &self,
        addresses: &mut HashMap<Address, Peer>,
        model: &Model,
        url: &EndpointUrl,
        way: Way,
        in_file: bool,
    ) -> Arc<Endpoint> {
        // A request may name anything: the table of addresses is cleared before it grows without bound.
        // Cleared keys are not reused, so a kept connection is never found under another address.
        const MAX_ADDRESSES: usize = 4096;
        static NEXT_KEY: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        if addresses.len() >= MAX_ADDRESSES {
            addresses.clear();
        }
        let new = || Peer { pool_key: NEXT_KEY.fetch_add(1, Ordering::Relaxed), clock: Clock::default() };
        // a connection to the operator's own address was not checked: a request's may not find it
        let address = (url.without_base(), way.checked.is_some(), way.outward, way.tls.id);
        let Peer { pool_key, clock } = addresses.entry(address).or_insert_with(new).clone();
        let label = if in_file { url.authority().to_string() } else { "request".to_owned() };
        let labels = &[&*model.id, label.as_str()];
        let healthy_gauge = in_file.then(|| self.metrics.upstream_healthy.with_label_values(labels));
        if let Some(gauge) = &healthy_gauge {
            gauge.set(1);
        }
        Arc::new(Endpoint {
            host: HeaderValue::from_str(url.authority().as_str()).unwrap_or_else(|_| HeaderValue::from_static("")),
            url: url.clone(),
            way,
            pool_key,
            inflight: AtomicUsize::new(0),
            wait: Wait::default(),
            epoch: self.epoch,
            retry_at: AtomicU64::new(0),
            clock,
            inflight_gauge: self.metrics.upstream_inflight.with_label_values(labels),
            healthy_gauge,
        })
    }

    fn forget(&self, model: &ModelId, url: &EndpointUrl) {
        let labels = &[&**model, url.authority().as_str()];
        // Not there when two endpoints shared host and port: the first removal took it.
        let _ = self.metrics.upstream_inflight.remove_label_values(labels);
        let _ = self.metrics.upstream_healthy.remove_label_values(labels);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use tokio::time::advance;

    use super::{RETRY_AFTER, Registry, Seen};
    use crate::provider::ClockOffset;
    use crate::route::{Access, BudgetPatch, EndpointUrl, Model, ProviderKind};
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
            room: None,
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
        assert_ne!(operators.pool_key, transient(true).pool_key, "unchecked connections are not for requests");
        let now = SystemTime::now();
        operators.set_clock(ClockOffset::between(now, now + Duration::from_hours(1)));
        assert!(transient(false).provider_time() > now + Duration::from_mins(59), "the next request knows it");
        assert!(transient(true).provider_time() < now + Duration::from_mins(59));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_sees_whether_it_is_back() {
        let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
        let model = model(true);
        let endpoint = registry.transient(&model, &model.endpoints[0], &Outward::default());
        let is_due = || endpoint.is_due(endpoint.now());
        assert!(endpoint.is_healthy() && is_due());
        advance(Duration::from_secs(60)).await;
        endpoint.saw(Seen::Unreachable);
        assert!(!is_due());
        advance(RETRY_AFTER).await;
        assert!(is_due() && !endpoint.is_healthy());
        endpoint.claim(endpoint.now());
        assert!(!is_due(), "the others wait for the one that went");
        endpoint.saw(Seen::Answered);
        assert!(endpoint.is_healthy() && is_due());
    }
}
