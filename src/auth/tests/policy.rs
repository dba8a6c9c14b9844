//! Authentication against a GitLab on a real socket.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{advance, pause, resume};

use super::{
    FIRST, FakeGitlab, INSTANCE, ISSUER, OTHER, Response, SECOND, claims, header, jwk, kid,
    seconds_now, sign, token_of,
};
use crate::auth::{
    Caller, Claims, GitlabSettings, IssuerRegistry, Permission, Policy, Scopes, Settings, StaticKey,
};
use crate::error::{Kind, Shape, render};
use crate::model::EndpointUrl;
use crate::upstream::{Fetcher, SharedEgress};

const CLOUD: &str = "https://customers.gitlab.com";

/// A process with nothing but its authentication.
struct Process {
    issuers: IssuerRegistry,
    refreshing: JoinHandle<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

impl Process {
    fn start() -> Self {
        let issuers = IssuerRegistry::default();
        let refresher = issuers.refresh_task(Fetcher::new(SharedEgress::default()));
        Self { issuers, refreshing: tokio::spawn(refresher.run()) }
    }

    fn policy(&self, gitlab: &FakeGitlab, cloud: Option<&FakeGitlab>) -> Arc<Policy> {
        let url = |of: &FakeGitlab| EndpointUrl::parse(&format!("http://{}", of.address)).unwrap();
        let audience = "gitlab-ai-gateway".into();
        let gitlab = GitlabSettings { url: url(gitlab), cloud_issuer: cloud.map(url), audience };
        Arc::new(
            self.issuers
                .policy(Settings::Gitlab { keys: vec![key("static")], gitlab }, Arc::default()),
        )
    }
}

fn key(text: &str) -> Arc<StaticKey> {
    Arc::new(StaticKey::new(text.as_bytes(), text))
}

/// Starts a GitLab that publishes both keys.
async fn gitlab_with_two_keys() -> FakeGitlab {
    FakeGitlab::start(ISSUER, Response::Keys(vec![jwk(0), jwk(1)])).await
}

fn headers(authorization: &str) -> HeaderMap {
    let pairs = [
        ("authorization", authorization),
        ("x-gitlab-authentication-type", "oidc"),
        ("x-gitlab-instance-id", INSTANCE),
        ("x-gitlab-realm", "self-managed"),
    ];
    let pair =
        |(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    pairs.map(pair).into_iter().collect()
}

async fn admit(policy: &Policy, token: &str) -> Result<Caller, (Kind, String)> {
    admit_with(policy, &headers(&format!("Bearer {token}"))).await
}

/// Returns the operator's text of a refusal, or the public one without it.
async fn admit_with(policy: &Policy, headers: &HeaderMap) -> Result<Caller, (Kind, String)> {
    let admitted = policy.authenticate(headers, SystemTime::now()).await;
    admitted.map_err(|error| (error.kind(), error.operator().unwrap_or(error.public()).to_owned()))
}

/// Advances the time for the schedule of fetches only: sockets and tokens use the real clock.
async fn advance_schedule(seconds: u64) {
    pause();
    advance(Duration::from_secs(seconds)).await;
    resume();
}

/// Waits for an effect of the refresh task.
async fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition was not met within five seconds");
}

#[tokio::test]
async fn a_gitlab_is_admitted_by_its_token_and_others_by_a_static_key() {
    let (process, gitlab) = (Process::start(), gitlab_with_two_keys().await);
    let policy = process.policy(&gitlab, None);
    let Ok(Caller::Gitlab(claims)) = admit(&policy, &token_of(0)).await else {
        panic!("the very first request waits")
    };
    assert_eq!((claims.subject.as_str(), claims.realm.as_str()), (INSTANCE, "self-managed"));
    assert!(matches!(admit(&policy, &token_of(1)).await, Ok(Caller::Gitlab(_))));
    let bare = |name: &'static str, value| {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    };
    assert_eq!(
        admit_with(&policy, &bare("authorization", "bearer static")).await,
        Ok(Caller::Key(key("static")))
    );
    assert_eq!(
        admit_with(&policy, &bare("x-api-key", "static")).await,
        Ok(Caller::Key(key("static")))
    );
    assert_eq!(gitlab.fetches(), 1);
}

#[test]
fn a_gitlab_and_its_users_share_a_rate_limit() {
    let claims = |subject: &str, instance_id: &str| {
        let (subject, instance_id) = (subject.to_owned(), instance_id.to_owned());
        Claims {
            subject,
            realm: String::new(),
            instance_id,
            scopes: Scopes::default(),
            model: String::new(),
        }
    };
    let key_of = |caller: Caller| caller.rate_limit_key(Some([10, 0, 0, 1].into()));
    assert_eq!(
        key_of(Caller::Gitlab(claims(INSTANCE, ""))),
        key_of(Caller::User(claims("user", INSTANCE)))
    );
    assert_eq!(key_of(Caller::Key(key("ci"))), "key ci");
    assert_eq!(key_of(Caller::Anonymous), "address 10.0.0.1");
}

#[tokio::test]
async fn every_refusal_has_the_text_of_the_contract() {
    let (process, gitlab) = (Process::start(), gitlab_with_two_keys().await);
    let policy = process.policy(&gitlab, None);
    let token = format!("Bearer {}", token_of(0));
    let refusal = async |change: &dyn Fn(&mut HeaderMap)| {
        let mut headers = headers(&token);
        change(&mut headers);
        let error = policy.authenticate(&headers, SystemTime::now()).await.unwrap_err();
        let response = render(&error, Shape::Gitlab, "r");
        (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).unwrap())
    };
    let set = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).unwrap();
        move |headers: &mut HeaderMap| _ = headers.insert(name, value.clone())
    };
    let body = |text: &str| (401, format!("{{\"error\":\"{text}\"}}"));
    // contract::gitlab_client §3.5, row by row
    let none = body("No authorization header presented");
    assert_eq!(refusal(&|headers| _ = headers.remove("authorization")).await, none);
    let invalid = body("Invalid authorization header");
    for wrong in ["Bearer", "Bearer ", "Bearer   ", "Basic dXNlcjpwdw==", &token[7..]] {
        assert_eq!(refusal(&set("authorization", wrong)).await, invalid, "{wrong}");
    }
    let twice = |headers: &mut HeaderMap| {
        _ = headers.append("authorization", HeaderValue::from_static("Bearer x"))
    };
    assert_eq!(refusal(&twice).await, invalid);
    let no_oidc = body("Invalid authentication token type - only OIDC is supported");
    assert_eq!(refusal(&set("x-gitlab-authentication-type", "saml")).await, no_oidc);
    assert_eq!(
        refusal(&|headers| _ = headers.remove("x-gitlab-authentication-type")).await,
        no_oidc
    );
    let expired = sign(FIRST, &header(&kid(0)), &claims(seconds_now() - 7200));
    let forged = sign(OTHER, &header(&kid(0)), &claims(seconds_now()));
    let mut other_audience = claims(seconds_now());
    other_audience["aud"] = json!(["another-service"]);
    let other_audience = sign(FIRST, &header(&kid(0)), &other_audience);
    for wrong in [expired.as_str(), &forged, &other_audience, "static-not", "a.b.c"] {
        let wrong = format!("Bearer {wrong}");
        assert_eq!(
            refusal(&set("authorization", &wrong)).await,
            body("Forbidden by auth provider"),
            "{wrong}"
        );
    }
    let instance = body("Header mismatch 'X-Gitlab-Instance-Id'");
    assert_eq!(refusal(&set("x-gitlab-instance-id", "another")).await, instance);
    assert_eq!(refusal(&|headers| _ = headers.remove("x-gitlab-instance-id")).await, instance);
    let second = |headers: &mut HeaderMap| {
        _ = headers.append("x-gitlab-instance-id", HeaderValue::from_static("b"))
    };
    assert_eq!(refusal(&second).await, instance);
    let realm = body("Header mismatch 'X-Gitlab-Realm'");
    assert_eq!(refusal(&set("x-gitlab-realm", "saas")).await, realm);
    assert_eq!(refusal(&|headers| _ = headers.remove("x-gitlab-realm")).await, realm);
}

