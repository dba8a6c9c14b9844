//! GitLab's tokens (RFC 7519): parsed, then verified with a published key. Pure: the key and the
//! time are arguments. Source: contract::gitlab_client §3.2, contract::ai_gateway_server §5.2.
//!
//! The `jsonwebtoken` crate splits tokens and matches algorithm and key; the arithmetic is ring's,
//! which TLS brings anyway. Its `decode` is not used: it reads the clock, accepts a list of issuers
//! where one is meant, and parses everything twice (40 µs for a token with every scope; 33 µs
//! without it, of which ring takes 25).

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, crypto, dangerous, decode_header};
use ring::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::Deserialize;

use super::scopes::Scopes;

/// The largest accepted difference between our clock and GitLab's, in either direction.
pub const SKEW: Duration = Duration::from_secs(30);
/// The longest accepted token. GitLab's tokens with every scope there is are 2 to 3 KiB.
const MAX_TOKEN: usize = 16 << 10;
/// The most characters of a token's own text that an error repeats.
const MAX_EXCERPT: usize = 100;

/// Why a token is rejected. `Display` is for the operator; the client receives the same sentence
/// for all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than any token of GitLab's.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// It is not three parts of base64, or not the JSON of a token.
    #[error("not a GitLab token: {0}")]
    Malformed(&'static str),
    /// Its algorithm is not the one that GitLab signs with.
    #[error("the token is signed with {0}, which is not accepted")]
    Algorithm(String),
    /// Its issuer is not an accepted one.
    #[error("the token was issued by {0}, which is neither gitlab.url nor gitlab.cloud_issuer")]
    UnknownIssuer(String),
    /// Its issuer does not publish the key that it names.
    #[error("the token's key {kid} is not among those of {issuer}")]
    UnknownKey {
        /// The token's `kid`.
        kid: String,
        /// The issuer whose keys were searched.
        issuer: String,
    },
    /// It is not signed with the key that it names.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is for another service.
    #[error("the token's audience does not contain {0} (gitlab.audience)")]
    Audience(String),
    /// It has expired, this many seconds ago.
    #[error("the token expired {0} s ago: is a clock wrong?")]
    Expired(u64),
    /// It is not valid yet, for this many seconds.
    #[error("the token is not valid for another {0} s: is a clock wrong?")]
    NotYetValid(u64),
}

/// A parsed token that is not verified yet: its claims come out only by [`Token::verify`].
#[derive(Debug)]
pub struct Token<'a> {
    /// Header and claims, the bytes that were signed.
    message: &'a [u8],
    signature: &'a str,
    algorithm: Algorithm,
    kid: String,
    claims: UnverifiedClaims,
}

/// The claims of a verified token. An absent claim is an empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the instance's UUID.
    pub subject: String,
    /// `gitlab_realm`: `self-managed` or `saas`.
    pub realm: String,
    /// `gitlab_instance_id`, which CustomersDot's tokens carry.
    pub instance_id: String,
    /// `scopes`, those that are known here.
    pub scopes: Scopes,
    /// `model`, which Weir's own tokens carry: the name of a model in the file.
    pub model: String,
}

/// The values that a token's claims must have.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `iss`: the issuer whose key verifies the token.
    pub issuer: &'a str,
    /// `aud`: Weir's own name.
    pub audience: &'a str,
}

impl<'a> Token<'a> {
    /// Parses a token of GitLab's. Nothing in it is trusted yet: `kid` and issuer only select the
    /// key to try. Accepts any bytes, so it is also the entry point for fuzzing.
    pub fn parse(text: &'a [u8]) -> Result<Self, TokenError> {
        Self::parse_signed_with(text, Algorithm::RS256)
    }

