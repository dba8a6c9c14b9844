//! `POST /v1/chat/{name}`: GitLab's troubleshooting `curl` must work
//! (contract::ai_gateway_server §1.6).

use serde_json::{Value, json};

use crate::support::{Client, End, Gateway, Reply, Upstream};

const PATH: &str = "/v1/chat/agent";

/// Returns the body of that `curl`; the model it names is used only where the file allows it.
fn curl(content: &Value, stream: bool) -> Value {
    json!({"prompt_components": [{
        "type": "string",
        "metadata": {"source": "string", "version": "string"},
        "payload": {"content": content, "provider": "litellm", "model": "mistral"},
    }], "stream": stream})
}

#[tokio::test]
async fn the_curl_of_the_troubleshooting_page_works() {
    let upstream = Upstream::says("Hi there").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let headers = [("accept", "application/json"), ("Content-Type", "application/json")];
    let body = curl(&json!("Hello"), false).to_string();
    let mut client = Client::connect(gateway.public).await;
    let answer = client.call("POST", PATH, &headers, body.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let stated = answer.json();
    assert_eq!(stated["response"], "Hi there");
    assert!(
        stated["metadata"]["provider"].is_string() && stated["metadata"]["model"] == "up",
        "{stated}"
    );
    assert!(
        stated["metadata"]["timestamp"].as_u64().is_some_and(|at| at > 1_700_000_000),
        "{stated}"
    );
    let sent = upstream.only_request();
    assert_eq!(sent.path, "/v1/chat/completions");
    assert_eq!(sent.json()["messages"], json!([{"role": "user", "content": "Hello"}]));
    assert_eq!(sent.json()["model"], "up");
}

#[tokio::test]
async fn a_stream_is_raw_text() {
    let upstream = Upstream::says("Hi there, you").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.post(PATH, &curl(&json!("Hello"), true)).await;
    assert_eq!((answer.status(), answer.text(), answer.end), (200, "Hi there, you", End::Proper));
    let line = gateway.line(&answer).await;
    assert_eq!((&line["stream"], &line["tokens_in"]), (&json!(true), &json!(7)), "{line}");
}

#[tokio::test]
async fn parameters_and_message_lists_are_passed_on() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let messages =
        json!([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}]);
    let mut body = curl(&messages, false);
    body["prompt_components"][0]["payload"]["params"] =
        json!({"stop_sequences": ["END"], "temperature": 0.5, "max_tokens_to_sample": 64});
    assert_eq!(gateway.post(PATH, &body).await.status(), 200);
    let sent = upstream.only_request().json();
    assert_eq!(sent["messages"], messages);
    assert_eq!(
        (&sent["temperature"], &sent["max_tokens"], &sent["stop"]),
        (&json!(0.5), &json!(64), &json!(["END"]))
    );
}

#[tokio::test]
async fn each_name_is_its_feature() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let names = [
        ("agent", "duo_chat"),
        ("explain_code", "duo_chat_explain_code"),
        ("write_tests", "duo_chat_write_tests"),
        ("refactor_code", "duo_chat_refactor_code"),
        ("explain_vulnerability", "duo_chat_explain_vulnerability"),
        ("summarize_comments", "duo_chat_summarize_comments"),
        ("troubleshoot_job", "duo_chat_troubleshoot_job"),
    ];
    let mut answers = Vec::new();
    for (name, feature) in names {
        let answer = gateway.post(&format!("/v1/chat/{name}"), &curl(&json!("Hello"), false)).await;
        assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
        answers.push((answer, feature));
    }
    for (answer, feature) in answers {
        assert_eq!(gateway.line(&answer).await["feature"], feature);
    }
}

#[tokio::test]
async fn wrong_bodies_say_where_they_are_wrong() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let loc = |body: Value| {
        let gateway = &gateway;
        async move {
            let answer = gateway.post(PATH, &body).await;
            assert_eq!(answer.status(), 422, "{body}");
            answer.json()["detail"][0]["loc"].clone()
        }
    };
    assert_eq!(loc(json!({})).await, json!(["body", "prompt_components"]));
    assert_eq!(loc(json!({"prompt_components": []})).await, json!(["body", "prompt_components"]));
    let component = |payload: Value| json!({"prompt_components": [{"payload": payload}]});
    let index_path = ["body", "prompt_components", "payload"];
    let at = loc(component(json!({}))).await;
    assert!(
        index_path.iter().all(|part| at.to_string().contains(part))
            && at.to_string().contains("content"),
        "{at}"
    );
    let at = loc(component(json!({"content": [{"role": "oracle", "content": "x"}]}))).await;
    assert_eq!(at, json!(["body", "prompt_components", 0, "payload", "content", 0, "role"]));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_failed_model_is_clean_before_the_head_and_cut_after_it() {
    let upstream = Upstream::script([
        Reply::json(500, &json!({"error": {"message": "boom"}})),
        Reply::json(500, &json!({"error": {"message": "boom"}})),
        Reply::sse().text("one").then_close(),
    ])
    .await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.post(PATH, &curl(&json!("Hello"), false)).await;
    assert_eq!((answer.status(), answer.end), (502, End::Proper));
    assert!(
        answer.json()["detail"][0]["msg"].as_str().unwrap().contains("500"),
        "{}",
        answer.text()
    );
    let answer = gateway.post(PATH, &curl(&json!("Hello"), true)).await;
    assert_eq!(answer.status(), 502);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{answer:?}");
    let answer = gateway.post(PATH, &curl(&json!("Hello"), true)).await;
    assert_eq!((answer.status(), answer.text(), answer.end), (200, "one", End::Cut));
    assert_eq!(gateway.line(&answer).await["error_code"], "upstream_broken");
}
