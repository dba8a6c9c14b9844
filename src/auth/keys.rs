//! Static keys: only a hash is kept, and hashes are compared in constant time. With each key goes
//! what its holder may do.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::Rates;
use crate::model::ModelId;

/// One of `auth.static_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticKey {
    hash: KeyHash,
    /// `name`, else its place in the file (`#1`): what it is counted and told apart by.
    pub name: Box<str>,
    /// `models`: the models of the file that its holder may use; none said: every model.
    pub models: Option<Box<[ModelId]>>,
    /// Its own rates, over those of `[limits]`.
    pub rates: Rates,
}

impl StaticKey {
    /// A key as configured, for every model and at the rates of `[limits]`.
    pub fn new(key: &[u8], name: impl Into<Box<str>>) -> Self {
        Self { hash: KeyHash::of(key), name: name.into(), models: None, rates: Rates::default() }
    }

    /// Whether its holder may use this model of the file.
    pub fn allows(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|allowed| **allowed == *model))
    }

    /// The one of these keys that was presented. Every key is compared, so that the time says
    /// nothing about which one matched.
    pub(super) fn presented<'k>(keys: &'k [Arc<Self>], token: &[u8]) -> Option<&'k Arc<Self>> {
        if keys.is_empty() {
            return None;
        }
        let presented = KeyHash::of(token);
        keys.iter()
            .fold(None, |found, key| if key.hash.same_as(&presented) { Some(key) } else { found })
    }

    /// Whether both are the same secret.
    pub fn same_secret(&self, other: &Self) -> bool {
        self.hash.same_as(&other.hash)
    }
}

/// SHA-256 of a key. The key itself is not kept.
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

    /// Constant-time equality.
    fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(•••)")
    }
}
