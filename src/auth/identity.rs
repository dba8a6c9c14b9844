//! The identity of a caller, and what it may do. Sources: contract::gitlab_client §5.1, §5.3;
//! contract::ai_gateway_server §5.3.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::jwt::Claims;
use super::scopes::Scopes;
use super::{RateLimits, StaticKey};
use crate::error::{GatewayError, Kind};
use crate::model::Model;

/// The authenticated client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Any client; authentication is off (`mode = "off"`).
    Anonymous,
    /// The holder of a static key, authorized for every endpoint, on the models that the key is
    /// for.
    Key(Arc<StaticKey>),
    /// A GitLab instance, authenticated by its own token.
    Gitlab(Claims),
    /// A user of a GitLab instance, authenticated by a token that Weir issued.
    User(Claims),
}

/// The permission that an endpoint requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The scopes of which the token must carry at least one.
    pub any_of: Scopes,
    /// The action, for the error text: mostly `access`.
    pub action: &'static str,
    /// The object of the action, in GitLab's terms: `Unauthorized to {action} {object}`.
    pub object: Cow<'static, str>,
    /// Whether users' own tokens, which IDEs hold, are accepted: only for code completion (issue 5,
    /// item 2).
    pub user_tokens: bool,
}

impl Permission {
    /// Creates the permission to `access` something with GitLab's own token, not with one of its
    /// users'.
    pub fn to_access(any_of: Scopes, what: impl Into<Cow<'static, str>>) -> Self {
        Self { any_of, action: "access", object: what.into(), user_tokens: false }
    }
}

impl Caller {
    /// Checks that this caller has the permission. Fails with 403 when it lacks every scope, or
    /// when the endpoint does not accept users' tokens.
    pub fn authorize(&self, permission: &Permission) -> Result<(), GatewayError> {
        let refused = |why: &str| {
            let text = format!("Unauthorized to {} {}", permission.action, permission.object);
            Err(GatewayError::new(Kind::Forbidden, text).internal(why))
        };
        match self {
            Self::User(_) if !permission.user_tokens => {
                refused("a user's token is for code completion only")
            }
            Self::Gitlab(claims) | Self::User(claims)
                if !claims.scopes.intersects(permission.any_of) =>
            {
                refused("the token's scopes do not allow it")
            }
            Self::Anonymous | Self::Key(_) | Self::Gitlab(_) | Self::User(_) => Ok(()),
        }
    }

    /// Checks that this caller may use this model. Fails with 403 when its key is restricted to
    /// other models of the file.
    pub fn can_use(&self, model: &Model) -> Result<(), GatewayError> {
        match self {
            Self::Key(key) if !key.allows_model(&model.id) => {
                let text = format!(
                    "This key is not for the model {} (models in auth.static_keys)",
                    model.id
                );
                Err(GatewayError::new(Kind::Forbidden, text).internal(format!("key {}", key.name)))
            }
            Self::Anonymous | Self::Key(_) | Self::Gitlab(_) | Self::User(_) => Ok(()),
        }
    }

    /// Returns this caller's rate limits: a key's own, and those of `base` where it has none.
    pub fn rate_limits(&self, base: RateLimits) -> RateLimits {
        match self {
            Self::Key(key) => key.rate_limits.or(base),
            Self::Anonymous | Self::Gitlab(_) | Self::User(_) => base,
        }
    }

    /// Returns the key that this caller's requests are counted under: a static key's name, a
    /// GitLab's instance id (its users count towards it), or the client's address when
    /// authentication is off.
    pub fn rate_limit_key(&self, client: Option<IpAddr>) -> String {
        match self {
            Self::Anonymous => {
                client.map_or_else(|| "address".to_owned(), |client| format!("address {client}"))
            }
            Self::Key(key) => format!("key {}", key.name),
            Self::Gitlab(claims) => format!("gitlab {}", claims.subject),
            Self::User(claims) => format!("gitlab {}", claims.instance_id),
        }
    }

    /// Checks that this caller may choose a model and its address in a request. GitLab's
    /// administrators may, its users may not (403): the gateway would connect to internal addresses
    /// for them, and IDEs never send any (contract::gitlab_client §6.4).
    pub fn can_choose_model(&self) -> Result<(), GatewayError> {
        match self {
            Self::User(_) => Err(GatewayError::new(
                Kind::Forbidden,
                "A user's token is bound to the administrator's model: the request may name no other",
            )),
            Self::Anonymous | Self::Key(_) | Self::Gitlab(_) => Ok(()),
        }
    }

    /// Returns the model that the caller's token is bound to, by its name in the file; `None` when
    /// it is bound to none.
    pub fn pinned_model(&self) -> Option<&str> {
        match self {
            Self::User(claims) if !claims.model.is_empty() => Some(&claims.model),
            Self::Anonymous | Self::Key(_) | Self::Gitlab(_) | Self::User(_) => None,
        }
    }
}

/// Compares the identity headers with the token's claims. Returns GitLab's error text for the first
/// header that differs, or `None` when all agree. An empty claim is not compared
/// (contract::gitlab_client §3.5); a header that is sent twice is wrong if either value is.
pub(super) fn find_mismatch(caller: &Caller, headers: &HeaderMap) -> Option<&'static str> {
    let (claims, instance, user) = match caller {
        Caller::Anonymous | Caller::Key(_) => return None,
        Caller::Gitlab(claims) => (claims, claims.subject.as_str(), ""),
        Caller::User(claims) => (claims, "", claims.subject.as_str()),
    };
    let differs = |name: &str, claim: &str| {
        let mut values =
            headers.get_all(name).iter().map(|value| value.as_bytes() == claim.as_bytes());
        let agrees = values.next() == Some(true) && values.all(|same| same);
        !claim.is_empty() && !agrees
    };
    if differs("x-gitlab-realm", &claims.realm) {
        Some("Header mismatch 'X-Gitlab-Realm'")
    } else if differs("x-gitlab-instance-id", &claims.instance_id)
        || differs("x-gitlab-instance-id", instance)
    {
        Some("Header mismatch 'X-Gitlab-Instance-Id'")
    } else if differs("x-gitlab-global-user-id", user) {
        Some("Header mismatch 'X-Gitlab-Global-User-Id'")
    } else {
        None
    }
}
