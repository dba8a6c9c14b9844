//! Which tokens are accepted. No clock, no socket.

use std::time::SystemTime;

use ring::hmac;
use serde_json::{Value, json};

use super::{
    FIRST, GOLDEN, GOLDEN_TIME, INSTANCE, ISSUER, JWKS, OTHER, at, base64, claims, header, jwk,
    kid, sign,
};
use crate::auth::{Claims, Expected, KeySet, Scopes, Token, TokenError};

const HERE: Expected<'_> = Expected { issuer: ISSUER, audience: "gitlab-ai-gateway" };

fn verify_at(token: &str, now: SystemTime) -> Result<Claims, TokenError> {
    let keys = KeySet::parse(JWKS.as_bytes()).unwrap();
    let token = Token::parse(token.as_bytes())?;
    let unknown = || TokenError::UnknownKey {
        kid: token.kid().to_owned(),
        issuer: token.issuer().to_owned(),
    };
    let key = keys.get(token.kid()).ok_or_else(unknown)?;
    token.verify(key, HERE, now)
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    verify_at(token, at(GOLDEN_TIME))
}

/// Returns a token of the first key with one claim replaced or removed.
fn with(name: &str, value: Option<Value>) -> String {
    let mut claims = claims(GOLDEN_TIME);
    match value {
        Some(value) => claims[name] = value,
        None => _ = claims.as_object_mut().unwrap().remove(name),
    }
    sign(FIRST, &header(&kid(0)), &claims)
}

#[test]
fn a_token_that_openssl_signed_is_accepted() {
    let claims = verify(GOLDEN.trim_end()).unwrap();
    assert_eq!((claims.subject.as_str(), claims.realm.as_str()), (INSTANCE, "self-managed"));
    assert_eq!(claims.instance_id, "");
    assert_eq!(
        claims.scopes,
        Scopes::from_names(["complete_code", "generate_code", "duo_chat", "explain_code"])
    );
}

#[test]
fn clocks_may_differ_by_thirty_seconds_and_no_more() {
    let token = GOLDEN.trim_end();
    let (nbf, exp) = (GOLDEN_TIME - 5, GOLDEN_TIME + 3600);
    assert!(verify_at(token, at(nbf - 30)).is_ok());
    assert_eq!(verify_at(token, at(nbf - 31)), Err(TokenError::NotYetValid(31)));
    assert!(verify_at(token, at(exp + 29)).is_ok());
    assert_eq!(verify_at(token, at(exp + 30)), Err(TokenError::Expired(30)));
    assert_eq!(verify_at(token, at(0)), Err(TokenError::NotYetValid(nbf)));
}

#[test]
fn claims_that_are_not_ours_are_refused() {
    let no_claims = TokenError::Malformed("its claims are not those of GitLab");
    let refusal = |name: &str, value: Option<Value>| verify(&with(name, value)).unwrap_err();
    assert_eq!(
        refusal("iss", Some(json!("https://evil"))),
        TokenError::UnknownIssuer("https://evil".to_owned())
    );
    assert_eq!(refusal("iss", Some(json!([ISSUER]))), no_claims);
    assert_eq!(refusal("iss", None), no_claims);
    let other = TokenError::Audience("gitlab-ai-gateway".to_owned());
    assert_eq!(refusal("aud", Some(json!(["gitlab-duo-workflow-service"]))), other);
    assert_eq!(refusal("aud", Some(json!("gitlab-ai-gateway-2"))), other);
    assert_eq!(refusal("aud", Some(json!([]))), other);
    assert_eq!(refusal("aud", None), no_claims);
    // a date of the wrong type must not be a date that never comes (CVE-2026-25537)
    for never in [None, Some(json!("9999999999")), Some(Value::Null), Some(json!({}))] {
        assert_eq!(refusal("exp", never), no_claims);
    }
    assert_eq!(refusal("nbf", Some(json!("0"))), no_claims);
    assert_eq!(refusal("exp", Some(json!(-1))), TokenError::Expired(GOLDEN_TIME + 1));
}

#[test]
fn claims_may_be_absent_where_gitlab_leaves_them_out() {
    assert!(verify(&with("aud", Some(json!("gitlab-ai-gateway")))).is_ok());
    assert!(verify(&with("nbf", None)).is_ok());
    let claims = verify(&with("scopes", None)).unwrap();
    assert_eq!(claims.scopes, Scopes::default());
    assert_eq!(verify(&with("gitlab_realm", Some(Value::Null))).unwrap().realm, "");
}

