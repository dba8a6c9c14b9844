//! Keys of Weir's own tokens: an RSA key of the operator's (RS256), or one made at start-up.
//!
//! ring makes no RSA keys, and the crate that does has a timing advisory: the key made at start-up
//! is an Ed25519 one (EdDSA, RFC 8037). GitLab and IDEs hand a user's token on without reading it,
//! so only we need to know.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

/// Signs.
pub struct SigningKey {
    pair: Pair,
    verifying: VerifyingKey,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Verifies what one key has signed.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why a text is no key. It says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM block of a key.
    #[error("expected a key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NoPem,
    /// Another kind of key, or too small a one.
    #[error("expected an RSA key of 2048 to 4096 bits (`openssl genrsa 2048`)")]
    NoRsa,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl SigningKey {
    /// Parses a private key in PEM, PKCS#8 or PKCS#1. Line breaks may be written as `\n`, for
    /// variables that cannot hold them.
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        let pem = with_line_breaks(pem);
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NoPem)?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError::NoRsa),
        };
        let pair = pair.map_err(|_| KeyError::NoRsa)?;
        let verifying = VerifyingKey::rsa(pair.public().as_ref());
        Ok(Self { pair: Pair::Rsa(pair), verifying })
    }

    /// Makes a key that lives as long as the process.
    pub(super) fn generate() -> Result<Self, KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandom)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError::NoRandom)?;
        let public = pair.public_key().as_ref();
        let verifying = VerifyingKey {
            kid: kid(public),
            algorithm: Algorithm::EdDSA,
            key: DecodingKey::from_ed_der(public),
        };
        Ok(Self { pair: Pair::Ed25519(pair), verifying })
    }

    /// What verifies its signatures.
    pub(super) const fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// `alg` of its tokens (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(super) const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The signature of a message, in base64; `None` when the system gives no random numbers.
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
            Err(KeyError::NoPem) => {}
            other => return other.map(|key| key.verifying),
        }
        let pem = with_line_breaks(pem);
        let public =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NoPem)?;
        Ok(Self::rsa(rsa_public_key(public.as_ref()).ok_or(KeyError::NoRsa)?))
    }

    /// `der` is an `RSAPublicKey` (RFC 8017 §A.1.1).
    fn rsa(der: &[u8]) -> Self {
        Self { kid: kid(der), algorithm: Algorithm::RS256, key: DecodingKey::from_rsa_der(der) }
    }

    /// The name that its tokens carry.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }
}

/// The `RSAPublicKey` inside a `SubjectPublicKeyInfo` (RFC 8017 §A.1). Keys of 2048 to 16384 bits
/// all begin alike, but for two lengths.
fn rsa_public_key(spki: &[u8]) -> Option<&[u8]> {
    const ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let (outer, rest) = spki.split_at_checked(4)?;
    let rest = rest.strip_prefix(ALGORITHM)?;
    let (inner, rest) = rest.split_at_checked(4)?;
    let key = rest.strip_prefix(b"\0")?;
    (outer.starts_with(b"\x30\x82") && inner.starts_with(b"\x03\x82") && key.len() > 2048 / 8)
        .then_some(key)
}

/// One key has one name, in every replica and after every restart.
fn kid(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, public))
}

fn with_line_breaks(pem: &str) -> String {
    if pem.contains('\n') { pem.to_owned() } else { pem.replace("\\n", "\n") }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.algorithm(), self.verifying.kid)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?}, {})", self.algorithm, self.kid)
    }
}
