//! GitLab's Web IDE calls from a page (contract::gitlab_client §6.4): preflight without
//! credentials, readable answers.

use serde_json::json;

use crate::support::{Gateway, Upstream, chat_body};

const KEYS: &str = "auth.static_keys = [\"k\"]\n[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
                    [admin]\nlisten = \"127.0.0.1:0\"\n";
const ORIGIN: (&str, &str) = ("origin", "https://gitlab.example.com");

#[tokio::test]
async fn a_preflight_is_answered_without_credentials() {
    let gateway = Gateway::start_whole(KEYS).await;
    let received = [
        ORIGIN,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-gitlab-realm"),
    ];
    for path in ["/v2/code/completions", "/v1/nothing"] {
        let answer = gateway.call("OPTIONS", path, &received, b"").await;
        assert_eq!((answer.status(), answer.text()), (200, "OK"));
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", received[2].1),
            ("access-control-max-age", "600"),
            ("content-type", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn a_page_reads_answers_and_refusals_and_programs_see_no_difference() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let body = chat_body("m", true).to_string();
    let page = gateway.call("POST", "/v1/chat/completions", &[ORIGIN], body.as_bytes()).await;
    assert_eq!((page.status(), page.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(gateway.chat("m", false).await.header("access-control-allow-origin"), None);
    let closed = Gateway::start_whole(KEYS).await;
    let refused = closed.call("POST", "/v2/code/completions", &[ORIGIN], b"{}").await;
    assert_eq!((refused.status(), refused.header("access-control-allow-origin")), (401, Some("*")));
}

#[tokio::test]
async fn strangers_do_not_learn_which_paths_there_are() {
    let gateway = Gateway::start_whole(KEYS).await;
    let key = ("authorization", "Bearer k");
    for (method, path, status) in [
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/x-ray/libraries", 404),
        ("POST", "/v1/amazon_q/events", 404),
        ("GET", "/metrics", 404),
    ] {
        let stranger = gateway.call(method, path, &[], b"{}").await;
        assert_eq!(stranger.status(), 401, "{path}");
        if status == 404 {
            assert_eq!(stranger.json(), json!({ "error": "No authorization header presented" }));
        }
        assert_eq!(gateway.call(method, path, &[key], b"{}").await.status(), status, "{path}");
    }
    for (method, path, status) in [
        ("GET", "/monitoring/healthz", 200),
        ("POST", "/monitoring/healthz", 405),
        ("GET", "/v1/models/definitions", 200),
    ] {
        assert_eq!(gateway.call(method, path, &[], b"").await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn calls_that_have_no_permit_here_are_reported_why() {
    let gateway = Gateway::start("").await;
    let detail = async |path: &str| {
        let answer = gateway.post(path, &json!({})).await;
        assert_eq!(answer.status(), 404);
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("/v1/x-ray/libraries").await.contains("remove the job"));
    assert!(detail("/v1/amazon_q/oauth/application").await.contains("Amazon Q"));
    assert_eq!(detail("/v1/nothing").await, "Not Found");
}

#[tokio::test]
async fn the_models_of_the_file_are_listed_in_gitlabs_shape() {
    let file = "[models.b]\nidentifier = \"azure/x\"\nendpoint = \"https://acme.openai.azure.com\"\napi_key = \"sk-canary\"\n\
                [models.a]\nendpoint = \"http://gpu.internal/v1\"\n\
                [features]\nduo_chat = \"b\"\nduo_chat_fix_code = \"disabled\"\ncode_completions = \"a\"\n";
    let gateway = Gateway::start(file).await;
    let answer = gateway.get("/v1/models%2Fdefinitions").await;
    assert!(
        !answer.text().contains("canary") && !answer.text().contains("internal"),
        "{}",
        answer.text()
    );
    let list = answer.json();
    let models: Vec<_> =
        list["models"].as_array().unwrap().iter().map(|m| (&m["name"], &m["provider"])).collect();
    assert_eq!(models, [(&json!("a"), &json!("openai")), (&json!("b"), &json!("azure"))]);
    let features = list["unit_primitives"].as_array().unwrap();
    let named = |name: &str| features.iter().find(|feature| feature["feature_setting"] == name);
    let completions = named("code_completions").unwrap();
    assert_eq!(
        (&completions["default_model"], &completions["selectable_models"]),
        (&json!("a"), &json!(["a"]))
    );
    assert_eq!(completions["unit_primitives"], json!(["complete_code"]));
    assert_eq!(named("duo_chat_explain_code").unwrap()["default_model"], "b", "the parent's");
    assert!(named("duo_chat_fix_code").is_none() && named("review_merge_request").is_none());
}
