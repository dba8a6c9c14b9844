//! Keeps the credentials that expire fresh: AWS's credential chain, Entra ID's tokens. One task
//! beside the data path, as for the keys of issuers (`auth`); requests read what it fetched last.

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

use crate::model::{Renewed, Temporary};
use crate::refreshed::Fetch;
use crate::upstream::Fetcher;

/// One attempt, whatever it has to ask (providers.md d1.7).
const LIMIT: Duration = Duration::from_secs(5);
/// Credentials that say nothing of an end are read again after this: a file may have been replaced.
const WITHOUT_END: Duration = Duration::from_mins(15);

/// The credentials of the configuration in force: one per process.
#[derive(Debug)]
pub struct Credentials(watch::Sender<Vec<Renewed>>);

impl Default for Credentials {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Credentials {
    /// Puts others in force. Those that were there keep what they hold and are fetched again, so
    /// that a reload is also the way to drop a key that was replaced.
    pub fn set(&self, renewed: impl Iterator<Item = Renewed>) {
        let mut new: Vec<Renewed> = Vec::new();
        for each in renewed {
            if !new.iter().any(|known| known.is(&each)) {
                new.push(each);
            }
        }
        self.0.send_modify(|current| {
            for each in &new {
                // the same one, or another for the same identity
                let _ = current.iter().any(|before| each.is(before) || each.take_over(before));
            }
            *current = new;
        });
    }

    /// What keeps whichever are in force. Run it once.
    pub fn keeper(&self, fetcher: Fetcher) -> Keeper {
        Keeper { renewed: self.0.subscribe(), fetcher: Arc::new(fetcher) }
    }
}

/// The one task that fetches credentials.
pub struct Keeper {
    renewed: watch::Receiver<Vec<Renewed>>,
    fetcher: Arc<Fetcher>,
}

impl Keeper {
    /// Runs until the [`Credentials`] are gone.
    pub async fn run(mut self) {
        loop {
            let renewed = self.renewed.borrow_and_update().clone();
            let mut keeping: Vec<Keeping<'_>> =
                renewed.iter().map(|each| keep(each, &self.fetcher)).collect();
            let all = poll_fn(|cx| {
                keeping.iter_mut().for_each(|each| _ = each.as_mut().poll(cx));
                Poll::<Infallible>::Pending
            });
            tokio::select! {
                never = all => match never {},
                changed = self.renewed.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A task without an end.
type Keeping<'k> = Pin<Box<dyn Future<Output = ()> + Send + 'k>>;

fn keep<'k>(renewed: &'k Renewed, fetcher: &'k Arc<Fetcher>) -> Keeping<'k> {
    match renewed {
        Renewed::Aws(chain) => Box::pin(async move {
            chain
                .keys
                .keep(&"AWS credentials", || within(aws::fetch(chain, fetcher), "AWS credentials"))
                .await;
        }),
        Renewed::Entra(entra) => Box::pin(async move {
            entra
                .token
                .keep(&"an Entra ID token", || {
                    within(entra::fetch(entra, fetcher), "an Entra ID token")
                })
                .await;
        }),
    }
}

/// One attempt, and when the next one is due: at 80 % of what the credentials have left
/// (providers.md d2.3).
async fn within<T>(
    attempt: impl Future<Output = Result<Temporary<T>, String>> + Send,
    what: impl Display,
) -> Result<Fetch<Temporary<T>>, String> {
    let Ok(fetched) = timeout(LIMIT, attempt).await else {
        return Err(format!("no answer within {} s", LIMIT.as_secs()));
    };
    let value = fetched?;
    let left = value.left(SystemTime::now());
    if left == Some(Duration::ZERO) {
        return Err("what came has expired already: check this machine's time".to_owned());
    }
    tracing::info!(left_s = left.map(|left| left.as_secs()), "{what} fetched");
    Ok(Fetch { value, again_in: left.map_or(WITHOUT_END, |left| left.mul_f64(0.8)) })
}
