//! The endpoints of one configuration, and the registry that finds their state again after a
//! reload: by model and URL, and what belongs to an address (pooled connections, the provider's
//! clock) by address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::Resilience;
use crate::model::{EndpointUrl, Model, ModelId};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{EndpointLabels, ModelLabels};
use crate::upstream::balance::affinity::Affinity;
use crate::upstream::balance::inflight::Inflight;
use crate::upstream::endpoint::{Endpoint, EndpointMetrics, EndpointParts, SharedClock};
use crate::upstream::health::breaker::BreakerSettings;
use crate::upstream::limit::concurrency::ConcurrencyLimit;
use crate::upstream::limit::hedge_budget::RetryAndHedgeBudgets;
use crate::upstream::net::egress::{ConnectOptions, Egress};

/// The endpoints of one snapshot, by model.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    by_model: HashMap<ModelId, Vec<Arc<Endpoint>>>,
    affinities: HashMap<ModelId, Arc<Affinity>>,
    egress: Arc<Egress>,
    concurrency_limits: HashMap<ModelId, Arc<ConcurrencyLimit>>,
}

impl Endpoints {
    /// Returns the replicas of a configured model, or `None` for any other model.
    pub fn of(&self, model: &ModelId) -> Option<&[Arc<Endpoint>]> {
        self.by_model.get(model).map(Vec::as_slice)
    }

    /// Returns the table of the prompts that a model's replicas have cached, or `None` when its
    /// requests are balanced without affinity.
    pub(super) fn affinity(&self, model: &Model) -> Option<&Affinity> {
        if model.replicas.affinity {
            self.affinities.get(&model.id).map(|affinity| &**affinity)
        } else {
            None
        }
    }

    /// Returns the concurrency limit of a configured model, or `None` for a model that a request
    /// named.
    pub(super) fn concurrency_limit(&self, model: &Model) -> Option<&Arc<ConcurrencyLimit>> {
        self.concurrency_limits.get(&model.id).filter(|_| !model.from_request)
    }

    /// Iterates over all models and their replicas, for `/status`.
    pub fn iter(&self) -> impl Iterator<Item = (&ModelId, &[Arc<Endpoint>])> {
        self.by_model.iter().map(|(model, list)| (model, list.as_slice()))
    }

    /// Returns how the snapshot's servers are connected to.
    pub(super) const fn egress(&self) -> &Arc<Egress> {
        &self.egress
    }
}

/// Builds endpoints, and finds again those that it built: one per process.
pub struct Registry {
    metrics: Arc<Metrics>,
    breaker_settings: Arc<ArcSwap<BreakerSettings>>,
    epoch: Instant,
    known: Mutex<Known>,
}

/// The state that outlives a reload.
#[derive(Default)]
struct Known {
    endpoints: HashMap<(ModelId, EndpointUrl), Arc<Endpoint>>,
    addresses: HashMap<Address, Peer>,
    budgets: HashMap<ModelId, Arc<RetryAndHedgeBudgets>>,
    affinities: HashMap<ModelId, Arc<Affinity>>,
    concurrency_limits: HashMap<ModelId, Arc<ConcurrencyLimit>>,
}

/// What all endpoints of one address share.
#[derive(Clone)]
struct Peer {
    pool_key: u32,
    clock: SharedClock,
}

/// What a pooled connection may be reused for.
#[derive(PartialEq, Eq, Hash)]
struct Address {
    /// Scheme, host and port.
    url: EndpointUrl,
    /// Whether the resolved address was checked. A connection to the operator's own address was
    /// not, so a request's must not find it.
    is_checked: bool,
    egress_id: u32,
    tls_id: u32,
}