#[tokio::test]
async fn empty_claims_are_not_compared_and_the_instance_id_of_customersdot_is() {
    let (process, gitlab) = (Process::start(), gitlab_with_two_keys().await);
    let policy = process.policy(&gitlab, None);
    let with = |change: &[(&str, Value)]| {
        let mut claims = claims(seconds_now());
        change.iter().for_each(|(name, value)| claims[*name] = value.clone());
        sign(FIRST, &header(&kid(0)), &claims)
    };
    assert!(
        admit(&policy, &with(&[("sub", json!("")), ("gitlab_realm", json!(""))])).await.is_ok()
    );
    assert!(admit(&policy, &with(&[("gitlab_instance_id", json!(INSTANCE))])).await.is_ok());
    let other = admit(&policy, &with(&[("gitlab_instance_id", json!("another"))])).await;
    assert_eq!(
        other,
        Err((Kind::Unauthorized, "Header mismatch 'X-Gitlab-Instance-Id'".to_owned()))
    );
}

#[test]
fn a_missing_scope_is_403_with_gitlabs_text() {
    let claims = |scopes| crate::auth::Claims {
        subject: String::new(),
        realm: String::new(),
        instance_id: String::new(),
        scopes,
        model: String::new(),
    };
    let any_of = Scopes::from_names(["duo_chat", "duo_classic_chat"]);
    let chat = Permission::to_access(any_of, "duo chat");
    assert!(
        Caller::Gitlab(claims(Scopes::from_names(["duo_classic_chat"]))).authorize(&chat).is_ok()
    );
    assert!(
        Caller::Key(key("static")).authorize(&chat).is_ok()
            && Caller::Anonymous.authorize(&chat).is_ok()
    );
    let error =
        Caller::Gitlab(claims(Scopes::from_names(["complete_code"]))).authorize(&chat).unwrap_err();
    let response = render(&error, Shape::Gitlab, "r");
    assert_eq!(response.status(), 403);
    assert_eq!(&**response.body(), b"{\"detail\":\"Unauthorized to access duo chat\"}");
}

