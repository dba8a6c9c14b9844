//! Weir's own tokens, for IDEs that call code completion directly: short-lived, for one user, for
//! nothing else.
//!
//! Source: contract::gitlab_client §3.4, §6.4; contract::ai_gateway_server §5.4. GitLab requests
//! one with its own token and passes it to the user's IDE; the claim `model` is our addition: the
//! model that completes for the user until the token expires.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::jwt::{Claims, Expected, Token, TokenError, parse_kid};
use super::signing_key::{SigningKey, VerifyingKey};
use crate::error::{GatewayError, Kind};

/// `iss` and `aud`: the name that the official gateway uses in its own tokens. `gitlab.audience` is
/// the name that GitLab's tokens carry.
const ISSUER: &str = "gitlab-ai-gateway";
/// The only scope of such a token.
const SCOPE: &str = "complete_code";
/// The lifetime of a token, the same as the official gateway's; IDEs request another one before it
/// expires.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// `[auth.user_tokens]`, validated.
#[derive(Clone, Debug, Default)]
pub struct UserTokenSettings {
    /// `signing_key`; a key is generated at start-up when it is not set.
    pub signing: Option<Arc<SigningKey>>,
    /// `validation_key`: the other key of a rotation, whose tokens are accepted too.
    pub validation: Option<VerifyingKey>,
}

/// Issues tokens for users, and verifies them.
#[derive(Clone, Debug, Default)]
pub struct UserTokenIssuer {
    signing: Option<Arc<SigningKey>>,
    validation: Option<VerifyingKey>,
}

/// The user that a token is issued to. Unknown values are empty.
#[derive(Clone, Copy, Debug)]
pub struct TokenSubject<'a> {
    /// `X-Gitlab-Global-User-Id`
    pub id: &'a str,
    /// `X-Gitlab-Realm`
    pub realm: &'a str,
    /// `X-Gitlab-Instance-Id`
    pub instance_id: &'a str,
    /// The model's name in the file.
    pub model: &'a str,
}

/// A token for its user. It has no `Debug`, so that it is never printed.
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// The time of expiry, in Unix seconds.
    pub expires_at: u64,
}

impl UserTokenIssuer {
    /// Creates an issuer with these keys.
    pub(super) const fn new(
        signing: Option<Arc<SigningKey>>,
        validation: Option<VerifyingKey>,
    ) -> Self {
        Self { signing, validation }
    }

    /// Returns whether tokens are signed with this very key.
    pub(super) fn is_signed_with(&self, key: Option<&Arc<SigningKey>>) -> bool {
        matches!((&self.signing, key), (Some(signing), Some(key)) if Arc::ptr_eq(signing, key))
    }

    /// Issues a token that is valid from now on. Fails with 500 when there is no signing key or
    /// when the system's random number generator fails.
    pub fn issue(
        &self,
        user: TokenSubject<'_>,
        now: SystemTime,
    ) -> Result<IssuedToken, GatewayError> {
        // the official gateway's text
        let failed = |why: &'static str| {
            GatewayError::new(Kind::Internal, "Failed to generate JWT").internal(why)
        };
        let key = self
            .signing
            .as_ref()
            .ok_or_else(|| failed("there is no signing key, see the start of the log"))?;
        let issued_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires_at = issued_at + TOKEN_LIFETIME.as_secs();
        let header =
            json!({ "typ": "JWT", "alg": key.algorithm(), "kid": key.verifying_key().kid() });
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
            .ok_or_else(|| failed("the system's random number generator failed"))?;
        Ok(IssuedToken { token: format!("{message}.{signature}"), expires_at })
    }

    /// Verifies a token that Weir issued and returns its claims; `None` when its `kid` is not one
    /// of our keys, whatever its issuer is.
    pub(super) fn verify(
        &self,
        token: &[u8],
        now: SystemTime,
    ) -> Option<Result<Claims, TokenError>> {
        let kid = parse_kid(token)?;
        let signing = self.signing.as_deref().map(SigningKey::verifying_key);
        let key = signing.into_iter().chain(&self.validation).find(|key| key.kid() == kid)?;
        let expected = Expected { issuer: ISSUER, audience: ISSUER };
        let claims = Token::parse_signed_with(token, key.algorithm)
            .and_then(|token| token.verify(&key.key, expected, now));
        // issued while authentication was off (`mode = "off"`): accepted only for as long as that
        // is so
        Some(claims.and_then(|claims| match claims.subject.as_str() {
            "" => Err(TokenError::Malformed("it is for no user")),
            _ => Ok(claims),
        }))
    }
}