impl Registry {
    /// Creates an empty registry.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            breaker_settings: Arc::default(),
            epoch: Instant::now(),
            known: Mutex::default(),
        }
    }

    /// Returns the endpoints of these models, and drops the state of those that are no longer
    /// configured. An endpoint whose connect options have changed starts without state.
    pub fn endpoints<'a>(
        &self,
        models: impl Iterator<Item = &'a Arc<Model>>,
        egress: Arc<Egress>,
        resilience: &Resilience,
    ) -> Endpoints {
        self.breaker_settings.store(Arc::new(resilience.breaker));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        let (mut kept, mut kept_budgets) = (HashMap::new(), HashMap::new());
        let mut by_model: HashMap<ModelId, Vec<Arc<Endpoint>>> = HashMap::new();
        let (mut concurrency_limits, mut affinities) = (HashMap::new(), HashMap::new());
        for model in models {
            if model.replicas.affinity {
                let same = known
                    .affinities
                    .get(&model.id)
                    .filter(|known| known.is_for(&model.endpoints))
                    .cloned();
                let affinity =
                    same.unwrap_or_else(|| Arc::new(Affinity::new(model.endpoints.clone())));
                affinities.insert(Arc::clone(&model.id), affinity);
            }
            let budgets = known
                .budgets
                .remove(&model.id)
                .unwrap_or_else(|| Arc::new(RetryAndHedgeBudgets::new(Instant::now())));
            budgets.retries.set_share(resilience.retry_share);
            budgets.hedges.set(resilience.hedging);
            let limit = self.concurrency_limit(&known.concurrency_limits, model);
            concurrency_limits.insert(Arc::clone(&model.id), limit);
            for url in &model.endpoints {
                let key = (Arc::clone(&model.id), url.clone());
                let options = egress.options_for_model(model, url);
                let same = known
                    .endpoints
                    .get(&key)
                    .filter(|known| known.connect_options.egress_id == options.egress_id)
                    .cloned();
                let endpoint = same.unwrap_or_else(|| {
                    self.build(&mut known.addresses, model, url, options, Some(&budgets))
                });
                kept.insert(key, Arc::clone(&endpoint));
                by_model.entry(Arc::clone(&model.id)).or_default().push(endpoint);
            }
            kept_budgets.insert(Arc::clone(&model.id), budgets);
        }
        for (model, url) in known.endpoints.keys().filter(|key| !kept.contains_key(*key)) {
            self.remove_metrics(model, url);
        }
        let known_limits = known.concurrency_limits.keys();
        for model in known_limits.filter(|model| !concurrency_limits.contains_key(*model)) {
            self.metrics.model_waiting.remove(&ModelLabels { model: Arc::clone(model) });
        }
        (known.endpoints, known.budgets) = (kept, kept_budgets);
        known.concurrency_limits.clone_from(&concurrency_limits);
        known.affinities.clone_from(&affinities);
        Endpoints { by_model, affinities, egress, concurrency_limits }
    }

    /// Returns a model's concurrency limit, the known one if there is one, with the settings now
    /// in force.
    fn concurrency_limit(
        &self,
        known: &HashMap<ModelId, Arc<ConcurrencyLimit>>,
        model: &Model,
    ) -> Arc<ConcurrencyLimit> {
        let Some(limit) = known.get(&model.id) else {
            let waiting =
                self.metrics.model_waiting.get(&ModelLabels { model: Arc::clone(&model.id) });
            return Arc::new(ConcurrencyLimit::new(
                Arc::clone(&model.id),
                model.concurrency,
                waiting,
            ));
        };
        limit.set(model.concurrency);
        Arc::clone(limit)
    }

    /// Builds an endpoint of a model that a request named: no state outlives the request except
    /// what its address shares, pooled connections and the clock.
    pub fn transient(&self, model: &Model, url: &EndpointUrl, egress: &Egress) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let options = egress.options_for_model(model, url);
        self.build(&mut known.addresses, model, url, options, None)
    }

    /// Builds an endpoint. `budgets` are those of a configured model, whose addresses are a closed
    /// set, so that they may be metric labels.
    fn build(
        &self,
        addresses: &mut HashMap<Address, Peer>,
        model: &Model,
        url: &EndpointUrl,
        connect_options: ConnectOptions,
        budgets: Option<&Arc<RetryAndHedgeBudgets>>,
    ) -> Arc<Endpoint> {
        let address = Address {
            url: url.without_path(),
            is_checked: connect_options.checked.is_some(),
            egress_id: connect_options.egress_id,
            tls_id: connect_options.tls.id,
        };
        let Peer { pool_key, clock } = peer(addresses, address);
        let is_configured = budgets.is_some();
        let label = if is_configured { url.authority().as_str() } else { "request" };
        let labels = EndpointLabels { model: Arc::clone(&model.id), endpoint: label.into() };
        let metrics = is_configured.then(|| EndpointMetrics {
            model: Arc::clone(&model.id),
            healthy: self.metrics.upstream_healthy.get(&labels),
            breaker: self.metrics.breaker_state.get(&labels),
        });
        Arc::new(Endpoint::new(EndpointParts {
            url: url.clone(),
            pool_key,
            connect_options,
            inflight: Inflight::new(self.metrics.upstream_inflight.get(&labels)),
            breaker_settings: Arc::clone(&self.breaker_settings),
            epoch: self.epoch,
            clock,
            budgets: budgets
                .cloned()
                .unwrap_or_else(|| Arc::new(RetryAndHedgeBudgets::new(self.epoch))),
            metrics,
        }))
    }

    fn remove_metrics(&self, model: &ModelId, url: &EndpointUrl) {
        let endpoint = url.authority().as_str().into();
        let labels = EndpointLabels { model: Arc::clone(model), endpoint };
        self.metrics.upstream_inflight.remove(&labels);
        self.metrics.upstream_healthy.remove(&labels);
        self.metrics.breaker_state.remove(&labels);
    }
}

