//! Who may call: everybody (`off`), the holders of a static key, a GitLab by the tokens it signs,
//! its users by the tokens that we issue them.
//!
//! Source: gitlab-client.md §3, ai-gateway-server.md §5. What a request is refused with is GitLab's
//! own, word for word: its operators know the sentences, and its clients read them.

mod identity;
mod issue;
mod issuer;
mod jwks;
mod jwt;
mod keys;
mod rates;
mod signing_key;
#[cfg(test)]
mod tests;
mod trusted;

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, header};

pub use identity::{Caller, Permission, Scopes};
pub use issue::{Issued, TokenSettings, User, UserTokens};
pub use issuer::{Issuer, IssuerStatus};
pub use jwks::{Discovery, KeySet, PublishedError};
pub use jwt::{Claims, Expected, Refused, SKEW, Token};
pub use keys::StaticKey;
pub use rates::{Meters, Rates};
pub use signing_key::{KeyError, SigningKey, VerifyingKey};
pub use trusted::{Issuers, Refresher, Trust};

use crate::error::{GatewayError, Kind};
use crate::model::EndpointUrl;

/// `[auth]` and `[gitlab]`, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Settings {
    /// `mode = "off"`
    #[default]
    Off,
    /// `mode = "keys"`: a bearer token must hash to one of these.
    Keys(Vec<Arc<StaticKey>>),
    /// `mode = "gitlab"`: a static key, if there are any, or a token of an issuer.
    Gitlab {
        /// `static_keys`
        keys: Vec<Arc<StaticKey>>,
        /// Whose tokens.
        gitlab: GitlabSettings,
    },
}

/// `[gitlab]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitlabSettings {
    /// `url`
    pub url: EndpointUrl,
    /// `cloud_issuer`: CustomersDot, if its tokens are accepted.
    pub cloud_issuer: Option<EndpointUrl>,
    /// `audience`: who we are in a token's `aud`.
    pub audience: Box<str>,
}

/// The rule in force, with the keys it goes by. Made by [`Issuers::policy`].
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// Everybody may call.
    #[default]
    Off,
    /// Callers say who they are.
    Closed {
        /// The static keys.
        keys: Vec<Arc<StaticKey>>,
        /// Whose tokens, if any are accepted.
        gitlab: Option<Trust>,
        /// Our own tokens.
        own: Arc<UserTokens>,
    },
}

impl Policy {
    /// Admits or refuses by the request's headers. Waits only for a key that a fetch under way may
    /// bring.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Caller, GatewayError> {
        let Self::Closed { keys, gitlab, own } = self else {
            return Ok(Caller::Anyone);
        };
        let token = credential(headers)?;
        if let Some(key) = StaticKey::presented(keys, token) {
            return Ok(Caller::Key(Arc::clone(key)));
        }
        let caller = match (own.verify(token, now), gitlab) {
            (Some(verified), _) => {
                is_oidc(headers)?;
                Caller::User(verified.map_err(|why| forbidden(why.to_string()))?)
            }
            (None, Some(gitlab)) => {
                is_oidc(headers)?;
                Caller::Gitlab(gitlab.verify(token, now).await?)
            }
            (None, None) => return Err(forbidden("not one of auth.static_keys")),
        };
        match identity::mismatch(&caller, headers) {
            Some(which) => Err(refused(which)),
            None => Ok(caller),
        }
    }

    /// `off`, `keys` or `gitlab`.
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Closed { gitlab: None, .. } => "keys",
            Self::Closed { gitlab: Some(_), .. } => "gitlab",
        }
    }

    /// How many static keys there are.
    pub const fn static_keys(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::Closed { keys, .. } => keys.len(),
        }
    }

    /// Whose tokens are accepted, and how their keys are.
    pub fn issuers(&self) -> Vec<IssuerStatus> {
        match self {
            Self::Closed { gitlab: Some(trust), .. } => trust.status(),
            Self::Off | Self::Closed { gitlab: None, .. } => Vec::new(),
        }
    }
}

/// GitLab says so beside every token, and tells IDEs to.
fn is_oidc(headers: &HeaderMap) -> Result<(), GatewayError> {
    let mut types = headers.get_all("x-gitlab-authentication-type").iter();
    match (types.next(), types.next()) {
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"oidc") => Ok(()),
        _ => Err(refused("Invalid authentication token type - only OIDC is supported")),
    }
}

/// A token that is not believed; why is for the operator.
fn forbidden(why: impl Into<String>) -> GatewayError {
    refused("Forbidden by auth provider").internal(why)
}

fn refused(text: &'static str) -> GatewayError {
    GatewayError::new(Kind::Unauthorized, text)
}

/// What the client presents: `Authorization: Bearer …`, else `x-api-key`, as Anthropic's clients
/// send it.
fn credential(headers: &HeaderMap) -> Result<&[u8], GatewayError> {
    let mut presented = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (presented.next(), headers.get("x-api-key")) {
        (None, None) => return Err(refused("No authorization header presented")),
        (None, Some(key)) => key.as_bytes(),
        (Some(value), _) => match value.as_bytes().split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => b"",
        },
    };
    let token = token.trim_ascii();
    // two headers: whoever stands between us and the client may have read the other one. An empty
    // token is what GitLab sends without a licence (gitlab-client.md §3.1)
    if token.is_empty() || presented.next().is_some() {
        return Err(refused("Invalid authorization header"));
    }
    Ok(token)
}
