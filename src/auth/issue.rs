//! Weir's own tokens, for IDEs that call code completion directly: short-lived, for one user, for
//! nothing else.
//!
//! Source: gitlab-client.md §3.4, §6.4; ai-gateway-server.md §5.4. GitLab fetches one with its own
//! token and gives it to the user's IDE; `model` is ours: what the user completes with until the
//! token ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::jwt::{Claims, Expected, Refused, Token, kid_of};
use super::signing_key::{SigningKey, VerifyingKey};
use crate::error::{GatewayError, Kind};

/// `iss` and `aud`: the official gateway's name for itself. `gitlab.audience` is what GitLab calls
/// us.
const ISSUER: &str = "gitlab-ai-gateway";
/// The only thing such a token is good for.
const SCOPE: &str = "complete_code";
/// As the official gateway's; IDEs fetch another one before it is over.
const LIFE: Duration = Duration::from_secs(3600);

/// `[auth.user_tokens]`, checked.
#[derive(Clone, Debug, Default)]
pub struct TokenSettings {
    /// `signing_key`; one is made at start-up where there is none.
    pub signing: Option<Arc<SigningKey>>,
    /// `validation_key`: the other key of a rotation, whose tokens are good too.
    pub validation: Option<VerifyingKey>,
}

/// Issues tokens, and knows those it issued.
#[derive(Clone, Debug, Default)]
pub struct UserTokens {
    signing: Option<Arc<SigningKey>>,
    validation: Option<VerifyingKey>,
}

/// Whom a token is for; what is not known is empty.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// `X-Gitlab-Global-User-Id`
    pub id: &'a str,
    /// `X-Gitlab-Realm`
    pub realm: &'a str,
    /// `X-Gitlab-Instance-Id`
    pub instance_id: &'a str,
    /// The model's name in the file.
    pub model: &'a str,
}

/// A token for its user. Nothing prints it.
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it ends, in Unix seconds.
    pub expires_at: u64,
}

impl UserTokens {
    /// With these keys.
    pub(super) const fn new(
        signing: Option<Arc<SigningKey>>,
        validation: Option<VerifyingKey>,
    ) -> Self {
        Self { signing, validation }
    }

    /// Whether this key signs.
    pub(super) fn is_signed_with(&self, key: Option<&Arc<SigningKey>>) -> bool {
        matches!((&self.signing, key), (Some(signing), Some(key)) if Arc::ptr_eq(signing, key))
    }

    /// Issues a token.
    pub fn issue(&self, user: User<'_>, now: SystemTime) -> Result<Issued, GatewayError> {
        // the official gateway's words
        let failed = |why: &'static str| {
            GatewayError::new(Kind::Internal, "Failed to generate JWT").internal(why)
        };
        let key = self
            .signing
            .as_ref()
            .ok_or_else(|| failed("there is no signing key, see the start of the log"))?;
        let issued_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires_at = issued_at + LIFE.as_secs();
        let header = json!({ "typ": "JWT", "alg": key.algorithm(), "kid": key.verifying().kid() });
        let claims = json!({
            "jti": format!("{:032x}", fastrand::u128(..)), "iss": ISSUER, "aud": ISSUER, "sub": user.id,
            "iat": issued_at, "nbf": issued_at, "exp": expires_at, "gitlab_realm": user.realm,
            "gitlab_instance_id": user.instance_id, "scopes": [SCOPE], "model": user.model,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = key
            .sign(message.as_bytes())
            .ok_or_else(|| failed("the system gives no random numbers"))?;
        Ok(Issued { token: format!("{message}.{signature}"), expires_at })
    }

    /// What a token of ours says; `None` when it names none of our keys, whoever it is from.
    pub(super) fn verify(&self, token: &[u8], now: SystemTime) -> Option<Result<Claims, Refused>> {
        let named = kid_of(token)?;
        let signing = self.signing.as_deref().map(SigningKey::verifying);
        let key = signing.into_iter().chain(&self.validation).find(|key| key.kid() == named)?;
        let expected = Expected { issuer: ISSUER, audience: ISSUER };
        let claims = Token::read_as(token, key.algorithm)
            .and_then(|token| token.verify(&key.key, expected, now));
        // issued while nobody was asked who they are (`mode = "off"`): good for as long as that is
        // so
        Some(claims.and_then(|claims| match claims.subject.as_str() {
            "" => Err(Refused::Malformed("it is for no user")),
            _ => Ok(claims),
        }))
    }
}
