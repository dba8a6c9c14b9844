//! `priority` of a model: its server receives the priority of each request, on every call, whatever
//! the client sends.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{
    Gateway, Received, Reply, Surface, Upstream, chat_body, one_model, says, surfaces,
};

const PHRASES: &str = "Hello there, you";

fn prioritized(upstream: &Upstream) -> String {
    one_model(&upstream.url()).replace("[features]", "priority = true\n[features]")
}

/// Returns the number of a call's class: interactive calls come first.
fn number(surface: &Surface) -> u8 {
    match surface.label {
        "gitlab_code" if surface.path.contains("generations") => 1,
        "gitlab_code" => 0,
        "gitlab_prompts" | "gitlab_embeddings" => 2,
        _ => 1,
    }
}

/// Returns the body that the model server received for each call of [`surfaces`].
async fn bodies(upstream: &Upstream, gateway: &Gateway) -> Vec<String> {
    for surface in surfaces() {
        let answer = gateway.call("POST", surface.path, &[], &surface.bytes()).await;
        assert!(surface.is_good(&answer, "Hello"), "{}: {}", surface.name, answer.text());
    }
    upstream.requests().iter().map(|request| request.text().to_owned()).collect()
}

#[tokio::test]
async fn every_call_carries_its_classs_number_and_without_the_key_none_does() {
    let (with, without) = (Upstream::says(PHRASES).await, Upstream::says(PHRASES).await);
    let stated = bodies(&with, &Gateway::start(&prioritized(&with)).await).await;
    let unsaid = bodies(&without, &Gateway::start(&one_model(&without.url())).await).await;
    assert_eq!((stated.len(), unsaid.len()), (surfaces().len(), surfaces().len()));
    for (surface, (stated, unsaid)) in surfaces().iter().zip(stated.iter().zip(&unsaid)) {
        assert!(!unsaid.contains("priority"), "{}: {unsaid}", surface.name);
        let expected = format!("{{\"priority\":{},{}", number(surface), &unsaid[1..]);
        assert_eq!(*stated, expected, "{}", surface.name);
    }
}

#[tokio::test]
async fn a_clients_own_number_overtakes_nobody() {
    let upstream = Upstream::says(PHRASES).await;
    let gateway = Gateway::start(&prioritized(&upstream)).await;
    let twice =
        r#"{"priority": -9, "model": "m", "messages": [], "prior\u0069ty": -99, "stream": true}"#;
    let call = async |body: &str| {
        gateway.call("POST", "/v1/chat/completions", &[], body.as_bytes()).await.status()
    };
    assert_eq!(call(twice).await, 200);
    gateway.reload(&one_model(&upstream.url()));
    assert_eq!(call(twice).await, 200);
    let sent: Vec<String> =
        upstream.requests().iter().map(|request| request.text().to_owned()).collect();
    let passed = twice.replace("\"m\"", "\"up\"").replacen(
        '{',
        r#"{"stream_options":{"include_usage":true},"#,
        1,
    );
    assert_eq!(sent[0], passed.replace("-99", "1").replace("-9", "1"));
    assert_eq!(sent[1], passed, "without the key it is the client's own matter");
}

#[tokio::test]
async fn it_goes_with_every_attempt_and_a_fallback_has_a_key_of_its_own() {
    let failing = AtomicBool::new(true);
    let script = std::sync::Arc::new(move |request: &Received| {
        match failing.swap(false, Ordering::Relaxed) {
            true => Reply::json(500, &json!({"error": {"message": "out of memory"}})),
            false => says(request, PHRASES),
        }
    });
    let other = std::sync::Arc::clone(&script);
    let replicas = [
        Upstream::start(move |request| script(request)).await,
        Upstream::start(move |request| other(request)).await,
    ];
    let [one, two] = replicas.each_ref().map(Upstream::url);
    let gateway = Gateway::start(&format!(
        "[models.m]\nendpoints = [\"{one}\", \"{two}\"]\npriority = true\n"
    ))
    .await;
    assert_eq!(gateway.chat("m", true).await.status(), 200);
    let sent: Vec<Value> =
        replicas.iter().flat_map(Upstream::requests).map(|request| request.json()).collect();
    assert_eq!((sent.len(), &sent[0]["priority"], &sent[1]["priority"]), (2, &json!(1), &json!(1)));

    let (down, up) = (Upstream::always(Reply::closed()).await, Upstream::says(PHRASES).await);
    let (first, second) = (down.url(), up.url());
    let gateway = Gateway::start(&format!(
        "[models.one]\nendpoint = \"{first}\"\npriority = true\n[models.two]\nendpoint = \"{second}\"\n\
         [features]\ndefault = {{ model = \"one\", fallback = [\"two\"] }}\n"
    ))
    .await;
    let mut body = chat_body("feature/review_merge_request", true);
    assert_eq!(gateway.post("/v1/chat/completions", &body).await.status(), 200);
    body["max_tokens"] = json!(9);
    assert_eq!(gateway.post("/v1/messages", &body).await.status(), 200);
    assert!(down.requests().iter().all(|request| request.json()["priority"] == 2));
    assert_eq!((down.requests().len(), up.requests().len()), (2, 2));
    assert!(up.requests().iter().all(|request| !request.text().contains("priority")));
}

#[tokio::test]
async fn a_server_that_refuses_it_is_reported_with_what_to_do() {
    // as vLLM's documentation has it; 0.32 accepts any number and ignores it
    let refusal = json!({"error": {"message": "Got priority 1 but Priority scheduling is not enabled.", "code": 400}});
    let upstream = Upstream::always(Reply::json(400, &refusal)).await;
    let gateway = Gateway::start(&prioritized(&upstream)).await;
    let answer = gateway.chat("m", false).await;
    assert_eq!(answer.status(), 400);
    let note = gateway.line(&answer).await["note"].to_string();
    assert!(
        note.contains("--scheduling-policy priority") && note.contains("priority = true"),
        "{note}"
    );
}
