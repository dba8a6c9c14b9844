//! Users' tokens: issued, accepted for code completion, refused for all else.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{FIRST, INSTANCE, OTHER, SECOND, base64, seconds_now, sign};
use crate::auth::{
    Caller, IssuerRegistry, KeyError, Permission, Policy, Scopes, Settings, SigningKey,
    TokenSubject, UserTokenIssuer, UserTokenSettings, VerifyingKey,
};
use crate::error::Kind;

const FIRST_PKCS1: &str = include_str!("../../../tests/golden/jwt/first.pkcs1.pem");
/// The public half of the second key.
const SECOND_PUBLIC: &str = include_str!("../../../tests/golden/jwt/second.pub.pem");
const USER: TokenSubject<'_> =
    TokenSubject { id: "user-1", realm: "self-managed", instance_id: INSTANCE, model: "codestral" };

fn tokens(signing: Option<&str>, validation: Option<&str>) -> Arc<UserTokenIssuer> {
    let signing = signing.map(|pem| Arc::new(SigningKey::parse(pem).unwrap()));
    let validation = validation.map(|pem| VerifyingKey::parse(pem).unwrap());
    Arc::new(IssuerRegistry::default().user_tokens(UserTokenSettings { signing, validation }))
}

fn issue(tokens: &UserTokenIssuer) -> String {
    tokens.issue(USER, SystemTime::now()).unwrap().token
}

/// Returns a policy without static keys: only users' tokens can be admitted.
fn policy(tokens: &Arc<UserTokenIssuer>) -> Policy {
    IssuerRegistry::default().policy(Settings::Keys(Vec::new()), Arc::clone(tokens))
}

fn headers(token: &str) -> HeaderMap {
    let pairs = [
        ("authorization", format!("Bearer {token}")),
        ("x-gitlab-authentication-type", "oidc".to_owned()),
        ("x-gitlab-instance-id", INSTANCE.to_owned()),
        ("x-gitlab-realm", "self-managed".to_owned()),
        ("x-gitlab-global-user-id", "user-1".to_owned()),
    ];
    let pair = |(name, value): (_, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap())
    };
    pairs.map(pair).into_iter().collect()
}

async fn admit(
    tokens: &Arc<UserTokenIssuer>,
    headers: &HeaderMap,
) -> Result<Caller, (Kind, String)> {
    let admitted = policy(tokens).authenticate(headers, SystemTime::now()).await;
    admitted.map_err(|error| (error.kind(), error.operator().unwrap_or(error.public()).to_owned()))
}

fn part(token: &str, index: usize) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(index).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_token_states_its_user_lifetime_and_scope() {
    for signing in [Some(FIRST), None] {
        let tokens = tokens(signing, None);
        let before = seconds_now();
        let issued = tokens.issue(USER, SystemTime::now()).unwrap();
        assert_eq!(
            part(&issued.token, 0)["alg"],
            if signing.is_some() { "RS256" } else { "EdDSA" }
        );
        let claims = part(&issued.token, 1);
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!("gitlab-ai-gateway"), &json!("gitlab-ai-gateway"))
        );
        assert_eq!(
            (&claims["sub"], &claims["gitlab_instance_id"]),
            (&json!("user-1"), &json!(INSTANCE))
        );
        assert_eq!(
            (&claims["scopes"], &claims["exp"]),
            (&json!(["complete_code"]), &json!(issued.expires_at))
        );
        assert!((before + 3600..=seconds_now() + 3600).contains(&issued.expires_at));
        let caller = admit(&tokens, &headers(&issued.token)).await.unwrap();
        assert_eq!(caller.pinned_model(), Some("codestral"));
    }
}

