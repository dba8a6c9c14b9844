//! Static keys: only a hash is kept, and hashes are compared in constant time. Each key carries
//! what its holder may do.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::RateLimits;
use crate::model::ModelId;

/// One of `auth.static_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticKey {
    hash: KeyHash,
    /// `name`, else its index in the file (`#1`): the label of its rate limit and of its log lines.
    pub name: Box<str>,
    /// `models`: the models of the file that its holder may use; `None` allows every model.
    pub models: Option<Box<[ModelId]>>,
    /// Its own rate limits, which override those of `[limits]`.
    pub rate_limits: RateLimits,
}

impl StaticKey {
    /// Creates a key for every model, with the rate limits of `[limits]`.
    pub fn new(key: &[u8], name: impl Into<Box<str>>) -> Self {
        Self {
            hash: KeyHash::of(key),
            name: name.into(),
            models: None,
            rate_limits: RateLimits::default(),
        }
    }

    /// Returns whether its holder may use this model of the file.
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|allowed| **allowed == *model))
    }

    /// Returns the key that the client sent, or `None`. Compares with every key, so that the time
    /// does not reveal which one matched.
    pub(super) fn find<'k>(keys: &'k [Arc<Self>], token: &[u8]) -> Option<&'k Arc<Self>> {
        if keys.is_empty() {
            return None;
        }
        let sent = KeyHash::of(token);
        keys.iter().fold(None, |found, key| if key.hash.matches(&sent) { Some(key) } else { found })
    }

    /// Returns whether both are the same secret.
    pub fn has_same_secret(&self, other: &Self) -> bool {
        self.hash.matches(&other.hash)
    }
}

/// The SHA-256 of a key. The key itself is not kept.
#[derive(Clone, PartialEq, Eq)]
struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a key as sent or as configured.
    fn of(key: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, key);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// Compares in constant time.
    fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(•••)")
    }
}
