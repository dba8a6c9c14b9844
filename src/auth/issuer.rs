//! An issuer of tokens, with its keys as they were last fetched. They are fetched again when they
//! grow old, when a token names an unknown key, and when the configuration was reloaded. When that
//! fails, the last good keys stay in use, however old.

use std::sync::Arc;
use std::time::Duration;

use super::jwks::{Discovery, KeySet, max_age};
use crate::model::EndpointUrl;
use crate::refreshed::{Fetch, RefreshPolicy, Refreshed};
use crate::upstream::{FetchResult, Fetcher};

/// The path of the discovery document (OpenID Connect Discovery §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The longest time between two fetches: what GitLab sends for its own keys
/// (contract::gitlab_client §3.3).
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two fetches, whatever the issuer sends.
const MIN_AGE: Duration = Duration::from_secs(300);
/// The fetches that tokens may trigger: anyone can name a key that does not exist, and each such
/// request waits.
const REFRESH_POLICY: RefreshPolicy = RefreshPolicy {
    min_interval: Duration::from_secs(10),
    max_interval: Duration::from_secs(300),
    max_wait: Duration::from_secs(2),
    max_waiters: 64,
};

/// One issuer. It is kept across reloads by its address, so that a reload drops no key.
#[derive(Debug)]
pub struct Issuer {
    url: EndpointUrl,
    documents: Refreshed<IssuerDocuments>,
}

/// The documents of an issuer, from the last successful fetch.
#[derive(Debug)]
pub(super) struct IssuerDocuments {
    /// `iss` of its tokens.
    pub(super) issuer: String,
    /// The keys that its tokens are signed with.
    pub(super) keys: KeySet,
}

/// The state of an issuer, for `/status`.
#[derive(Clone, Debug)]
pub struct IssuerStatus {
    /// The address in the file.
    pub url: String,
    /// `iss` of its tokens, once it has been fetched.
    pub issuer: Option<String>,
    /// The number of keys.
    pub keys: usize,
    /// The time since the last successful fetch.
    pub age: Option<Duration>,
    /// Why the last fetch failed, if it did.
    pub last_error: Option<String>,
}

impl Issuer {
    /// Creates an issuer without keys and requests the first fetch.
    pub(super) fn new(url: EndpointUrl) -> Self {
        let documents = Refreshed::new(REFRESH_POLICY);
        documents.request_fetch();
        Self { url, documents }
    }

    /// Returns the address in the file.
    pub(super) const fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// Returns the last documents, or `None` before the first successful fetch.
    pub(super) fn documents(&self) -> Option<Arc<IssuerDocuments>> {
        self.documents.get()
    }

    /// Returns the last documents; when this key is not among them, waits for a fetch first.
    pub(super) async fn documents_with_key(&self, kid: &str) -> Option<Arc<IssuerDocuments>> {
        self.documents.get_if(|documents| documents.keys.get(kid).is_some()).await
    }

    /// Requests a fetch.
    pub(super) fn request_fetch(&self) {
        self.documents.request_fetch();
    }

    /// Refreshes the keys before they expire. Does not return.
    pub(super) async fn run(&self, fetcher: &Fetcher) {
        self.documents.run(&"keys", || self.fetch(fetcher)).await;
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<Fetch<IssuerDocuments>, String> {
        let failed = |url: &EndpointUrl, path: &str, why: &dyn std::fmt::Display| {
            format!("{url}{path}: {why}")
        };
        let document = fetcher
            .get(&self.url, DISCOVERY)
            .await
            .map_err(|why| failed(&self.url, DISCOVERY, &why))?;
        let Discovery { issuer, jwks_uri } = Discovery::parse(&document.body, &self.url)
            .map_err(|why| failed(&self.url, DISCOVERY, &why))?;
        let FetchResult { headers, body } =
            fetcher.get(&jwks_uri, "").await.map_err(|why| failed(&jwks_uri, "", &why))?;
        let keys = KeySet::parse(&body).map_err(|why| failed(&jwks_uri, "", &why))?;
        tracing::info!(url = %self.url, issuer, keys = keys.len(), "keys fetched");
        let again_in = max_age(&headers).unwrap_or(MAX_AGE).clamp(MIN_AGE, MAX_AGE);
        Ok(Fetch { value: IssuerDocuments { issuer, keys }, refresh_in: again_in })
    }

    pub(super) fn status(&self) -> IssuerStatus {
        let documents = self.documents();
        IssuerStatus {
            url: self.url.to_string(),
            issuer: documents.as_ref().map(|documents| documents.issuer.clone()),
            keys: documents.as_ref().map_or(0, |documents| documents.keys.len()),
            age: self.documents.age(),
            last_error: self.documents.last_error(),
        }
    }
}
