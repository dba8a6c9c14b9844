//! Whose tokens are accepted, and the one task that keeps their keys: a GitLab, and CustomersDot if
//! the operator names it. Nothing is asked of CustomersDot otherwise: an instance without a way out
//! would wait for it.

use std::future::pending;
use std::sync::{Arc, Once, OnceLock};
use std::time::SystemTime;

use tokio::sync::watch;

use super::issuer::{Issuer, IssuerStatus};
use super::jwt::{Claims, Expected, Refused, Token, shown};
use super::signing_key::SigningKey;
use super::{
    GitlabSettings, Policy, Settings, TokenSettings, UserTokens, forbidden as not_believed,
};
use crate::error::{GatewayError, Kind};
use crate::model::EndpointUrl;
use crate::upstream::Fetcher;

/// Verifies the tokens of one or two issuers.
#[derive(Clone, Debug)]
pub struct Trust {
    audience: Box<str>,
    trusted: Trusted,
}

#[derive(Clone, Debug)]
struct Trusted {
    gitlab: Arc<Issuer>,
    cloud: Option<Arc<Issuer>>,
}

impl Trusted {
    fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        std::iter::once(&self.gitlab).chain(&self.cloud)
    }

    fn is(&self, other: &Self) -> bool {
        self.iter().map(Arc::as_ptr).eq(other.iter().map(Arc::as_ptr))
    }
}

impl Trust {
    /// What a token says, if it is one of theirs.
    pub(super) async fn verify(
        &self,
        token: &[u8],
        now: SystemTime,
    ) -> Result<Claims, GatewayError> {
        let forbidden = |why: &Refused| not_believed(why.to_string());
        let token = Token::read(token).map_err(|why| forbidden(&why))?;
        let issuer = self
            .issuer_of(&token)
            .ok_or_else(|| forbidden(&Refused::UnknownIssuer(shown(token.issuer()))))?;
        let Some(published) = issuer.published_with(token.kid()).await else {
            return Err(no_keys(issuer));
        };
        let key = published.keys.get(token.kid()).ok_or_else(|| {
            forbidden(&Refused::UnknownKey {
                kid: shown(token.kid()),
                issuer: published.issuer.clone(),
            })
        })?;
        let expected = Expected { issuer: &published.issuer, audience: &self.audience };
        token.verify(key, expected, now).map_err(|why| forbidden(&why))
    }

    /// Who may have issued a token. An issuer that was never reached has not said its name yet: it
    /// may be any.
    fn issuer_of(&self, token: &Token<'_>) -> Option<&Arc<Issuer>> {
        let named =
            |issuer: &&Arc<Issuer>| issuer.published().is_some_and(|p| p.issuer == token.issuer());
        let unnamed = |issuer: &&Arc<Issuer>| issuer.published().is_none();
        self.trusted.iter().find(named).or_else(|| self.trusted.iter().find(unnamed))
    }

    pub(super) fn status(&self) -> Vec<IssuerStatus> {
        self.trusted.iter().map(|issuer| issuer.status()).collect()
    }
}

/// Not the caller's fault: 401 would send the administrator to look at the token.
fn no_keys(issuer: &Issuer) -> GatewayError {
    let status = issuer.status();
    let why = status.fault.unwrap_or_else(|| "not asked yet".to_owned());
    GatewayError::new(
        Kind::NoSigningKeys,
        "Weir could not fetch the keys that GitLab's tokens are verified with",
    )
    .internal(format!("no keys of {}: {why}", status.url))
}

/// Makes issuers, and finds again those it made: one per process.
#[derive(Debug)]
pub struct Issuers {
    trusted: watch::Sender<Option<Trusted>>,
    /// The key of our own tokens that was made because the operator gave none.
    made: OnceLock<Option<Arc<SigningKey>>>,
    told: Once,
}

impl Default for Issuers {
    fn default() -> Self {
        Self { trusted: watch::Sender::new(None), made: OnceLock::new(), told: Once::new() }
    }
}

