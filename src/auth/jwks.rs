//! What an issuer publishes: its discovery document and its key set. Pure. Source:
//! contract::gitlab_client §3.3, RFC 7517, RFC 8414 §3.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, header};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::model::{EndpointUrl, Scheme};

/// The most keys that are kept; GitLab publishes four to six.
const MAX_KEYS: usize = 64;
/// The smallest key that ring verifies with; GitLab's keys have 2048 bits.
const MIN_BITS: usize = 2048;

/// A discovery document: the issuer's name and the address of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// `iss` of the issuer's tokens.
    pub issuer: String,
    /// The address of the key set.
    pub jwks_uri: EndpointUrl,
}

/// Why a document is rejected. `Display` is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not the expected JSON.
    #[error("not {0}: {1}")]
    Json(&'static str, String),
    /// The key set's address is invalid or not secure.
    #[error("the discovery document's jwks_uri: {0}")]
    Address(String),
    /// The set contains no key for RS256.
    #[error("the key set contains no RSA key for signatures")]
    NoKeys,
}

impl Discovery {
    /// Parses the document that was fetched from `url`.
    ///
    /// Its `issuer` need not be `url`: behind a proxy, GitLab is reached by one address and signs
    /// with another, and a server that can replace this document can replace the keys as well.
    pub fn parse(body: &[u8], url: &EndpointUrl) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let Document { issuer, jwks_uri } = serde_json::from_slice(body)
            .map_err(|error| DocumentError::Json("a discovery document", error.to_string()))?;
        let jwks_uri = EndpointUrl::parse(&jwks_uri)
            .map_err(|error| DocumentError::Address(error.to_string()))?;
        if url.scheme() == Scheme::Https && jwks_uri.scheme() == Scheme::Http {
            return Err(DocumentError::Address(format!(
                "{jwks_uri} is plain HTTP, the issuer is not"
            )));
        }
        Ok(Self { issuer, jwks_uri })
    }
}

/// The keys that verify tokens, by `kid`.
#[derive(Clone, Debug)]
pub struct KeySet(HashMap<String, DecodingKey>);

impl KeySet {
    /// Parses a key set. Keys of another type, for another use or too weak are left out: GitLab's
    /// set is mixed. Fails when none is left.
    pub fn parse(body: &[u8]) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys } = serde_json::from_slice(body)
            .map_err(|error| DocumentError::Json("a key set", error.to_string()))?;
        let keys: HashMap<_, _> = keys.iter().filter_map(key).take(MAX_KEYS).collect();
        if keys.is_empty() { Err(DocumentError::NoKeys) } else { Ok(Self(keys)) }
    }

    /// Returns the key of this id.
    pub fn get(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.get(kid)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no key, which is never so: an empty set does not parse.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns an RS256 key with its id; `None` when it is of no use here.
fn key(value: &Value) -> Option<(String, DecodingKey)> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let is_for_us = text("kty") == Some("RSA")
        && matches!(text("use"), None | Some("sig"))
        && matches!(text("alg"), None | Some("RS256"));
    let (kid, n, e) = (text("kid")?, text("n")?, text("e")?);
    // six bits per digit; a leading zero byte makes a weak key look stronger here, and ring rejects
    // it then
    let is_strong = n.len() * 6 >= MIN_BITS;
    (is_for_us && is_strong && !kid.is_empty())
        .then(|| Some((kid.to_owned(), DecodingKey::from_rsa_components(n, e).ok()?)))?
}

/// Returns how long a response may be cached (`Cache-Control: max-age`).
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

    use super::{Discovery, DocumentError, KeySet, max_age};
    use crate::model::EndpointUrl;

    fn discovery(url: &str, body: &str) -> Result<Discovery, DocumentError> {
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
        assert_eq!(KeySet::parse(b"{\"keys\": []}").unwrap_err(), DocumentError::NoKeys);
        assert!(matches!(KeySet::parse(b"<html>"), Err(DocumentError::Json(..))));
    }

    #[test]
    fn discovery_may_name_another_issuer_but_not_leave_tls() {
        let body = r#"{"issuer": "https://gitlab.example.com", "jwks_uri": "https://gitlab.example.com/oauth/discovery/keys"}"#;
        let found = discovery("http://gitlab.internal", body).unwrap();
        assert_eq!(found.issuer, "https://gitlab.example.com");
        assert_eq!(found.jwks_uri.to_string(), "https://gitlab.example.com/oauth/discovery/keys");
        let plain = r#"{"issuer": "https://g", "jwks_uri": "http://g/keys"}"#;
        assert!(matches!(discovery("https://g", plain), Err(DocumentError::Address(_))));
        assert!(matches!(discovery("https://g", "{}"), Err(DocumentError::Json(..))));
        assert!(matches!(
            discovery("https://g", r#"{"issuer": "i", "jwks_uri": "file:///etc/passwd"}"#),
            Err(DocumentError::Address(_))
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
