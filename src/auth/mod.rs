//! Who may call. This version knows two modes: `off`, for loopback and labs, and static keys for clients
//! that are not GitLab; GitLab's own tokens come with the *Identity* issue and are refused until then.

mod keys;

use http::{HeaderMap, header};

pub use keys::KeyHash;

use crate::error::{GatewayError, Kind};

/// `[auth]`, checked.
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// Everybody may call (`mode = "off"`).
    #[default]
    Off,
    /// `static_keys`: a bearer token must hash to one of these.
    Keys(Vec<KeyHash>),
}

impl Policy {
    /// Admits or refuses by the `Authorization` header (`Bearer …`) or `x-api-key`.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), GatewayError> {
        let Self::Keys(keys) = self else {
            return Ok(());
        };
        let refused = |text: &'static str| Err(GatewayError::new(Kind::Unauthorized, text));
        // the sentences are GitLab's (gitlab-client.md §3.5): its operators know them
        let token = match (headers.get(header::AUTHORIZATION), headers.get("x-api-key")) {
            (None, None) => return refused("No authorization header presented"),
            (None, Some(key)) => key.as_bytes(),
            (Some(value), _) => match value.as_bytes().split_at_checked(7) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
                _ => return refused("Invalid authorization header"),
            },
        };
        let presented = KeyHash::of(token.trim_ascii());
        // every key is compared, so that the time says nothing about which one matched
        let known = keys.iter().fold(false, |known, key| known | key.same_as(&presented));
        if known { Ok(()) } else { refused("Forbidden by auth provider") }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{KeyHash, Policy};

    #[test]
    fn admits_only_known_keys() {
        let policy = Policy::Keys(vec![KeyHash::of(b"one"), KeyHash::of(b"two")]);
        let admit = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            policy.admit(&headers).map_err(|e| e.public().to_owned())
        };
        assert_eq!(admit("authorization", "Bearer two"), Ok(()));
        assert_eq!(admit("x-api-key", "one"), Ok(()));
        assert_eq!(admit("authorization", "Bearer "), Err("Forbidden by auth provider".into()));
        assert_eq!(admit("authorization", "Basic two"), Err("Invalid authorization header".into()));
        assert_eq!(admit("accept", "x"), Err("No authorization header presented".into()));
    }
}