impl Issuers {
    /// The rule that these settings make. Issuers that were there keep their keys and are asked for
    /// new ones, so that a reload is also the way to drop a key that GitLab has withdrawn.
    pub fn policy(&self, settings: Settings, own: Arc<UserTokens>) -> Policy {
        let (keys, gitlab) = match settings {
            Settings::Off => return self.closed(None, Policy::Off),
            Settings::Keys(keys) => (keys, None),
            Settings::Gitlab { keys, gitlab } => (keys, Some(gitlab)),
        };
        if own.is_signed_with(self.made.get().and_then(Option::as_ref)) {
            self.told.call_once(tell_of_made_key);
        }
        let trust = gitlab.map(|GitlabSettings { url, cloud_issuer, audience }| {
            // pointing both at GitLab is how offline installations silence the official gateway
            let cloud = cloud_issuer.filter(|cloud| *cloud != url);
            Trust {
                audience,
                trusted: Trusted {
                    gitlab: self.issuer(&url),
                    cloud: cloud.map(|url| self.issuer(&url)),
                },
            }
        });
        let trusted = trust.as_ref().map(|trust| trust.trusted.clone());
        self.closed(trusted, Policy::Closed { keys, gitlab: trust, own })
    }

    /// Ourselves, as an issuer of users' tokens. Without a key of the operator's one is made, once
    /// in the life of the process, so that a reload ends no token.
    pub fn user_tokens(&self, settings: TokenSettings) -> UserTokens {
        let TokenSettings { signing, validation } = settings;
        let signing = signing.or_else(|| self.made.get_or_init(make).clone());
        UserTokens::new(signing, validation)
    }

    /// What keeps the keys of whichever issuers are in force. Run it once.
    pub fn refresher(&self, fetcher: Fetcher) -> Refresher {
        Refresher { trusted: self.trusted.subscribe(), fetcher }
    }

    fn closed(&self, trusted: Option<Trusted>, policy: Policy) -> Policy {
        self.trusted.send_if_modified(|current| {
            let same = match (&*current, &trusted) {
                (None, None) => true,
                (Some(old), Some(new)) => old.is(new),
                (None, Some(_)) | (Some(_), None) => false,
            };
            *current = trusted;
            !same
        });
        policy
    }

    fn issuer(&self, url: &EndpointUrl) -> Arc<Issuer> {
        let current = self.trusted.borrow();
        let known = current.iter().flat_map(Trusted::iter).find(|issuer| issuer.url() == url);
        let Some(known) = known else {
            return Arc::new(Issuer::new(url.clone()));
        };
        known.ask();
        Arc::clone(known)
    }
}

/// Makes a signing key. Without one no token is issued, and everything else works.
fn make() -> Option<Arc<SigningKey>> {
    let made = SigningKey::generate();
    made.map_err(|why| tracing::error!("no key for users' tokens could be made: {why}"))
        .map(Arc::new)
        .ok()
}

fn tell_of_made_key() {
    tracing::info!(
        "auth.user_tokens.signing_key is not set: a key was made for the tokens that IDEs get for code completion. \
         They end with this process, and other replicas refuse them: give all replicas one key"
    );
}

/// The one task that fetches keys.
pub struct Refresher {
    trusted: watch::Receiver<Option<Trusted>>,
    fetcher: Fetcher,
}

impl Refresher {
    /// Runs until the [`Issuers`] are gone.
    pub async fn run(mut self) {
        loop {
            let trusted = self.trusted.borrow_and_update().clone();
            let keep = async {
                let Some(Trusted { gitlab, cloud }) = trusted else { return pending().await };
                let cloud = async {
                    match cloud {
                        Some(cloud) => cloud.keep(&self.fetcher).await,
                        None => pending().await,
                    }
                };
                tokio::join!(gitlab.keep(&self.fetcher), cloud);
            };
            tokio::select! {
                () = keep => {}
                changed = self.trusted.changed() => if changed.is_err() { return },
            }
        }
    }
}
