//! The accepted issuers, and the one task that refreshes their keys: a GitLab, and CustomersDot if
//! the operator configures it. Otherwise nothing is sent to CustomersDot: an instance without
//! internet access would wait for it.

use std::future::pending;
use std::sync::{Arc, Once, OnceLock};
use std::time::SystemTime;

use tokio::sync::watch;

use super::issuer::{Issuer, IssuerStatus};
use super::jwt::{Claims, Expected, Token, TokenError, excerpt};
use super::signing_key::SigningKey;
use super::{
    GitlabSettings, Policy, Settings, UserTokenIssuer, UserTokenSettings, verification_failed,
};
use crate::error::{GatewayError, Kind};
use crate::model::EndpointUrl;
use crate::upstream::Fetcher;

/// Verifies the tokens of one or two issuers.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    audience: Box<str>,
    issuers: IssuerSet,
}

#[derive(Clone, Debug)]
struct IssuerSet {
    gitlab: Arc<Issuer>,
    cloud: Option<Arc<Issuer>>,
}

impl IssuerSet {
    fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        std::iter::once(&self.gitlab).chain(&self.cloud)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.iter().map(Arc::as_ptr).eq(other.iter().map(Arc::as_ptr))
    }
}

impl TokenVerifier {
    /// Verifies a token and returns its claims. Fails with 401 when it is not a valid token of an
    /// accepted issuer, and with 503 when the issuer's keys could not be fetched.
    pub(super) async fn verify(
        &self,
        token: &[u8],
        now: SystemTime,
    ) -> Result<Claims, GatewayError> {
        let rejected = |why: &TokenError| verification_failed(why.to_string());
        let token = Token::parse(token).map_err(|why| rejected(&why))?;
        let issuer = self
            .issuer_of(&token)
            .ok_or_else(|| rejected(&TokenError::UnknownIssuer(excerpt(token.issuer()))))?;
        let Some(documents) = issuer.documents_with_key(token.kid()).await else {
            return Err(no_keys(issuer));
        };
        let key = documents.keys.get(token.kid()).ok_or_else(|| {
            rejected(&TokenError::UnknownKey {
                kid: excerpt(token.kid()),
                issuer: documents.issuer.clone(),
            })
        })?;
        let expected = Expected { issuer: &documents.issuer, audience: &self.audience };
        token.verify(key, expected, now).map_err(|why| rejected(&why))
    }

    /// Returns the issuer that a token claims. An issuer that was never reached has no known name
    /// yet: it matches any.
    fn issuer_of(&self, token: &Token<'_>) -> Option<&Arc<Issuer>> {
        let named = |issuer: &&Arc<Issuer>| {
            issuer.documents().is_some_and(|documents| documents.issuer == token.issuer())
        };
        let unnamed = |issuer: &&Arc<Issuer>| issuer.documents().is_none();
        self.issuers.iter().find(named).or_else(|| self.issuers.iter().find(unnamed))
    }

    pub(super) fn status(&self) -> Vec<IssuerStatus> {
        self.issuers.iter().map(|issuer| issuer.status()).collect()
    }
}

/// Builds the error for missing keys. The caller is not at fault: a 401 would send the
/// administrator to look at the token.
fn no_keys(issuer: &Issuer) -> GatewayError {
    let status = issuer.status();
    let why = status.last_error.unwrap_or_else(|| "not fetched yet".to_owned());
    GatewayError::new(
        Kind::NoSigningKeys,
        "Weir could not fetch the keys that GitLab's tokens are verified with",
    )
    .internal(format!("no keys of {}: {why}", status.url))
}

/// Creates issuers, and keeps them across reloads: one per process.
#[derive(Debug)]
pub struct IssuerRegistry {
    issuers: watch::Sender<Option<IssuerSet>>,
    /// The generated key for our own tokens, when the operator configured none.
    generated_key: OnceLock<Option<Arc<SigningKey>>>,
    generated_key_logged: Once,
}

impl Default for IssuerRegistry {
    fn default() -> Self {
        Self {
            issuers: watch::Sender::new(None),
            generated_key: OnceLock::new(),
            generated_key_logged: Once::new(),
        }
    }
}

