//! Keys of Weir's own tokens: an RSA key of the operator's (RS256), or one generated at start-up.
//!
//! ring generates no RSA keys, and the crate that does has a timing advisory: the key generated at
//! start-up is an Ed25519 one (EdDSA, RFC 8037). GitLab and IDEs pass a user's token on without
//! parsing it, so no one else has to support that.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

/// A private key that signs tokens.
pub struct SigningKey {
    pair: Pair,
    verifying_key: VerifyingKey,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A public key that verifies them.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why a text is not a usable key. The error contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no PEM block of a key.
    #[error("expected a key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NotPem,
    /// It is another kind of key, or too small.
    #[error("expected an RSA key of 2048 to 4096 bits (`openssl genrsa 2048`)")]
    NotRsa,
    /// The system's random number generator failed.
    #[error("the system's random number generator failed")]
    NoRandomness,
}

impl SigningKey {
    /// Parses a private key in PEM, PKCS#8 or PKCS#1. Line breaks may be written as `\n`, for
    /// environment variables that cannot contain them.
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        let pem = unescape_line_breaks(pem);
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError::NotRsa),
        };
        let pair = pair.map_err(|_| KeyError::NotRsa)?;
        let verifying_key = VerifyingKey::rsa(pair.public().as_ref());
        Ok(Self { pair: Pair::Rsa(pair), verifying_key })
    }

    /// Generates a key that lives as long as the process.
    pub(super) fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::NoRandomness)?;
        let pair =
            Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError::NoRandomness)?;
        let public = pair.public_key().as_ref();
        let verifying_key = VerifyingKey {
            kid: kid(public),
            algorithm: Algorithm::EdDSA,
            key: DecodingKey::from_ed_der(public),
        };
        Ok(Self { pair: Pair::Ed25519(pair), verifying_key })
    }

    /// Returns the public half.
    pub(super) const fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// Returns the `alg` of its tokens (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(super) const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// Signs a message and returns the signature in base64; `None` when the system's random number
    /// generator fails.
    pub(super) fn sign(&self, message: &[u8]) -> Option<String> {
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
                signature
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        };
        Some(URL_SAFE_NO_PAD.encode(signature))
    }
}

impl VerifyingKey {
    /// Parses the key that signed until the last rotation, or will sign after the next: private or
    /// public, PEM.
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        match SigningKey::parse(pem) {
            Err(KeyError::NotPem) => {}
            other => return other.map(|key| key.verifying_key),
        }
        let pem = unescape_line_breaks(pem);
        let public = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| KeyError::NotPem)?;
        Ok(Self::rsa(rsa_public_key(public.as_ref()).ok_or(KeyError::NotRsa)?))
    }

    /// Creates a key from an `RSAPublicKey` (RFC 8017 §A.1.1).
    fn rsa(der: &[u8]) -> Self {
        Self { kid: kid(der), algorithm: Algorithm::RS256, key: DecodingKey::from_rsa_der(der) }
    }

    /// Returns the `kid` of its tokens.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }
}

/// Returns the `RSAPublicKey` inside a `SubjectPublicKeyInfo` (RFC 8017 §A.1). Keys of 2048 to
/// 16384 bits all begin alike, but for two lengths.
fn rsa_public_key(spki: &[u8]) -> Option<&[u8]> {
    const ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let (outer, rest) = spki.split_at_checked(4)?;
    let rest = rest.strip_prefix(ALGORITHM)?;
    let (inner, rest) = rest.split_at_checked(4)?;
    let key = rest.strip_prefix(b"\0")?;
    (outer.starts_with(b"\x30\x82") && inner.starts_with(b"\x03\x82") && key.len() > 2048 / 8)
        .then_some(key)
}

/// Derives the key id from the key, so that it is the same in every replica and after every
/// restart.
fn kid(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, public))
}

fn unescape_line_breaks(pem: &str) -> String {
    if pem.contains('\n') { pem.to_owned() } else { pem.replace("\\n", "\n") }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.algorithm(), self.verifying_key.kid)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?}, {})", self.algorithm, self.kid)
    }
}
