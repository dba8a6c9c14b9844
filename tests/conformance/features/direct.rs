//! Direct access (contract::gitlab_client §6.4): GitLab asks for a user's token, the editor
//! completes code with it, by itself.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::code::{FORMS, is_reported};
use super::{FAULTS, SCALED, Scene};
use crate::gitlab::GitLab;
use crate::gitlab::ide::Suggested;
use crate::signing::{FIRST, JWKS, sign};
use crate::support::upstream::{Received, says};
use crate::support::{Gateway, Reply, Upstream};

/// A gateway that takes tokens only. One model completes code, another one that is not there does
/// the rest.
async fn scene(
    model: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    scopes: &[&str],
) -> Scene {
    let instance = Upstream::start(|request| match request.path.as_str() {
        "/keys" => Reply::json(200, &serde_json::from_str(JWKS).unwrap()),
        _ => {
            let url = format!("http://{}", request.header("host").unwrap());
            Reply::json(200, &json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
        }
    })
    .await;
    let upstream = Upstream::start(model).await;
    let url = format!("http://{}", instance.address);
    let file = format!(
        "server = {{ listen = \"127.0.0.1:0\", workers = 1 }}\nadmin.listen = \"127.0.0.1:0\"\n\
         resilience.drain = \"100ms\"\ngitlab.url = \"{url}\"\n\
         models.coder.endpoint = \"{}\"\nmodels.other.endpoint = \"http://127.0.0.1:9/v1\"\n\
         features = {{ default = \"other\", code_completions = \"coder\" }}\n{SCALED}",
        upstream.url()
    );
    let gateway = Gateway::start_whole(&file).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": url, "sub": "11111111-2222-4333-8444-555555555555", "aud": ["gitlab-ai-gateway"], "nbf": now - 5,
        "exp": now + 3600, "gitlab_realm": "self-managed", "scopes": scopes,
    });
    let gitlab = GitLab::new(gateway.public).with_token(sign(FIRST, &claims));
    // fetches GitLab's keys while there is a GitLab
    let _ = gitlab.user_token().await;
    Scene { gitlab, upstream, _gateway: gateway }
}

#[tokio::test]
async fn an_editor_completes_with_its_users_token_by_the_model_for_code() {
    let scene = scene(|request| says(request, "return a + b"), &["complete_code"]).await;
    let token = scene.gitlab.user_token().await.unwrap();
    for form in FORMS {
        let shown = scene.gitlab.complete_directly(&token, form).await;
        assert_eq!(shown, Suggested::Code("return a + b".to_owned()), "{form:?}");
    }
    assert_eq!(scene.received(), 2);
    for request in scene.upstream.requests() {
        assert!(request.text().contains("def add(a, b)"), "{}", request.text());
        assert!(!request.head_text().contains(&token), "the token is for the gateway only");
    }
}

#[tokio::test]
async fn a_failed_model_is_reported_to_the_editor() {
    for fault in FAULTS {
        let scene = scene(move |request| fault.reply(request), &["complete_code"]).await;
        let token = scene.gitlab.user_token().await.unwrap();
        for form in FORMS {
            let shown = scene.gitlab.complete_directly(&token, form).await;
            assert!(is_reported(fault, form, &shown), "{fault:?} {form:?}: {shown:?}");
        }
    }
}

#[tokio::test]
async fn without_the_right_or_a_token_there_is_no_code() {
    let scene = scene(|request| says(request, "return a + b"), &["duo_chat"]).await;
    assert_eq!(scene.gitlab.user_token().await, Err(403));
    let refused = Suggested::Refused { status: 401, retry_after: None };
    for form in FORMS {
        assert_eq!(scene.gitlab.complete_directly("made-up", form).await, refused);
        assert_eq!(scene.gitlab.complete(form).await, refused);
    }
    assert_eq!(scene.received(), 0);
}