impl IssuerRegistry {
    /// Builds the policy of these settings. Issuers that exist already keep their keys, and a fetch
    /// is requested, so that a reload is also how an operator drops a key that GitLab has
    /// withdrawn.
    pub fn policy(&self, settings: Settings, user_tokens: Arc<UserTokenIssuer>) -> Policy {
        let (keys, gitlab) = match settings {
            Settings::Off => return self.publish(None, Policy::Off),
            Settings::Keys(keys) => (keys, None),
            Settings::Gitlab { keys, gitlab } => (keys, Some(gitlab)),
        };
        if user_tokens.is_signed_with(self.generated_key.get().and_then(Option::as_ref)) {
            self.generated_key_logged.call_once(log_generated_key);
        }
        let verifier = gitlab.map(|GitlabSettings { url, cloud_issuer, audience }| {
            // pointing both at GitLab is how offline installations silence the official gateway
            let cloud = cloud_issuer.filter(|cloud| *cloud != url);
            TokenVerifier {
                audience,
                issuers: IssuerSet {
                    gitlab: self.issuer(&url),
                    cloud: cloud.map(|url| self.issuer(&url)),
                },
            }
        });
        let issuers = verifier.as_ref().map(|verifier| verifier.issuers.clone());
        self.publish(issuers, Policy::Authenticated { keys, gitlab: verifier, user_tokens })
    }

    /// Creates the issuer of users' tokens. If no key is configured, one is generated once per
    /// process, so that a reload invalidates no token.
    pub fn user_tokens(&self, settings: UserTokenSettings) -> UserTokenIssuer {
        let UserTokenSettings { signing, validation } = settings;
        let signing = signing.or_else(|| self.generated_key.get_or_init(generate_key).clone());
        UserTokenIssuer::new(signing, validation)
    }

    /// Returns the task that refreshes the keys of the issuers in force. Run it once.
    pub fn refresh_task(&self, fetcher: Fetcher) -> KeyRefreshTask {
        KeyRefreshTask { issuers: self.issuers.subscribe(), fetcher }
    }

    fn publish(&self, issuers: Option<IssuerSet>, policy: Policy) -> Policy {
        self.issuers.send_if_modified(|current| {
            let same = match (&*current, &issuers) {
                (None, None) => true,
                (Some(old), Some(new)) => old.is_same(new),
                (None, Some(_)) | (Some(_), None) => false,
            };
            *current = issuers;
            !same
        });
        policy
    }

    fn issuer(&self, url: &EndpointUrl) -> Arc<Issuer> {
        let current = self.issuers.borrow();
        let known = current.iter().flat_map(IssuerSet::iter).find(|issuer| issuer.url() == url);
        let Some(known) = known else {
            return Arc::new(Issuer::new(url.clone()));
        };
        known.request_fetch();
        Arc::clone(known)
    }
}

/// Generates a signing key. Without one no token is issued, and everything else works.
fn generate_key() -> Option<Arc<SigningKey>> {
    let key = SigningKey::generate();
    key.map_err(|why| tracing::error!("no key for users' tokens could be generated: {why}"))
        .map(Arc::new)
        .ok()
}

fn log_generated_key() {
    tracing::info!(
        "auth.user_tokens.signing_key is not set: a key was generated for the tokens that IDEs use for code completion. \
         They end with this process, and other replicas refuse them: give all replicas one key"
    );
}

/// The one task that fetches keys.
pub struct KeyRefreshTask {
    issuers: watch::Receiver<Option<IssuerSet>>,
    fetcher: Fetcher,
}

impl KeyRefreshTask {
    /// Runs until the [`IssuerRegistry`] are dropped.
    pub async fn run(mut self) {
        loop {
            let issuers = self.issuers.borrow_and_update().clone();
            let refresh = async {
                let Some(IssuerSet { gitlab, cloud }) = issuers else { return pending().await };
                let cloud = async {
                    match cloud {
                        Some(cloud) => cloud.run(&self.fetcher).await,
                        None => pending().await,
                    }
                };
                tokio::join!(gitlab.run(&self.fetcher), cloud);
            };
            tokio::select! {
                () = refresh => {}
                changed = self.issuers.changed() => if changed.is_err() { return },
            }
        }
    }
}