/// Returns what the endpoints of this address share, a new pool key the first time.
fn peer(addresses: &mut HashMap<Address, Peer>, address: Address) -> Peer {
    // A request may name any address: the table is cleared before it grows without bound. Cleared
    // keys are not reused, so a pooled connection is never found under another address.
    const MAX_ADDRESSES: usize = 4096;
    static NEXT_KEY: AtomicU32 = AtomicU32::new(0);
    if addresses.len() >= MAX_ADDRESSES {
        addresses.clear();
    }
    let new = || Peer {
        pool_key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
        clock: SharedClock::default(),
    };
    addresses.entry(address).or_insert_with(new).clone()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::Registry;
    use crate::model::{Access, EndpointUrl, Model, ProviderKind, TimeoutsPatch};
    use crate::provider::ClockOffset;
    use crate::telemetry::Metrics;
    use crate::upstream::health::breaker::Availability;
    use crate::upstream::{Egress, Observation, Resilience};

    fn model(from_request: bool) -> Model {
        Model {
            id: "request".into(),
            provider: ProviderKind::Bedrock,
            upstream_name: "x".into(),
            family: std::sync::Arc::default(),
            endpoints: vec![EndpointUrl::parse("http://h/base").unwrap()],
            api_key: None,
            access: Access::Key,
            timeouts: TimeoutsPatch::default(),
            replicas: crate::model::ReplicaSettings::default(),
            concurrency: None,
            priority: false,
            from_request,
        }
    }

    #[test]
    fn checked_and_unchecked_endpoints_share_neither_clock_nor_connections() {
        let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
        let egress = Egress::default();
        let transient = |from_request| {
            let model = model(from_request);
            registry.transient(&model, &model.endpoints[0], &egress)
        };
        let operators = transient(false);
        assert_ne!(
            operators.pool_key,
            transient(true).pool_key,
            "unchecked connections are not for requests"
        );
        let now = SystemTime::now();
        operators.set_clock_offset(ClockOffset::between(now, now + Duration::from_hours(1)));
        assert!(
            transient(false).provider_time() > now + Duration::from_mins(59),
            "the next request has the same clock"
        );
        assert!(transient(true).provider_time() < now + Duration::from_mins(59));
    }

    #[test]
    fn a_retry_after_is_capped_and_never_shortened() {
        let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
        let model = Arc::new(model(false));
        let endpoints =
            registry.endpoints([&model].into_iter(), Arc::default(), &Resilience::default());
        let endpoint = &endpoints.of(&model.id).unwrap()[0];
        endpoint
            .record_at(Observation::RetryAfter(Duration::from_hours(1)), Duration::from_secs(1));
        endpoint.record_at(Observation::RetryAfter(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(
            endpoint.availability(Duration::from_secs(60)),
            Availability::Unreachable,
            "the longest one counts"
        );
        assert_eq!(endpoint.availability(Duration::from_secs(61)), Availability::Available);
    }
}
