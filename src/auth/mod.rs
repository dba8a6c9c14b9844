//! Which clients may call: all of them (`off`), the holders of a static key, a GitLab by the tokens
//! it signs, its users by the tokens that Weir issues to them.
//!
//! Source: contract::gitlab_client §3, contract::ai_gateway_server §5. The texts of refusals are
//! GitLab's own, word for word: its operators recognise the sentences, and its clients parse them.

mod identity;
mod issue;
mod issuer;
mod jwks;
mod jwt;
mod keys;
mod rates;
mod scopes;
mod signing_key;
#[cfg(test)]
mod tests;
mod trusted;

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, header};

pub use identity::{Caller, Permission};
pub use issue::{IssuedToken, TokenSubject, UserTokenIssuer, UserTokenSettings};
pub use issuer::{Issuer, IssuerStatus};
pub use jwks::{Discovery, DocumentError, KeySet};
pub use jwt::{Claims, Expected, SKEW, Token, TokenError};
pub use keys::StaticKey;
pub use rates::{RateLimiter, RateLimits};
pub use scopes::Scopes;
pub use signing_key::{KeyError, SigningKey, VerifyingKey};
pub use trusted::{IssuerRegistry, KeyRefreshTask, TokenVerifier};

use crate::error::{GatewayError, Kind};
use crate::model::EndpointUrl;

/// `[auth]` and `[gitlab]`, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Settings {
    /// `mode = "off"`
    #[default]
    Off,
    /// `mode = "keys"`: a bearer token must hash to one of these.
    Keys(Vec<Arc<StaticKey>>),
    /// `mode = "gitlab"`: a static key, if any is configured, or a token of an issuer.
    Gitlab {
        /// `static_keys`
        keys: Vec<Arc<StaticKey>>,
        /// The accepted issuers.
        gitlab: GitlabSettings,
    },
}

/// `[gitlab]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitlabSettings {
    /// `url`
    pub url: EndpointUrl,
    /// `cloud_issuer`: CustomersDot, if its tokens are accepted.
    pub cloud_issuer: Option<EndpointUrl>,
    /// `audience`: Weir's name in a token's `aud`.
    pub audience: Box<str>,
}

/// The authentication policy in force, with the keys it verifies with. Built by
/// [`IssuerRegistry::policy`].
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// All clients may call, without credentials.
    #[default]
    Off,
    /// Clients must authenticate.
    Authenticated {
        /// The static keys.
        keys: Vec<Arc<StaticKey>>,
        /// The verifier of issuers' tokens, if any issuer is accepted.
        gitlab: Option<TokenVerifier>,
        /// The issuer of users' tokens, which also verifies them.
        user_tokens: Arc<UserTokenIssuer>,
    },
}

impl Policy {
    /// Authenticates a request by its headers. Returns the caller, or 401 with GitLab's text. Waits
    /// only when the token's key is missing and a fetch that may bring it is due.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Caller, GatewayError> {
        let Self::Authenticated { keys, gitlab, user_tokens } = self else {
            return Ok(Caller::Anonymous);
        };
        let token = credential(headers)?;
        if let Some(key) = StaticKey::find(keys, token) {
            return Ok(Caller::Key(Arc::clone(key)));
        }
        let caller = match (user_tokens.verify(token, now), gitlab) {
            (Some(verified), _) => {
                require_oidc(headers)?;
                Caller::User(verified.map_err(|why| verification_failed(why.to_string()))?)
            }
            (None, Some(gitlab)) => {
                require_oidc(headers)?;
                Caller::Gitlab(gitlab.verify(token, now).await?)
            }
            (None, None) => return Err(verification_failed("not one of auth.static_keys")),
        };
        match identity::find_mismatch(&caller, headers) {
            Some(which) => Err(unauthorized(which)),
            None => Ok(caller),
        }
    }

    /// Returns the mode in force: `off`, `keys` or `gitlab`.
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Authenticated { gitlab: None, .. } => "keys",
            Self::Authenticated { gitlab: Some(_), .. } => "gitlab",
        }
    }

    /// Returns the number of static keys.
    pub const fn static_key_count(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::Authenticated { keys, .. } => keys.len(),
        }
    }

    /// Returns the status of each accepted issuer, with the state of its keys.
    pub fn issuer_statuses(&self) -> Vec<IssuerStatus> {
        match self {
            Self::Authenticated { gitlab: Some(verifier), .. } => verifier.status(),
            Self::Off | Self::Authenticated { gitlab: None, .. } => Vec::new(),
        }
    }
}

/// Checks that the token is sent as `oidc`. GitLab sends this header with every token, and
/// instructs IDEs to do so.
fn require_oidc(headers: &HeaderMap) -> Result<(), GatewayError> {
    let mut types = headers.get_all("x-gitlab-authentication-type").iter();
    match (types.next(), types.next()) {
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"oidc") => Ok(()),
        _ => Err(unauthorized("Invalid authentication token type - only OIDC is supported")),
    }
}

/// Builds the 401 for a token that fails verification; the reason is for the operator only.
fn verification_failed(why: impl Into<String>) -> GatewayError {
    unauthorized("Forbidden by auth provider").internal(why)
}

fn unauthorized(text: &'static str) -> GatewayError {
    GatewayError::new(Kind::Unauthorized, text)
}

/// Returns the client's credential: `Authorization: Bearer …`, else `x-api-key`, which Anthropic's
/// clients send. Fails with 401 when there is none, when it is empty, or when there are two.
fn credential(headers: &HeaderMap) -> Result<&[u8], GatewayError> {
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (authorization.next(), headers.get("x-api-key")) {
        (None, None) => return Err(unauthorized("No authorization header presented")),
        (None, Some(key)) => key.as_bytes(),
        (Some(value), _) => match value.as_bytes().split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => b"",
        },
    };
    let token = token.trim_ascii();
    // two headers: a proxy between the client and us may have checked the other one. An empty token
    // is what GitLab sends without a licence (contract::gitlab_client §3.1)
    if token.is_empty() || authorization.next().is_some() {
        return Err(unauthorized("Invalid authorization header"));
    }
    Ok(token)
}