#[tokio::test]
async fn a_rotated_key_is_fetched_once_for_any_number_of_requests() {
    let process = Process::start();
    let gitlab = FakeGitlab::start(ISSUER, Response::Keys(vec![jwk(0)])).await;
    let policy = process.policy(&gitlab, None);
    assert!(admit(&policy, &token_of(0)).await.is_ok());
    gitlab.respond_with(Response::Keys(vec![jwk(1), jwk(0)]));
    // no second fetch within the minimum interval: anyone can name a key that does not exist
    let (kind, why) = admit(&policy, &token_of(1)).await.unwrap_err();
    assert_eq!((kind, gitlab.fetches()), (Kind::Unauthorized, 1));
    assert_eq!(why, format!("the token's key {} is not among those of {ISSUER}", kid(1)));
    advance_schedule(11).await;
    let token: Arc<str> = token_of(1).into();
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let (policy, token) = (Arc::clone(&policy), Arc::clone(&token));
            tokio::spawn(async move { admit(&policy, &token).await.is_ok() })
        })
        .collect();
    for request in requests {
        assert!(request.await.unwrap());
    }
    assert_eq!(gitlab.fetches(), 2);
    for _ in 0..50 {
        assert!(
            admit(&policy, &sign(SECOND, &header("made up"), &claims(seconds_now())))
                .await
                .is_err()
        );
    }
    assert_eq!(gitlab.fetches(), 2, "fifty made-up keys within the interval cause no fetch");
}

#[tokio::test]
async fn old_keys_serve_while_gitlab_is_down_and_are_replaced_when_it_is_back() {
    let (process, gitlab) = (Process::start(), gitlab_with_two_keys().await);
    let policy = process.policy(&gitlab, None);
    assert!(admit(&policy, &token_of(0)).await.is_ok());
    gitlab.respond_with(Response::Down);
    advance_schedule(25 * 3600).await;
    wait_until(|| policy.issuer_statuses()[0].last_error.is_some()).await;
    let status = &policy.issuer_statuses()[0];
    assert_eq!((status.keys, status.issuer.as_deref()), (2, Some(ISSUER)));
    assert!(status.age.unwrap() > Duration::from_secs(24 * 3600));
    assert!(
        status
            .last_error
            .as_ref()
            .unwrap()
            .ends_with("/.well-known/openid-configuration: HTTP 502 Bad Gateway")
    );
    assert!(admit(&policy, &token_of(0)).await.is_ok());
    gitlab.respond_with(Response::Keys(vec![jwk(1)]));
    advance_schedule(60).await;
    wait_until(|| policy.issuer_statuses()[0].last_error.is_none()).await;
    assert!(admit(&policy, &token_of(1)).await.is_ok());
    assert!(
        admit(&policy, &token_of(0)).await.is_err(),
        "a withdrawn key is gone with the next fetch"
    );
}

#[tokio::test]
async fn without_any_key_the_error_is_not_the_callers() {
    let (process, gitlab) = (Process::start(), FakeGitlab::start(ISSUER, Response::Down).await);
    let policy = process.policy(&gitlab, None);
    let (kind, why) = admit(&policy, &token_of(0)).await.unwrap_err();
    assert_eq!(kind, Kind::NoSigningKeys);
    assert!(
        why.starts_with("no keys of http://127.0.0.1:") && why.ends_with("HTTP 502 Bad Gateway"),
        "{why}"
    );
    assert_eq!(admit(&policy, "static").await, Ok(Caller::Key(key("static"))));
}

#[tokio::test]
async fn a_request_waits_two_seconds_for_a_silent_gitlab_and_not_longer() {
    let (process, gitlab) = (Process::start(), FakeGitlab::start(ISSUER, Response::Silent).await);
    let policy = process.policy(&gitlab, None);
    let started = std::time::Instant::now();
    assert_eq!(admit(&policy, &token_of(0)).await.unwrap_err().0, Kind::NoSigningKeys);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(1900) && waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(gitlab.fetches(), 1);
}

