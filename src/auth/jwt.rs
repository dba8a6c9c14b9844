//! GitLab's tokens (RFC 7519): read, then verified with a published key. Pure: the key and the time
//! are arguments. Source: gitlab-client.md §3.2, ai-gateway-server.md §5.2.
//!
//! The `jsonwebtoken` crate takes tokens apart and matches algorithm and key; the arithmetic is
//! ring's, which TLS brings anyway. Its `decode` is not used: it reads the clock, takes a list of
//! issuers for one, and parses everything twice (40 µs for a token with every scope, 33 µs so, of
//! which ring takes 25).

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

use super::identity::Scopes;

/// How far our clock and GitLab's may be apart, both ways.
pub const SKEW: Duration = Duration::from_secs(30);
/// GitLab's tokens with every scope there is are 2 to 3 KiB.
const MAX_TOKEN: usize = 16 << 10;
/// Characters of a token's own words that a message repeats.
const MAX_SHOWN: usize = 100;

/// Why a token is refused. `Display` is for the operator; the client is told the same sentence for
/// all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than any token of GitLab's.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// Not three parts of base64, or not the JSON of a token.
    #[error("not a GitLab token: {0}")]
    Malformed(&'static str),
    /// Signed otherwise than GitLab signs.
    #[error("the token is signed with {0}, which is not accepted")]
    Algorithm(String),
    /// Issued by somebody whose tokens are not accepted.
    #[error("the token was issued by {0}, which is neither gitlab.url nor gitlab.cloud_issuer")]
    UnknownIssuer(String),
    /// Signed with a key that its issuer does not publish.
    #[error("the token's key {kid} is not among those of {issuer}")]
    UnknownKey {
        /// The token's `kid`.
        kid: String,
        /// Whose keys were looked through.
        issuer: String,
    },
    /// Not signed with the key it names.
    #[error("the token's signature is wrong")]
    Signature,
    /// For another service.
    #[error("the token's audience does not hold {0} (gitlab.audience)")]
    Audience(String),
    /// Too old.
    #[error("the token expired {0} s ago: is a clock wrong?")]
    Expired(u64),
    /// Too new.
    #[error("the token is not valid for another {0} s: is a clock wrong?")]
    NotYet(u64),
}

/// A token that was read but is not yet believed: its claims come out only by [`Token::verify`].
#[derive(Debug)]
pub struct Token<'a> {
    /// Header and claims as they were signed.
    message: &'a [u8],
    signature: &'a str,
    algorithm: Algorithm,
    kid: String,
    claims: Unverified,
}

/// What a verified token says of its bearer. Empty texts stand for claims that are not there.
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
    /// `model`, which our own tokens carry: the name of one in the file.
    pub model: String,
}

/// What a token is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Whose key it is verified with.
    pub issuer: &'a str,
    /// Who we are.
    pub audience: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token of GitLab's apart. Nothing of it is believed yet: `kid` and issuer only say
    /// which key to try. Takes any bytes, so it is also where fuzzing starts.
    pub fn read(text: &'a [u8]) -> Result<Self, Refused> {
        Self::read_as(text, Algorithm::RS256)
    }

    /// The same for a token that is signed in this way and no other.
    pub(super) fn read_as(text: &'a [u8], algorithm: Algorithm) -> Result<Self, Refused> {
        if text.len() > MAX_TOKEN {
            return Err(Refused::TooLong);
        }
        let header =
            decode_header(text).map_err(|_| Refused::Malformed("its header is not one"))?;
        if header.alg != algorithm {
            return Err(Refused::Algorithm(format!("{:?}", header.alg)));
        }
        // RFC 7515 §4.1.11: what is said to be critical must be understood, and nothing is
        if header.crit.is_some() {
            return Err(Refused::Malformed("its header has critical extensions"));
        }
        let kid = header.kid.ok_or(Refused::Malformed("it names no key (kid)"))?;
        let claims = dangerous::insecure_decode_claims(text).map_err(|_| NO_CLAIMS)?;
        let parts = memchr::memrchr(b'.', text)
            .and_then(|dot| Some((&text[..dot], str::from_utf8(&text[dot + 1..]).ok()?)));
        let (message, signature) = parts.ok_or(Refused::Signature)?;
        Ok(Self { message, signature, algorithm, kid, claims })
    }

    /// The key it says it is signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Who it says issued it.
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Verifies signature, issuer, audience and times.
    pub fn verify(
        self,
        key: &DecodingKey,
        expected: Expected<'_>,
        now: SystemTime,
    ) -> Result<Claims, Refused> {
        LazyLock::force(&INSTALLED);
        // the algorithm is ours, whatever the header said
        if !crypto::verify(self.signature, self.message, key, self.algorithm).is_ok_and(|good| good)
        {
            return Err(Refused::Signature);
        }
        let claims = self.claims;
        if claims.iss != expected.issuer {
            return Err(Refused::UnknownIssuer(shown(&claims.iss)));
        }
        if !claims.aud.holds(expected.audience) {
            return Err(Refused::Audience(expected.audience.to_owned()));
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew = SKEW.as_secs_f64();
        if now >= claims.exp + skew {
            return Err(Refused::Expired((now - claims.exp) as u64));
        }
        if let Some(nbf) = claims.nbf.filter(|nbf| nbf - skew > now) {
            return Err(Refused::NotYet((nbf - now).ceil() as u64));
        }
        Ok(Claims {
            subject: claims.sub.unwrap_or_default(),
            realm: claims.gitlab_realm.unwrap_or_default(),
            instance_id: claims.gitlab_instance_id.unwrap_or_default(),
            scopes: Scopes::of(claims.scopes.iter().flatten().map(String::as_str)),
            model: claims.model.unwrap_or_default(),
        })
    }
}

/// The key that a token says it is signed with, if it is a token.
pub(super) fn kid_of(text: &[u8]) -> Option<String> {
    if text.len() > MAX_TOKEN { None } else { decode_header(text).ok()?.kid }
}

const NO_CLAIMS: Refused = Refused::Malformed("its claims are not those of GitLab");

/// A token's own words as a message may repeat them.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect()
}

/// The claims. A date of another type than a number is no date: such a token is refused, not
/// trusted for ever.
#[derive(Debug, Deserialize)]
struct Unverified {
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

/// RFC 7519 §4.1.3: one string or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn holds(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

/// The crate keeps its provider per process and has none of its own without a feature: its
/// RustCrypto is 30 more crates with a timing advisory, its aws-lc a C library beside ring's.
static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: |algorithm, key| match (algorithm, key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Ok(Box::new(Rs256 { n: without_zeros(n), e: without_zeros(e) }))
            }
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => Ok(Box::new(Own {
                algorithm: Algorithm::RS256,
                by: &RSA_PKCS1_2048_8192_SHA256,
                public: der.clone(),
            })),
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(der)) => {
                Ok(Box::new(Own { algorithm: Algorithm::EdDSA, by: &ED25519, public: der.clone() }))
            }
            _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Fails when there is one already, which then verifies.
    let _ = RING.install_default();
});

/// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 8192 bits.
struct Rs256 {
    n: Vec<u8>,
    e: Vec<u8>,
}

/// ring takes numbers without leading zeros; some publishers write them with one.
fn without_zeros(number: &[u8]) -> Vec<u8> {
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

/// A key of ours, in the form that ring verifies with.
struct Own {
    algorithm: Algorithm,
    by: &'static dyn VerificationAlgorithm,
    public: Vec<u8>,
}

impl Verifier<Vec<u8>> for Own {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        UnparsedPublicKey::new(self.by, &self.public)
            .verify(message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Own {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
