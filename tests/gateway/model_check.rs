//! GitLab's "Test connection" button (contract::gitlab_client §10.1): 200, or 421 with the model
//! server's status.

use serde_json::{Value, json};

use crate::support::{Gateway, Reply, Upstream};

const PATHS: [&str; 4] = [
    "/v1/prompts/model_configuration/check",
    "/v1/prompts/model_configuration%2Fcheck",
    "/v2/prompts/model_configuration/check",
    "/v2/prompts/model_configuration%2fcheck",
];

/// A file that names no model: the request's model is called.
const LAB: &str = "[features]\nrequest_loopback = true\n";

fn form(upstream: &Upstream) -> Value {
    json!({"inputs": {}, "stream": false, "model_metadata": {
        "name": "mistral", "endpoint": format!("{}/", upstream.url()), "api_key": "sk-form", "provider": "openai",
        "identifier": "custom_openai/mistralai/Mistral-7B",
    }})
}

#[tokio::test]
async fn it_asks_the_model_of_the_form() {
    let upstream = Upstream::says("OK").await;
    let gateway = Gateway::start(LAB).await;
    for path in PATHS {
        let answer = gateway.post(path, &form(&upstream)).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        answer.json();
        let line = gateway.line(&answer).await;
        assert_eq!(
            (&line["surface"], &line["model"]),
            (&json!("gitlab_model_check"), &json!("request")),
            "{line}"
        );
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), PATHS.len());
    for request in requests {
        assert_eq!(request.path, "/v1/chat/completions");
        assert_eq!(request.json()["model"], "mistralai/Mistral-7B");
        assert_eq!(request.header("authorization"), Some("Bearer sk-form"));
    }
}

#[tokio::test]
async fn without_a_model_in_the_form_the_default_is_called() {
    let upstream = Upstream::says("OK").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for body in [
        json!({"inputs": {}}),
        json!({"inputs": {}, "model_metadata": null}),
        json!({"model_metadata": {}}),
    ] {
        assert_eq!(gateway.post(PATHS[1], &body).await.status(), 200, "{body}");
    }
    let none = Gateway::start("").await;
    let answer = none.post(PATHS[0], &json!({"inputs": {}})).await;
    assert_eq!(answer.status(), 422);
    assert!(
        answer.json()["detail"][0]["msg"].as_str().unwrap().starts_with("No model is configured"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_model_servers_status_is_421_with_its_phrase() {
    let statuses = [
        (401, "401: Unauthorized"),
        (404, "404: Not Found"),
        (429, "429: Too Many Requests"),
        (500, "500: Internal Server Error"),
        (503, "503: Service Unavailable"),
    ];
    for (status, detail) in statuses {
        let upstream =
            Upstream::always(Reply::json(status, &json!({"error": "Unauthorized"}))).await;
        let gateway = Gateway::start(LAB).await;
        for path in PATHS {
            let answer = gateway.post(path, &form(&upstream)).await;
            assert_eq!(
                (answer.status(), answer.json()),
                (421, json!({"detail": detail})),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_talks_rubbish_is_421() {
    let gateway = Gateway::start(LAB).await;
    let mut body = form(&Upstream::says("OK").await);
    body["model_metadata"]["endpoint"] = json!("http://127.0.0.1:9/v1");
    let answer = gateway.post(PATHS[1], &body).await;
    assert_eq!(answer.status(), 421, "{}", answer.text());
    assert!(
        answer.json()["detail"].as_str().unwrap().starts_with("502: Bad Gateway"),
        "{}",
        answer.text()
    );
    for rubbish in [
        Reply::raw("SSH-2.0-OpenSSH_9.6\r\n"),
        Reply::json(200, &json!({"hello": 1})),
        Reply::closed(),
    ] {
        let upstream = Upstream::always(rubbish).await;
        let answer = gateway.post(PATHS[1], &form(&upstream)).await;
        assert_eq!(answer.status(), 421, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_wrong_form_says_which_field() {
    let gateway = Gateway::start(LAB).await;
    let metadata = |field: &str, value: &str| {
        let mut metadata =
            json!({"name": "mistral", "endpoint": "http://h/v1", "identifier": "custom_openai/x"});
        metadata[field] = json!(value);
        json!({"inputs": {}, "model_metadata": metadata})
    };
    for (field, value) in [
        ("endpoint", "gpu:8000"),
        ("endpoint", "http://u:p@h/v1"),
        ("identifier", "nope/x"),
        ("identifier", "openai/"),
    ] {
        let answer = gateway.post(PATHS[1], &metadata(field, value)).await;
        assert_eq!(answer.status(), 422, "{field} {value}: {}", answer.text());
        let detail = answer.json()["detail"][0].clone();
        assert_eq!(detail["loc"], json!(["body", "model_metadata", field]));
        assert!(detail["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{detail}");
    }
}
