//! Keeps temporary credentials valid: AWS's credential chain, Entra ID's tokens. One task outside
//! the data path, as for the keys of issuers (`auth`); requests read what it fetched last.

mod aws;
mod entra;

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::model::{Expiring, RefreshableCredentials};
use crate::refreshed::Fetch;
use crate::upstream::Fetcher;

/// The timeout of one fetch, whatever it consists of (contract::providers §d1.7).
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The refresh interval of credentials without an expiry: a file may have been replaced.
const REREAD_INTERVAL: Duration = Duration::from_mins(15);

/// The credentials of the configuration in force: one per process.
#[derive(Debug)]
pub struct Credentials {
    current: watch::Sender<Vec<RefreshableCredentials>>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self { current: watch::Sender::new(Vec::new()) }
    }
}

impl Credentials {
    /// Replaces the credentials in force. Those that are in force already keep their value and are
    /// fetched again, so that a reload is also how an operator drops a key that was replaced.
    pub fn set(&self, renewed: impl Iterator<Item = RefreshableCredentials>) {
        let mut new: Vec<RefreshableCredentials> = Vec::new();
        for each in renewed {
            if !new.iter().any(|known| known.is_same(&each)) {
                new.push(each);
            }
        }
        self.current.send_modify(|current| {
            for each in &new {
                // the same one, or another for the same identity
                let _ = current.iter().any(|before| each.is_same(before) || each.adopt(before));
            }
            *current = new;
        });
    }

    /// Returns the task that refreshes the credentials in force. Run it once.
    pub fn refresh_task(&self, fetcher: Fetcher) -> RefreshTask {
        RefreshTask { renewed: self.current.subscribe(), fetcher: Arc::new(fetcher) }
    }
}

/// The one task that fetches credentials.
pub struct RefreshTask {
    renewed: watch::Receiver<Vec<RefreshableCredentials>>,
    fetcher: Arc<Fetcher>,
}

impl RefreshTask {
    /// Runs until the [`Credentials`] are dropped.
    pub async fn run(mut self) {
        loop {
            let renewed = self.renewed.borrow_and_update().clone();
            let mut refreshing: Vec<RefreshFuture<'_>> =
                renewed.iter().map(|each| refresh(each, &self.fetcher)).collect();
            let all = poll_fn(|cx| {
                refreshing.iter_mut().for_each(|each| _ = each.as_mut().poll(cx));
                Poll::<Infallible>::Pending
            });
            tokio::select! {
                never = all => match never {},
                changed = self.renewed.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A future that refreshes one value and never completes.
type RefreshFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn refresh<'a>(
    renewed: &'a RefreshableCredentials,
    fetcher: &'a Arc<Fetcher>,
) -> RefreshFuture<'a> {
    match renewed {
        RefreshableCredentials::Aws(chain) => Box::pin(async move {
            chain
                .keys
                .run(&"AWS credentials", || {
                    fetch_within_timeout(aws::fetch(chain, fetcher), "AWS credentials")
                })
                .await;
        }),
        RefreshableCredentials::Entra(entra) => Box::pin(async move {
            entra
                .token
                .run(&"an Entra ID token", || {
                    fetch_within_timeout(entra::fetch(entra, fetcher), "an Entra ID token")
                })
                .await;
        }),
    }
}

/// Makes one attempt and schedules the next: at 80 % of the remaining lifetime
/// (contract::providers §d2.3). Fails on a timeout and when the credentials have expired already.
async fn fetch_within_timeout<T>(
    attempt: impl Future<Output = Result<Expiring<T>, String>> + Send,
    what: impl Display,
) -> Result<Fetch<Expiring<T>>, String> {
    let Ok(fetched) = timeout(FETCH_TIMEOUT, attempt).await else {
        return Err(format!("no response within {} s", FETCH_TIMEOUT.as_secs()));
    };
    let value = fetched?;
    let left = value.remaining(SystemTime::now());
    if left == Some(Duration::ZERO) {
        return Err("the credentials have expired already: check this machine's time".to_owned());
    }
    tracing::info!(left_s = left.map(|left| left.as_secs()), "{what} fetched");
    Ok(Fetch { value, refresh_in: left.map_or(REREAD_INTERVAL, |left| left.mul_f64(0.8)) })
}