#[test]
fn only_rs256_with_the_named_key_is_accepted() {
    let claims = claims(GOLDEN_TIME);
    let [head, body] = [header(&kid(0)), claims.clone()].map(|part| base64(part.to_string()));
    // alg=none, with and without a signature
    for alg in ["none", "None", "NONE", ""] {
        let head = json!({ "typ": "JWT", "alg": alg, "kid": kid(0) });
        assert!(
            matches!(verify(&sign(FIRST, &head, &claims)), Err(TokenError::Malformed(_))),
            "{alg}"
        );
        assert!(verify(&format!("{}.{body}.", base64(head.to_string()))).is_err(), "{alg}");
    }
    // the published key as the secret of an HMAC
    for secret in [JWKS.to_owned(), jwk(0).to_string(), jwk(0)["n"].as_str().unwrap().to_owned()] {
        let head = base64(json!({ "alg": "HS256", "kid": kid(0) }).to_string());
        let message = format!("{head}.{body}");
        let tag =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
        let token = format!("{message}.{}", base64(tag));
        assert_eq!(verify(&token), Err(TokenError::Algorithm("HS256".to_owned())));
    }
    for alg in ["RS384", "RS512", "PS256", "ES256", "EdDSA"] {
        let head = json!({ "alg": alg, "kid": kid(0) });
        assert_eq!(
            verify(&sign(FIRST, &head, &claims)),
            Err(TokenError::Algorithm(alg.to_owned()))
        );
    }
    assert_eq!(verify(&sign(OTHER, &header(&kid(0)), &claims)), Err(TokenError::Signature));
    assert_eq!(verify(&sign(FIRST, &header(&kid(1)), &claims)), Err(TokenError::Signature));
    assert_eq!(verify(&format!("{head}.{body}.")), Err(TokenError::Signature));
    for kid in [
        "weak",
        "ec",
        "shared",
        "for-encryption",
        "no-such-key",
        "",
        "../../etc/passwd",
        "' OR 1=1",
    ] {
        assert!(
            matches!(
                verify(&sign(FIRST, &header(kid), &claims)),
                Err(TokenError::UnknownKey { .. })
            ),
            "{kid}"
        );
    }
    assert!(matches!(
        verify(&sign(FIRST, &json!({ "alg": "RS256" }), &claims)),
        Err(TokenError::Malformed(_))
    ));
}

#[test]
fn a_key_inside_the_token_is_not_used() {
    let mut head = header(&kid(0));
    head["jwk"] = jwk(1);
    head["jku"] = json!("http://127.0.0.1:1/keys");
    head["x5u"] = json!("http://127.0.0.1:1/cert");
    assert_eq!(
        verify(&sign(super::SECOND, &head, &claims(GOLDEN_TIME))),
        Err(TokenError::Signature)
    );
    let mut critical = header(&kid(0));
    critical["crit"] = json!(["exp"]);
    assert!(matches!(
        verify(&sign(FIRST, &critical, &claims(GOLDEN_TIME))),
        Err(TokenError::Malformed(_))
    ));
}

#[test]
fn anything_but_a_token_is_refused() {
    let golden = GOLDEN.trim_end();
    for garbage in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.e30",
        "e30.e30",
        "\u{0}.\u{0}.\u{0}",
        "глаз.глаз.глаз",
    ] {
        assert!(
            matches!(Token::parse(garbage.as_bytes()), Err(TokenError::Malformed(_))),
            "{garbage:?}"
        );
    }
    assert!(Token::parse(&[0xff; 100]).is_err());
    assert_eq!(Token::parse(&[b'a'; (16 << 10) + 1]).unwrap_err(), TokenError::TooLong);
    let deep = base64("[".repeat(8000));
    assert!(Token::parse(format!("{deep}.{deep}.x").as_bytes()).is_err());
    for odd in [
        format!("{golden}."),
        format!(".{golden}"),
        format!("{golden}="),
        format!("{golden}.e30"),
        format!("{golden} "),
    ] {
        assert!(verify(&odd).is_err(), "{odd}");
    }
    let long = sign(FIRST, &header(&"k".repeat(10_000)), &claims(GOLDEN_TIME));
    let error = verify(&long).unwrap_err();
    assert!(matches!(error, TokenError::UnknownKey { .. } | TokenError::TooLong), "{error}");
}

#[test]
fn a_token_with_any_byte_changed_is_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    let golden = GOLDEN.trim_end().as_bytes();
    for _ in 0..2000 {
        let mut token = golden.to_vec();
        let index = random.usize(..token.len());
        match random.u8(..4) {
            0 => token[index] = random.u8(..),
            1 => token.insert(index, random.u8(..)),
            2 => _ = token.remove(index),
            _ => token.truncate(index),
        }
        if token == golden {
            continue;
        }
        let text = String::from_utf8_lossy(&token).into_owned();
        assert!(verify(&text).is_err(), "{text}");
    }
}
