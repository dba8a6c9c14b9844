//! What an issuer publishes: its discovery document and its key set. Pure. Source: gitlab-client.md
//! §3.3, RFC 7517, RFC 8414 §3.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, header};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::model::{EndpointUrl, Scheme};

/// GitLab publishes four to six.
const MAX_KEYS: usize = 64;
/// What ring verifies with; GitLab's keys have 2048 bits.
const MIN_BITS: usize = 2048;

/// Where the keys are, and who signs with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// What `iss` says in the issuer's tokens.
    pub issuer: String,
    /// Where the key set is.
    pub jwks_uri: EndpointUrl,
}

/// Why a document is not what an issuer publishes. `Display` is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishedError {
    /// Not the JSON that is expected.
    #[error("not {0}: {1}")]
    Json(&'static str, String),
    /// The key set's address.
    #[error("the discovery document's jwks_uri: {0}")]
    Address(String),
    /// Nothing to verify RS256 with.
    #[error("the key set holds no RSA key for signatures")]
    NoKeys,
}

impl Discovery {
    /// Parses the document that was found at `url`.
    ///
    /// Its `issuer` need not be `url`: behind a proxy GitLab is reached by one address and signs
    /// with another, and whoever can serve this document can serve the keys as well.
    pub fn parse(body: &[u8], url: &EndpointUrl) -> Result<Self, PublishedError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let Document { issuer, jwks_uri } = serde_json::from_slice(body)
            .map_err(|error| PublishedError::Json("a discovery document", error.to_string()))?;
        let jwks_uri = EndpointUrl::parse(&jwks_uri)
            .map_err(|error| PublishedError::Address(error.to_string()))?;
        if url.scheme() == Scheme::Https && jwks_uri.scheme() == Scheme::Http {
            return Err(PublishedError::Address(format!(
                "{jwks_uri} is plain HTTP, the issuer is not"
            )));
        }
        Ok(Self { issuer, jwks_uri })
    }
}

/// The keys that tokens may be verified with, by `kid`.
#[derive(Clone, Debug)]
pub struct KeySet(HashMap<String, DecodingKey>);

impl KeySet {
    /// Parses a key set. Keys of another kind, for another use or too weak are left out: GitLab's
    /// set is mixed.
    pub fn parse(body: &[u8]) -> Result<Self, PublishedError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys } = serde_json::from_slice(body)
            .map_err(|error| PublishedError::Json("a key set", error.to_string()))?;
        let keys: HashMap<_, _> = keys.iter().filter_map(key).take(MAX_KEYS).collect();
        if keys.is_empty() { Err(PublishedError::NoKeys) } else { Ok(Self(keys)) }
    }

    /// The key of this id.
    pub fn get(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.get(kid)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a set without keys does not parse.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A key for RS256 signatures, with its id.
fn key(value: &Value) -> Option<(String, DecodingKey)> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let is_for_us = text("kty") == Some("RSA")
        && matches!(text("use"), None | Some("sig"))
        && matches!(text("alg"), None | Some("RS256"));
    let (kid, n, e) = (text("kid")?, text("n")?, text("e")?);
    // six bits a digit; a leading zero byte makes a weak key look stronger here, and ring refuses
    // it then
    let is_strong = n.len() * 6 >= MIN_BITS;
    (is_for_us && is_strong && !kid.is_empty())
        .then(|| Some((kid.to_owned(), DecodingKey::from_rsa_components(n, e).ok()?)))?
}

/// How long an answer says it may be kept (`Cache-Control: max-age`).
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values =
        headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let seconds = values.flat_map(|value| value.split(',')).find_map(|part| {
        part.trim().to_ascii_lowercase().strip_prefix("max-age=")?.trim_matches('"').parse().ok()
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::{Discovery, KeySet, PublishedError, max_age};
    use crate::model::EndpointUrl;

    fn discovery(url: &str, body: &str) -> Result<Discovery, PublishedError> {
        Discovery::parse(body.as_bytes(), &EndpointUrl::parse(url).unwrap())
    }

    #[test]
    fn only_strong_keys_for_rs256_signatures_are_kept() {
        let set = KeySet::parse(include_bytes!("../../tests/golden/jwt/jwks.json")).unwrap();
        assert_eq!(set.len(), 2);
        for odd in ["ec", "for-encryption", "other-algorithm", "shared", "weak"] {
            assert!(set.get(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn one_odd_key_does_not_spoil_the_set_and_none_is_no_set() {
        let good = include_str!("../../tests/golden/jwt/jwks.json");
        let odd = good.replacen(
            "\"keys\": [",
            "\"keys\": [null, 7, {}, {\"kty\": \"RSA\", \"kid\": \"x\", \"n\": 1},",
            1,
        );
        assert_eq!(KeySet::parse(odd.as_bytes()).unwrap().len(), 2);
        assert_eq!(KeySet::parse(b"{\"keys\": []}").unwrap_err(), PublishedError::NoKeys);
        assert!(matches!(KeySet::parse(b"<html>"), Err(PublishedError::Json(..))));
    }

    #[test]
    fn discovery_may_name_another_issuer_but_not_leave_tls() {
        let body = r#"{"issuer": "https://gitlab.example.com", "jwks_uri": "https://gitlab.example.com/oauth/discovery/keys"}"#;
        let found = discovery("http://gitlab.internal", body).unwrap();
        assert_eq!(found.issuer, "https://gitlab.example.com");
        assert_eq!(found.jwks_uri.to_string(), "https://gitlab.example.com/oauth/discovery/keys");
        let plain = r#"{"issuer": "https://g", "jwks_uri": "http://g/keys"}"#;
        assert!(matches!(discovery("https://g", plain), Err(PublishedError::Address(_))));
        assert!(matches!(discovery("https://g", "{}"), Err(PublishedError::Json(..))));
        assert!(matches!(
            discovery("https://g", r#"{"issuer": "i", "jwks_uri": "file:///etc/passwd"}"#),
            Err(PublishedError::Address(_))
        ));
    }

    #[test]
    fn reads_how_long_an_answer_may_be_kept() {
        let of = |value: &'static str| {
            max_age(&HeaderMap::from_iter([(
                http::header::CACHE_CONTROL,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(of("public, Max-Age=86400, must-revalidate"), Some(Duration::from_secs(86_400)));
        assert_eq!(
            (of("no-store"), of("max-age=-1"), max_age(&HeaderMap::new())),
            (None, None, None)
        );
    }
}