#[tokio::test]
async fn strangers_cannot_fill_the_gateway_with_waiting_requests() {
    let (process, gitlab) = (Process::start(), FakeGitlab::start(ISSUER, Response::Silent).await);
    let policy = process.policy(&gitlab, None);
    let token: Arc<str> = token_of(0).into();
    let requests: Vec<_> = (0..200)
        .map(|_| {
            let (policy, token) = (Arc::clone(&policy), Arc::clone(&token));
            tokio::spawn(async move {
                let started = std::time::Instant::now();
                assert!(admit(&policy, &token).await.is_err());
                started.elapsed() > Duration::from_secs(1)
            })
        })
        .collect();
    let mut waited = 0;
    for request in requests {
        waited += usize::from(request.await.unwrap());
    }
    assert_eq!(waited, 64);
}

#[tokio::test]
async fn an_issuers_keys_verify_only_its_own_tokens() {
    let process = Process::start();
    let gitlab = FakeGitlab::start(ISSUER, Response::Keys(vec![jwk(0)])).await;
    let cloud = FakeGitlab::start(CLOUD, Response::Keys(vec![jwk(1)])).await;
    let policy = process.policy(&gitlab, Some(&cloud));
    wait_until(|| policy.issuer_statuses().iter().all(|issuer| issuer.keys == 1)).await;
    let mut of_cloud = claims(seconds_now());
    of_cloud["iss"] = json!(CLOUD);
    assert!(admit(&policy, &token_of(0)).await.is_ok());
    assert!(admit(&policy, &sign(SECOND, &header(&kid(1)), &of_cloud)).await.is_ok());
    // CustomersDot's key under GitLab's name, and the reverse
    assert!(admit(&policy, &sign(SECOND, &header(&kid(1)), &claims(seconds_now()))).await.is_err());
    assert!(admit(&policy, &sign(FIRST, &header(&kid(0)), &of_cloud)).await.is_err());
    of_cloud["iss"] = json!("https://evil.example.com\n");
    let (kind, why) = admit(&policy, &sign(FIRST, &header(&kid(0)), &of_cloud)).await.unwrap_err();
    assert_eq!(kind, Kind::Unauthorized);
    assert_eq!(
        why,
        "the token was issued by https://evil.example.com\\n, which is neither gitlab.url nor gitlab.cloud_issuer"
    );
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_issuers_that_stay() {
    let (process, gitlab, cloud) = (
        Process::start(),
        gitlab_with_two_keys().await,
        FakeGitlab::start(CLOUD, Response::Silent).await,
    );
    let before = process.policy(&gitlab, None);
    assert!(admit(&before, &token_of(0)).await.is_ok());
    gitlab.respond_with(Response::Down);
    let after = process.policy(&gitlab, Some(&cloud));
    assert_eq!(after.issuer_statuses()[0].keys, 2);
    assert!(
        admit(&after, &token_of(0)).await.is_ok(),
        "a second issuer that does not respond delays no request"
    );
    // requests in flight finish under the old policy; another GitLab's tokens are accepted at once
    let moved = FakeGitlab::start("https://moved.example.com", Response::Keys(vec![jwk(1)])).await;
    let moved_to = process.policy(&moved, None);
    let mut claims = claims(seconds_now());
    claims["iss"] = json!("https://moved.example.com");
    assert!(admit(&moved_to, &sign(SECOND, &header(&kid(1)), &claims)).await.is_ok());
    assert!(admit(&moved_to, &token_of(0)).await.is_err());
    assert!(admit(&before, &token_of(0)).await.is_ok());
}

#[tokio::test]
async fn a_reload_drops_a_withdrawn_key() {
    let (process, gitlab) = (Process::start(), gitlab_with_two_keys().await);
    let policy = process.policy(&gitlab, None);
    assert!(admit(&policy, &token_of(0)).await.is_ok());
    gitlab.respond_with(Response::Keys(vec![jwk(1)]));
    advance_schedule(11).await;
    let policy = process.policy(&gitlab, None);
    wait_until(|| gitlab.fetches() == 2 && policy.issuer_statuses()[0].keys == 1).await;
    assert!(admit(&policy, &token_of(0)).await.is_err());
}

#[tokio::test]
async fn without_gitlab_only_static_keys_are_admitted() {
    let process = Process::start();
    let policy =
        process.issuers.policy(Settings::Keys(vec![key("one"), key("two")]), Arc::default());
    assert_eq!(admit(&policy, "two").await, Ok(Caller::Key(key("two"))));
    assert_eq!(
        admit(&policy, &token_of(0)).await,
        Err((Kind::Unauthorized, "not one of auth.static_keys".to_owned()))
    );
    let open = process.issuers.policy(Settings::Off, Arc::default());
    assert_eq!(admit_with(&open, &HeaderMap::new()).await, Ok(Caller::Anonymous));
    assert_eq!((policy.mode(), open.mode()), ("keys", "off"));
}
