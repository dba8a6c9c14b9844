//! Checks the health of the configured replicas, and polls the load of those that report it. One
//! task apart from the data path; a choice reads the last result.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::model::{HealthCheck, Model};
use crate::provider::{Outbound, SigningContext, dialect};
use crate::upstream::balance::reported_load::ReportedLoad;
use crate::upstream::fetch::send_request;
use crate::upstream::{Endpoint, Endpoints, FetchError, FetchRequest, FetchResponse};

/// The most checks and polls in flight at a time, over all replicas.
const MAX_CONCURRENT: usize = 16;
/// This many checks in a row have to fail: a single one may have met a server that was busy.
const FAILURES_TO_OPEN: u32 = 2;
/// The time between two polls of a server's load (contract::providers §d3.2: every 100 to 500 ms).
const POLL_EVERY: Duration = Duration::from_millis(500);

/// `[resilience] health_check`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheckSettings {
    /// The time between two checks of a replica; a quarter of it while they fail.
    pub every: Duration,
    /// How long a check may take.
    pub timeout: Duration,
}

impl Default for HealthCheckSettings {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), timeout: Duration::from_secs(2) }
    }
}

/// The replicas that are checked, as of the configuration in force: one per process.
#[derive(Debug, Default)]
pub struct HealthChecks {
    targets: watch::Sender<Arc<Targets>>,
}

/// The replicas to check, and how.
#[derive(Debug, Default)]
struct Targets {
    settings: HealthCheckSettings,
    replicas: Vec<(Arc<Model>, Arc<Endpoint>)>,
}

impl HealthChecks {
    /// Replaces the replicas and the settings.
    pub fn set<'a>(
        &self,
        models: impl Iterator<Item = &'a Arc<Model>>,
        endpoints: &Endpoints,
        settings: HealthCheckSettings,
    ) {
        let mut replicas = Vec::new();
        for model in models {
            let list = endpoints.of(&model.id).unwrap_or_default();
            replicas.extend(list.iter().map(|endpoint| (Arc::clone(model), Arc::clone(endpoint))));
        }
        self.targets.send_replace(Arc::new(Targets { settings, replicas }));
    }

    /// Creates the checker of the replicas in force. Run one only.
    pub fn checker(&self) -> HealthChecker {
        HealthChecker { targets: self.targets.subscribe(), permits: Semaphore::new(MAX_CONCURRENT) }
    }
}

/// The one task that sends checks and polls.
pub struct HealthChecker {
    targets: watch::Receiver<Arc<Targets>>,
    permits: Semaphore,
}

/// The endless work for one replica.
type Task<'w> = Pin<Box<dyn Future<Output = Infallible> + Send + 'w>>;

impl HealthChecker {
    /// Runs until the set of replicas that it was created from is dropped.
    pub async fn run(mut self) {
        loop {
            let targets = Arc::clone(&self.targets.borrow_and_update());
            let mut changes = self.targets.clone();
            let mut tasks: Vec<Task<'_>> = Vec::new();
            for (model, endpoint) in &targets.replicas {
                let replica = Replica { model, endpoint, permits: &self.permits };
                if let Some(check) = &model.replicas.health_check {
                    tasks.push(Box::pin(replica.run_checks(check, targets.settings)));
                }
                if model.replicas.reports_load {
                    tasks.push(Box::pin(replica.poll_load()));
                }
            }
            let all = poll_fn(|cx| {
                tasks.iter_mut().for_each(|task| _ = task.as_mut().poll(cx));
                Poll::<Infallible>::Pending
            });
            tokio::select! {
                never = all => match never {},
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A replica to check or poll.
#[derive(Clone, Copy)]
struct Replica<'w> {
    model: &'w Model,
    endpoint: &'w Endpoint,
    permits: &'w Semaphore,
}

impl Replica<'_> {
    async fn run_checks(self, check: &HealthCheck, settings: HealthCheckSettings) -> Infallible {
        let HealthCheckSettings { every, timeout } = settings;
        let mut failures = 0;
        loop {
            pause(if failures == 0 { every } else { every / 4 }).await;
            match self.check(check, timeout).await {
                Ok(()) => {
                    failures = 0;
                    self.endpoint.mark_healthy();
                }
                Err(why) => {
                    failures += 1;
                    if failures >= FAILURES_TO_OPEN {
                        // longer than until the next result, so that without one requests probe the
                        // endpoint
                        self.endpoint.mark_unhealthy(&why, every + timeout);
                    }
                }
            }
        }
    }

    /// Returns an error unless a response other than a 5xx arrives within `limit`: which paths
    /// exist is the server's affair.
    async fn check(self, check: &HealthCheck, limit: Duration) -> Result<(), String> {
        let response = match check {
            HealthCheck::Models => self.get("/models", false, limit).await,
            HealthCheck::Path(path) => self.get(path, true, limit).await,
        };
        match response {
            Ok(FetchResponse { status, .. }) if status.is_server_error() => {
                Err(format!("HTTP {}", status.as_u16()))
            }
            Ok(_) | Err(FetchError::TooLong) => Ok(()),
            Err(error) if error.is_timeout() => Err(format!("no answer within {limit:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn poll_load(self) -> Infallible {
        let mut had_load = true;
        loop {
            pause(POLL_EVERY).await;
            let response = self.get("/metrics", true, POLL_EVERY * 2).await;
            let text = response
                .as_ref()
                .ok()
                .filter(|response| response.status.is_success())
                .map(|response| &*response.body);
            let load = text.and_then(|text| ReportedLoad::parse(&String::from_utf8_lossy(text)));
            match load {
                Some(load) => self.endpoint.report_load(load),
                None if had_load => {
                    let (model, endpoint) = (&self.model.id, &self.endpoint.url);
                    tracing::warn!(%model, %endpoint, "no vLLM load gauges at /metrics: balancing by our own requests until there are");
                }
                None => {}
            }
            had_load = load.is_some();
        }
    }

    /// Gets a document from the server, with the model's key.
    async fn get(
        self,
        path: &str,
        at_root: bool,
        limit: Duration,
    ) -> Result<FetchResponse, FetchError> {
        let Endpoint { url, connect_options, .. } = self.endpoint;
        let root = url.without_path();
        let url = if at_root { &root } else { url };
        let mut outbound = Outbound {
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new().into(),
        };
        let attempt = SigningContext { endpoint: url, now: SystemTime::now() };
        // a missing key is reported to the requests for the model; the check goes without it
        let _ = dialect(self.model.provider).authorize(&mut outbound, self.model, &attempt);
        let request = FetchRequest {
            method: "GET",
            url,
            path,
            headers: outbound.headers,
            body: Bytes::new(),
        };
        // never closed: this waits, and does not fail
        let _permit = self.permits.acquire().await;
        timeout(limit, send_request(request, connect_options, limit))
            .await
            .unwrap_or(Err(FetchError::Expired))
    }
}

/// Sleeps for the time ±10 %, so that neither replicas nor gateways run in step.
async fn pause(time: Duration) {
    sleep(time.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
}
