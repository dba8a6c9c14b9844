//! Looks after the replicas of the configuration in force: asks those that are to be checked
//! whether they are well, and those that tell it for their load. One task beside the data path; a
//! choice reads what it found last.

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
use crate::provider::{Attempt, Outbound, dialect};
use crate::upstream::balance::reported_load::Load;
use crate::upstream::fetch::ask;
use crate::upstream::{Answered, Asked, Endpoint, Endpoints, FetchError};

/// Requests of ours under way at a time, over all replicas.
const PLACES: usize = 16;
/// So many checks in a row have to fail: one may have met a server that was busy.
const FAILURES: u32 = 2;
/// Between two looks at a server's load (providers.md d3.2: every 100 to 500 ms).
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `[resilience] health_check`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// Between two checks of a replica; a quarter of it while they fail.
    pub every: Duration,
    /// How long one may take.
    pub timeout: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), timeout: Duration::from_secs(2) }
    }
}

/// The replicas that are looked after: one per process.
#[derive(Debug, Default)]
pub struct Watch(watch::Sender<Arc<Watched>>);

/// Who is looked after, and how.
#[derive(Debug, Default)]
struct Watched {
    settings: WatchSettings,
    replicas: Vec<(Arc<Model>, Arc<Endpoint>)>,
}

impl Watch {
    /// Puts others in force.
    pub fn set<'a>(
        &self,
        models: impl Iterator<Item = &'a Arc<Model>>,
        endpoints: &Endpoints,
        settings: WatchSettings,
    ) {
        let mut replicas = Vec::new();
        for model in models {
            let list = endpoints.of(&model.id).unwrap_or_default();
            replicas.extend(list.iter().map(|endpoint| (Arc::clone(model), Arc::clone(endpoint))));
        }
        self.0.send_replace(Arc::new(Watched { settings, replicas }));
    }

    /// What looks after whichever are in force. Run it once.
    pub fn watcher(&self) -> Watcher {
        Watcher { watched: self.0.subscribe(), places: Semaphore::new(PLACES) }
    }
}

/// The one task that asks.
pub struct Watcher {
    watched: watch::Receiver<Arc<Watched>>,
    places: Semaphore,
}

/// What is done for one replica, without an end.
type Task<'w> = Pin<Box<dyn Future<Output = Infallible> + Send + 'w>>;

impl Watcher {
    /// Runs until the [`Watch`] is gone.
    pub async fn run(mut self) {
        loop {
            let watched = Arc::clone(&self.watched.borrow_and_update());
            let mut changes = self.watched.clone();
            let mut tasks: Vec<Task<'_>> = Vec::new();
            for (model, endpoint) in &watched.replicas {
                let replica = Replica { model, endpoint, places: &self.places };
                if let Some(check) = &model.replicas.health_check {
                    tasks.push(Box::pin(replica.keep_checking(check, watched.settings)));
                }
                if model.replicas.tell_load {
                    tasks.push(Box::pin(replica.keep_looking()));
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

/// One that is looked after.
#[derive(Clone, Copy)]
struct Replica<'w> {
    model: &'w Model,
    endpoint: &'w Endpoint,
    places: &'w Semaphore,
}

impl Replica<'_> {
    async fn keep_checking(self, check: &HealthCheck, settings: WatchSettings) -> Infallible {
        let WatchSettings { every, timeout } = settings;
        let mut failures = 0;
        loop {
            pause(if failures == 0 { every } else { every / 4 }).await;
            match self.check(check, timeout).await {
                Ok(()) => {
                    failures = 0;
                    self.endpoint.is_well();
                }
                Err(why) => {
                    failures += 1;
                    if failures >= FAILURES {
                        // longer than until the next word, so that without one requests see for
                        // themselves
                        self.endpoint.is_unwell(&why, every + timeout);
                    }
                }
            }
        }
    }

    /// Any answer but a server's own failure will do: which paths there are is the server's to say.
    async fn check(self, check: &HealthCheck, limit: Duration) -> Result<(), String> {
        let answer = match check {
            HealthCheck::Models => self.get("/models", false, limit).await,
            HealthCheck::Path(path) => self.get(path, true, limit).await,
        };
        match answer {
            Ok(Answered { status, .. }) if status.is_server_error() => {
                Err(format!("HTTP {}", status.as_u16()))
            }
            Ok(_) | Err(FetchError::TooLong) => Ok(()),
            Err(error) if error.is_timeout() => Err(format!("no answer within {limit:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn keep_looking(self) -> Infallible {
        let mut told = true;
        loop {
            pause(LOOK_EVERY).await;
            let answer = self.get("/metrics", true, LOOK_EVERY * 2).await;
            let text = answer
                .as_ref()
                .ok()
                .filter(|answer| answer.status.is_success())
                .map(|answer| &*answer.body);
            let load = text.and_then(|text| Load::read(&String::from_utf8_lossy(text)));
            match load {
                Some(load) => self.endpoint.tells(load),
                None if told => {
                    let (model, endpoint) = (&self.model.id, &self.endpoint.url);
                    tracing::warn!(%model, %endpoint, "no load of vLLM's at /metrics: requests are counted here until there is");
                }
                None => {}
            }
            told = load.is_some();
        }
    }

    /// A document of the server's, asked for with the model's key.
    async fn get(self, path: &str, at_root: bool, limit: Duration) -> Result<Answered, FetchError> {
        let Endpoint { url, way, .. } = self.endpoint;
        let root = url.without_base();
        let url = if at_root { &root } else { url };
        let mut outbound = Outbound {
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new().into(),
        };
        let attempt = Attempt { endpoint: url, now: SystemTime::now() };
        // a key that cannot be had is told to those who ask the model; here it goes without
        let _ = dialect(self.model.provider).authorize(&mut outbound, self.model, &attempt);
        let asked =
            Asked { method: "GET", url, path, headers: outbound.headers, body: Bytes::new() };
        // never closed
        let _place = self.places.acquire().await;
        timeout(limit, ask(asked, way, limit)).await.unwrap_or(Err(FetchError::Expired))
    }
}

/// Spread, so that neither replicas nor gateways keep step.
async fn pause(time: Duration) {
    sleep(time.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
}