#[tokio::test]
async fn it_allows_code_completion_and_nothing_else() {
    let tokens = tokens(Some(FIRST), None);
    let caller = admit(&tokens, &headers(&issue(&tokens))).await.unwrap();
    let authorize = |scope: &str, users| {
        let any_of = Scopes::from_names([scope, "complete_code"]);
        let any_of = if scope == "complete_code" { any_of } else { Scopes::from_names([scope]) };
        caller.authorize(&Permission {
            any_of,
            action: "access",
            object: "code".into(),
            user_tokens: users,
        })
    };
    assert!(authorize("complete_code", true).is_ok());
    assert_eq!(authorize("generate_code", true).unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(authorize("complete_code", false).unwrap_err().kind(), Kind::Forbidden);
}

#[tokio::test]
async fn only_its_user_on_its_instance_may_use_it() {
    let tokens = tokens(Some(FIRST), None);
    let token = issue(&tokens);
    for (name, text) in [
        ("x-gitlab-global-user-id", "Header mismatch 'X-Gitlab-Global-User-Id'"),
        ("x-gitlab-instance-id", "Header mismatch 'X-Gitlab-Instance-Id'"),
        ("x-gitlab-realm", "Header mismatch 'X-Gitlab-Realm'"),
    ] {
        let mut wrong = headers(&token);
        wrong.insert(name, HeaderValue::from_static("another"));
        assert_eq!(admit(&tokens, &wrong).await, Err((Kind::Unauthorized, text.to_owned())));
        wrong.remove(name);
        assert_eq!(admit(&tokens, &wrong).await, Err((Kind::Unauthorized, text.to_owned())));
    }
    let mut untyped = headers(&token);
    untyped.remove("x-gitlab-authentication-type");
    assert!(admit(&tokens, &untyped).await.unwrap_err().1.contains("only OIDC"));
}

#[tokio::test]
async fn keys_are_rotated_with_overlap() {
    let (old, new) = (tokens(Some(FIRST), None), tokens(Some(SECOND), Some(FIRST)));
    let (of_old, of_new) = (issue(&old), issue(&new));
    for token in [&of_old, &of_new] {
        assert!(admit(&new, &headers(token)).await.is_ok());
    }
    assert!(admit(&old, &headers(&of_new)).await.is_err());
    // a replica that still signs with the old key is configured with the new one first; its public
    // half is enough
    let ahead = tokens(Some(FIRST), Some(SECOND_PUBLIC));
    for token in [&of_old, &of_new] {
        assert!(admit(&ahead, &headers(token)).await.is_ok());
    }
    // the same key in PKCS#1, and with escaped line breaks
    let escaped = FIRST.replace('\n', "\\n");
    for same in [escaped.as_str(), FIRST_PKCS1] {
        assert!(admit(&tokens(Some(same), None), &headers(&of_old)).await.is_ok());
    }
}

#[tokio::test]
async fn a_generated_key_survives_a_reload_and_not_a_restart() {
    let issuers = IssuerRegistry::default();
    let [before, after] =
        [0, 1].map(|_| Arc::new(issuers.user_tokens(UserTokenSettings::default())));
    let token = issue(&before);
    assert!(admit(&after, &headers(&token)).await.is_ok());
    let restarted = tokens(None, None);
    assert!(admit(&restarted, &headers(&token)).await.is_err());
}

#[tokio::test]
async fn forgeries_are_refused() {
    let (tokens, generated) = (tokens(Some(FIRST), None), tokens(None, None));
    let (token, of_generated) = (issue(&tokens), issue(&generated));
    let (header, claims) = (part(&token, 0), part(&token, 1));
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        sign(FIRST, &header, &claims)
    };
    let message = token.rsplit_once('.').unwrap().0;
    let as_generated =
        |alg: &str| base64(json!({ "alg": alg, "kid": part(&of_generated, 0)["kid"] }).to_string());
    for (tokens, forged) in [
        (&tokens, sign(OTHER, &header, &claims)),
        (&tokens, with("exp", json!(seconds_now() - 31))),
        (&tokens, with("nbf", json!(seconds_now() + 60))),
        (&tokens, with("iss", json!("https://gitlab.example.com"))),
        (&tokens, with("aud", json!("gitlab-duo-workflow-service"))),
        (&tokens, with("sub", json!(""))),
        (&tokens, format!("{message}.")),
        (&tokens, of_generated.clone()),
        // the algorithm is the key's, whatever the token's header contains
        (
            &generated,
            format!(
                "{}.{}.{}",
                as_generated("RS256"),
                base64(claims.to_string()),
                token.rsplit_once('.').unwrap().1
            ),
        ),
        (&generated, format!("{}.{}.", as_generated("none"), base64(claims.to_string()))),
    ] {
        assert_eq!(
            admit(tokens, &headers(&forged)).await.unwrap_err().0,
            Kind::Unauthorized,
            "{forged}"
        );
    }
    assert!(admit(&tokens, &headers(&with("exp", json!(seconds_now() + 10)))).await.is_ok());
}

#[test]
fn text_that_is_not_an_rsa_key_is_rejected_and_not_repeated() {
    assert_eq!(SigningKey::parse("sk-canary").unwrap_err(), KeyError::NotPem);
    assert_eq!(SigningKey::parse(SECOND_PUBLIC).unwrap_err(), KeyError::NotPem);
    let block =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    assert_eq!(SigningKey::parse(block).unwrap_err(), KeyError::NotRsa);
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAA\n-----END PUBLIC KEY-----\n";
    assert_eq!(VerifyingKey::parse(public).unwrap_err(), KeyError::NotRsa);
    let debug = format!(
        "{:?} {:?}",
        SigningKey::parse(FIRST).unwrap(),
        VerifyingKey::parse(FIRST).unwrap()
    );
    assert!(!debug.contains("MII") && debug.starts_with("SigningKey(RS256, "), "{debug}");
}