    /// Parses a token that must be signed with this algorithm.
    pub(super) fn parse_signed_with(
        text: &'a [u8],
        algorithm: Algorithm,
    ) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(text)
            .map_err(|_| TokenError::Malformed("its header is not that of a JWT"))?;
        if header.alg != algorithm {
            return Err(TokenError::Algorithm(format!("{:?}", header.alg)));
        }
        // RFC 7515 §4.1.11: an extension that is marked critical must be understood, and none is
        if header.crit.is_some() {
            return Err(TokenError::Malformed("its header has critical extensions"));
        }
        let kid = header.kid.ok_or(TokenError::Malformed("it names no key (kid)"))?;
        let claims = dangerous::insecure_decode_claims(text).map_err(|_| NO_CLAIMS)?;
        let parts = memchr::memrchr(b'.', text)
            .and_then(|dot| Some((&text[..dot], str::from_utf8(&text[dot + 1..]).ok()?)));
        let (message, signature) = parts.ok_or(TokenError::Signature)?;
        Ok(Self { message, signature, algorithm, kid, claims })
    }

    /// Returns the id of the key that the token claims to be signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the issuer that the token claims, `iss`.
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Verifies signature, issuer, audience and times, and returns the claims.
    pub fn verify(
        self,
        key: &DecodingKey,
        expected: Expected<'_>,
        now: SystemTime,
    ) -> Result<Claims, TokenError> {
        LazyLock::force(&INSTALLED_PROVIDER);
        // the algorithm is the one we require, whatever the header contains
        if !crypto::verify(self.signature, self.message, key, self.algorithm).is_ok_and(|good| good)
        {
            return Err(TokenError::Signature);
        }
        let claims = self.claims;
        if claims.iss != expected.issuer {
            return Err(TokenError::UnknownIssuer(excerpt(&claims.iss)));
        }
        if !claims.aud.contains(expected.audience) {
            return Err(TokenError::Audience(expected.audience.to_owned()));
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew = SKEW.as_secs_f64();
        if now >= claims.exp + skew {
            return Err(TokenError::Expired((now - claims.exp) as u64));
        }
        if let Some(nbf) = claims.nbf.filter(|nbf| nbf - skew > now) {
            return Err(TokenError::NotYetValid((nbf - now).ceil() as u64));
        }
        Ok(Claims {
            subject: claims.sub.unwrap_or_default(),
            realm: claims.gitlab_realm.unwrap_or_default(),
            instance_id: claims.gitlab_instance_id.unwrap_or_default(),
            scopes: Scopes::from_names(claims.scopes.iter().flatten().map(String::as_str)),
            model: claims.model.unwrap_or_default(),
        })
    }
}

/// Returns the `kid` of a token's header; `None` when the bytes are not a token.
pub(super) fn parse_kid(text: &[u8]) -> Option<String> {
    if text.len() > MAX_TOKEN { None } else { decode_header(text).ok()?.kid }
}

const NO_CLAIMS: TokenError = TokenError::Malformed("its claims are not those of GitLab");

/// Escapes and truncates a token's own text for an error message.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(MAX_EXCERPT).flat_map(char::escape_debug).collect()
}

/// The claims before verification. A date that is not a number is no date: such a token is
/// rejected, not accepted for ever.
#[derive(Debug, Deserialize)]
struct UnverifiedClaims {
    iss: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
    gitlab_realm: Option<String>,
    gitlab_instance_id: Option<String>,
    scopes: Option<Vec<String>>,
    model: Option<String>,
}

/// `aud`, one string or several (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

/// The crypto provider. The crate keeps one per process and has none of its own without a feature:
/// its RustCrypto feature brings 30 more crates with a timing advisory, its aws-lc feature a C
/// library in addition to ring's.
static INSTALLED_PROVIDER: LazyLock<()> = LazyLock::new(|| {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: |algorithm, key| match (algorithm, key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Ok(Box::new(Rs256 { n: strip_leading_zeros(n), e: strip_leading_zeros(e) }))
            }
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => Ok(Box::new(OwnKey {
                algorithm: Algorithm::RS256,
                verification: &RSA_PKCS1_2048_8192_SHA256,
                public: der.clone(),
            })),
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(der)) => Ok(Box::new(OwnKey {
                algorithm: Algorithm::EdDSA,
                verification: &ED25519,
                public: der.clone(),
            })),
            _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Fails when another provider is installed already, which then verifies.
    let _ = RING.install_default();
});

/// A verifier for RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 8192 bits.
struct Rs256 {
    n: Vec<u8>,
    e: Vec<u8>,
}

/// Strips leading zeros: ring rejects numbers that have one, and some publishers write one.
fn strip_leading_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let key = RsaPublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

/// A verifier for a key of our own, in the form that ring takes.
struct OwnKey {
    algorithm: Algorithm,
    verification: &'static dyn VerificationAlgorithm,
    public: Vec<u8>,
}

impl Verifier<Vec<u8>> for OwnKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        UnparsedPublicKey::new(self.verification, &self.public)
            .verify(message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for OwnKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
