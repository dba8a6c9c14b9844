//! An issuer of tokens, alive: its keys as they were last fetched. They are fetched again when they
//! grow old, when a token names a key that is not among them, when the configuration was reloaded.
//! When that fails, the last good keys serve on, however old.

use std::sync::Arc;
use std::time::Duration;

use super::jwks::{Discovery, KeySet, max_age};
use crate::model::EndpointUrl;
use crate::refreshed::{Fetch, Fresh, Pace};
use crate::upstream::{Fetched, Fetcher};

/// The path of the discovery document (OpenID Connect Discovery §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The longest that keys are kept without asking: what GitLab says of its own (gitlab-client.md
/// §3.3).
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The shortest, whatever the issuer says.
const MIN_AGE: Duration = Duration::from_secs(300);
/// What tokens may cause: strangers can name keys that nobody has, and each holds a place while it
/// waits.
const PACE: Pace = Pace {
    min_interval: Duration::from_secs(10),
    max_interval: Duration::from_secs(300),
    wait: Duration::from_secs(2),
    max_waiting: 64,
};

/// One issuer. Kept across reloads by its address, so that a reload forgets no key.
#[derive(Debug)]
pub struct Issuer {
    url: EndpointUrl,
    published: Fresh<Published>,
}

/// What an issuer published, when it was last asked successfully.
#[derive(Debug)]
pub(super) struct Published {
    /// `iss` of its tokens.
    pub(super) issuer: String,
    /// Its keys.
    pub(super) keys: KeySet,
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
        let published = Fresh::new(PACE);
        published.ask();
        Self { url, published }
    }

    /// The address in the file.
    pub(super) const fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// What it published, if it was ever reached.
    pub(super) fn published(&self) -> Option<Arc<Published>> {
        self.published.get()
    }

    /// The same, having waited for a fetch when this key is not there.
    pub(super) async fn published_with(&self, kid: &str) -> Option<Arc<Published>> {
        self.published.get_if(|published| published.keys.get(kid).is_some()).await
    }

    /// Asks for a fetch.
    pub(super) fn ask(&self) {
        self.published.ask();
    }

    /// Keeps the keys fresh, for ever.
    pub(super) async fn keep(&self, fetcher: &Fetcher) {
        self.published.keep(&"keys", || self.fetch(fetcher)).await;
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<Fetch<Published>, String> {
        let fault = |url: &EndpointUrl, path: &str, why: &dyn std::fmt::Display| {
            format!("{url}{path}: {why}")
        };
        let document = fetcher
            .get(&self.url, DISCOVERY)
            .await
            .map_err(|why| fault(&self.url, DISCOVERY, &why))?;
        let Discovery { issuer, jwks_uri } = Discovery::parse(&document.body, &self.url)
            .map_err(|why| fault(&self.url, DISCOVERY, &why))?;
        let Fetched { headers, body } =
            fetcher.get(&jwks_uri, "").await.map_err(|why| fault(&jwks_uri, "", &why))?;
        let keys = KeySet::parse(&body).map_err(|why| fault(&jwks_uri, "", &why))?;
        tracing::info!(url = %self.url, issuer, keys = keys.len(), "keys fetched");
        let again_in = max_age(&headers).unwrap_or(MAX_AGE).clamp(MIN_AGE, MAX_AGE);
        Ok(Fetch { value: Published { issuer, keys }, again_in })
    }

    pub(super) fn status(&self) -> IssuerStatus {
        let published = self.published();
        IssuerStatus {
            url: self.url.to_string(),
            issuer: published.as_ref().map(|published| published.issuer.clone()),
            keys: published.as_ref().map_or(0, |published| published.keys.len()),
            age: self.published.age(),
            fault: self.published.fault(),
        }
    }
}
