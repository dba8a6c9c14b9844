//! An issuer of tokens, alive: its keys as they were last fetched, and when to fetch them again.
//!
//! Keys are fetched by [`Issuer::keep`] alone, beside the data path: when they grow old, when a token names a
//! key that is not among them, when the configuration was reloaded. A request never fetches; one whose key is
//! unknown may wait a little for a fetch that is due. A fetch that fails changes nothing: the last good keys
//! serve on, however old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::jwks::{Discovery, KeySet, max_age};
use crate::route::EndpointUrl;
use crate::upstream::{Fetched, Fetcher};

/// The path of the discovery document (OpenID Connect Discovery §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The longest that keys are kept without asking: what GitLab says of its own (gitlab-client.md §3.3).
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The shortest, whatever the issuer says.
const MIN_AGE: Duration = Duration::from_secs(300);
/// Between two fetches, whatever tokens come.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Between two fetches of an issuer that does not answer: doubles from [`MIN_INTERVAL`] to this.
const MAX_INTERVAL: Duration = Duration::from_secs(300);
/// How long a request waits for a fetch that may bring its key.
const WAIT: Duration = Duration::from_secs(2);
/// How many requests may wait so: strangers can name keys that nobody has, and hold a place each.
const MAX_WAITING: usize = 64;

/// One issuer. Kept across reloads by its address, so that a reload forgets no key.
#[derive(Debug)]
pub struct Issuer {
    url: EndpointUrl,
    published: ArcSwapOption<Published>,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// Counts finished attempts.
    attempts: watch::Sender<u64>,
    waiting: Semaphore,
}

/// What an issuer published, when it was last asked successfully.
#[derive(Debug)]
pub(super) struct Published {
    /// `iss` of its tokens.
    pub(super) issuer: String,
    /// Its keys.
    pub(super) keys: KeySet,
    at: Instant,
}

#[derive(Debug)]
struct Schedule {
    /// The next fetch, unless it is asked for earlier.
    next: Instant,
    /// A fetch was asked for and has not ended yet.
    asked: bool,
    last_attempt: Option<Instant>,
    failures: u32,
    /// What went wrong last time.
    fault: Option<String>,
}

/// An issuer as `/status` shows it.
#[derive(Clone, Debug)]
pub struct IssuerStatus {
    /// The address in the file.
    pub url: String,
    /// The name in its tokens, once it is known.
    pub issuer: Option<String>,
    /// How many keys.
    pub keys: usize,
    /// How long ago they were fetched.
    pub age: Option<Duration>,
    /// Why the last fetch failed, if it did.
    pub fault: Option<String>,
}

impl Issuer {
    /// One that was not asked yet.
    pub(super) fn new(url: EndpointUrl) -> Self {
        let next = Instant::now();
        Self {
            url,
            published: ArcSwapOption::empty(),
            schedule: Mutex::new(Schedule { next, asked: false, last_attempt: None, failures: 0, fault: None }),
            wake: Notify::new(),
            attempts: watch::Sender::new(0),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// The address in the file.
    pub(super) const fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// What it published, if it was ever reached.
    pub(super) fn published(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    /// The same, having waited for a fetch when this key is not there: at most two seconds, and not at all soon
    /// after the last one.
    pub(super) async fn published_with(&self, kid: &str) -> Option<Arc<Published>> {
        let published = self.published();
        if published.as_ref().is_some_and(|published| published.keys.get(kid).is_some()) {
            return published;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return published };
        let mut attempts = self.attempts.subscribe();
        if self.ask() {
            // both ends of the wait come to the same: what is there now decides
            let _ = timeout(WAIT, attempts.changed()).await;
        }
        self.published()
    }

    /// Asks for a fetch. False when the last one is too recent.
    pub(super) fn ask(&self) -> bool {
        let mut schedule = self.schedule();
        if !schedule.asked && schedule.last_attempt.is_some_and(|at| at.elapsed() < MIN_INTERVAL) {
            return false;
        }
        schedule.asked = true;
        self.wake.notify_one();
        true
    }

    /// Keeps the keys fresh, for ever. May be dropped and begun again: what is due is then done.
    pub(super) async fn keep(&self, fetcher: &Fetcher) {
        loop {
            let next = self.due();
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.wake.notified() => {}
            }
            // a wake may be left over from a fetch that has ended since
            if self.due() <= Instant::now() {
                let fetched = self.fetch(fetcher).await;
                self.finish(fetched);
            }
        }
    }

    fn due(&self) -> Instant {
        let schedule = self.schedule();
        if schedule.asked { Instant::now() } else { schedule.next }
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<(Published, Option<Duration>), String> {
        let fault = |url: &EndpointUrl, path: &str, why: &dyn std::fmt::Display| format!("{url}{path}: {why}");
        let document = fetcher.get(&self.url, DISCOVERY).await.map_err(|why| fault(&self.url, DISCOVERY, &why))?;
        let Discovery { issuer, jwks_uri } =
            Discovery::parse(&document.body, &self.url).map_err(|why| fault(&self.url, DISCOVERY, &why))?;
        let Fetched { headers, body } = fetcher.get(&jwks_uri, "").await.map_err(|why| fault(&jwks_uri, "", &why))?;
        let keys = KeySet::parse(&body).map_err(|why| fault(&jwks_uri, "", &why))?;
        Ok((Published { issuer, keys, at: Instant::now() }, max_age(&headers)))
    }

    fn finish(&self, fetched: Result<(Published, Option<Duration>), String>) {
        let now = Instant::now();
        let mut schedule = self.schedule();
        (schedule.asked, schedule.last_attempt) = (false, Some(now));
        match fetched {
            Ok((published, max_age)) => {
                schedule.next = now + max_age.unwrap_or(MAX_AGE).clamp(MIN_AGE, MAX_AGE);
                (schedule.failures, schedule.fault) = (0, None);
                tracing::info!(url = %self.url, issuer = published.issuer, keys = published.keys.len(), "keys fetched");
                self.published.store(Some(Arc::new(published)));
            }
            Err(fault) => {
                let interval = MIN_INTERVAL.saturating_mul(1 << schedule.failures.min(8)).min(MAX_INTERVAL);
                schedule.next = now + interval;
                schedule.failures += 1;
                // an issuer that is down for a day is told when it goes, not every five minutes
                if schedule.fault.as_ref() != Some(&fault) {
                    let kept = self.published.load().as_ref().map_or(0, |published| published.keys.len());
                    tracing::warn!(kept, "keys could not be fetched: {fault}");
                }
                schedule.fault = Some(fault);
            }
        }
        drop(schedule);
        self.attempts.send_modify(|attempts| *attempts += 1);
    }

    pub(super) fn status(&self) -> IssuerStatus {
        let (published, fault) = (self.published(), self.schedule().fault.clone());
        IssuerStatus {
            url: self.url.to_string(),
            issuer: published.as_ref().map(|published| published.issuer.clone()),
            keys: published.as_ref().map_or(0, |published| published.keys.len()),
            age: published.map(|published| published.at.elapsed()),
            fault,
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
