//! The OpenAI surface: bytes pass, the model is replaced, usage is requested and hidden again.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use crate::support::{Client, End, Gateway, Reply, Upstream, chat_body, one_model};

/// A body no serializer would write: unknown fields, odd spacing, number spellings, escapes, any
/// order.
const ODD: &str = "\n{ \"x_unknown\": {\"deep\":[1.50, 1E3 ,-0]},\t\"messages\" : [ {\"role\":\"user\",\"content\":\"caf\\u00e9 \\ud83d\\ude00 \\\"model\\\": \\\"no\\\"\",\"name\":null} ] ,\"model\" : \"m\",\"temperature\":0.10,\"logit_bias\":{\"50256\":-100} }\n";

#[tokio::test]
async fn a_request_passes_byte_for_byte_but_for_the_model() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.call("POST", "/v1/chat/completions", &[], ODD.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let received = upstream.only_request();
    assert_eq!(
        (received.method.as_str(), received.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(received.text(), ODD.replace("\"model\" : \"m\"", "\"model\" : \"up\""));
}

#[tokio::test]
async fn a_streamed_request_gains_only_include_usage() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let body = r#"{"stream" : true , "model":"m","messages":[{"role":"user","content":"Hello"}], "z":1.0}"#;
    let answer = gateway.call("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let received = upstream.only_request();
    assert_eq!(received.json()["stream_options"], json!({"include_usage": true}));
    let kept = &body[1..].replace("\"m\"", "\"up\"");
    assert!(received.text().ends_with(kept), "{}", received.text());
}

#[tokio::test]
async fn an_answer_passes_byte_for_byte() {
    const BODY: &str = "{ \"id\":\"x\",\n \"choices\" : [{\"message\":{\"content\":\"Hi\"},\"odd\":1.0}], \"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}, \"vendor\":[ ] }";
    let upstream =
        Upstream::always(Reply::whole(200, &[("content-type", "application/json")], BODY)).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", false).await;
    assert_eq!((answer.status(), answer.text()), (200, BODY));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.end, End::Proper);
}

#[tokio::test]
async fn usage_is_requested_counted_and_hidden() {
    let upstream = Upstream::says("Hi there").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", true).await;
    assert_eq!(upstream.only_request().json()["stream_options"]["include_usage"], true);
    assert!(!answer.text().contains("usage"), "{}", answer.text());
    assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(answer.events().len(), 4, "{}", answer.text());
    let line = gateway.line(&answer).await;
    assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&json!(7), &json!(2)));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_tokens_total", &[("direction", "input"), ("model", "m")]), 7.0);
    assert_eq!(metrics.sum("weir_tokens_total", &[("direction", "output"), ("model", "m")]), 2.0);
}

#[tokio::test]
async fn usage_that_the_client_requested_is_kept() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut body = chat_body("m", true);
    body["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": true});
    let answer = gateway.post("/v1/chat/completions", &body).await;
    assert_eq!(upstream.only_request().json()["stream_options"], body["stream_options"]);
    assert!(
        answer.text().contains(r#""choices":[],"usage":{"prompt_tokens":7"#),
        "{}",
        answer.text()
    );
    assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
}

#[tokio::test]
async fn a_client_that_declined_usage_does_not_see_it() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut body = chat_body("m", true);
    body["stream_options"] = json!({"include_usage": false});
    let answer = gateway.post("/v1/chat/completions", &body).await;
    assert_eq!(upstream.only_request().json()["stream_options"]["include_usage"], true);
    assert!(!answer.text().contains("usage"), "{}", answer.text());
    assert_eq!(gateway.line(&answer).await["tokens_in"], 7);
}

#[tokio::test]
async fn content_chunks_that_carry_usage_are_not_hidden() {
    let running = r#"{"choices":[{"delta":{"content":"Hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":1}}"#;
    let last = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let upstream =
        Upstream::always(Reply::sse().event(running).event(last).event("[DONE]").end()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", true).await;
    assert_eq!(answer.events(), [running, "[DONE]"]);
    // the last count wins
    assert_eq!(gateway.line(&answer).await["tokens_out"], 3);
}

#[tokio::test]
async fn streamed_events_pass_byte_for_byte() {
    let odd = ": ping\n\ndata:{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"x\":1.50}\r\n\r\nevent: e\ndata: {\"choices\":[]}\n\nid: 7\ndata: [DONE]\n\n";
    let upstream = Upstream::always(Reply::sse().bytes(odd).end()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", true).await;
    assert_eq!((answer.text(), answer.end), (odd, End::Proper));
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
}

#[tokio::test]
async fn events_cut_anywhere_by_the_network_are_the_same_events() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"é\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let reply =
        text.as_bytes().chunks(3).fold(Reply::sse(), |reply, piece| reply.bytes(piece)).end();
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", true).await;
    assert_eq!(answer.events(), ["{\"choices\":[{\"delta\":{\"content\":\"é\"}}]}", "[DONE]"]);
    assert_eq!(gateway.line(&answer).await["tokens_in"], 7);
}

#[tokio::test]
async fn each_event_is_sent_on_at_once() {
    let gate = Arc::new(Notify::new());
    let upstream =
        Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut client = gateway.open_chat("m", true).await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    let first = client.read_until("one").await;
    assert!(!first.contains("two"), "{first}");
    // only now may the model go on: nothing was buffered
    gate.notify_one();
    let rest = client.body(head, false).await;
    assert!(rest.text().contains("two") && rest.end == End::Proper, "{}", rest.text());
}

#[tokio::test]
async fn completions_and_embeddings_pass_too() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway
        .post("/v1/completions", &json!({"model": "m", "prompt": "def f", "suffix": "x"}))
        .await;
    assert_eq!((answer.status(), &answer.json()["choices"][0]["text"]), (200, &json!("Hi")));
    assert_eq!(gateway.line(&answer).await["surface"], "openai_completions");
    let answer = gateway
        .post("/v1/completions", &json!({"model": "m", "prompt": "def f", "stream": true}))
        .await;
    assert!(answer.events().last().is_some_and(|last| last == "[DONE]"), "{}", answer.text());
    let answer = gateway
        .post("/v1/embeddings", &json!({"model": "m", "input": ["a"], "dimensions": 2}))
        .await;
    assert_eq!(
        (answer.status(), &answer.json()["data"][0]["embedding"]),
        (200, &json!([0.5, -1.0]))
    );
    assert_eq!(gateway.line(&answer).await["tokens_in"], 7);
    let requests = upstream.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v1/completions", "/v1/completions", "/v1/embeddings"]);
    assert_eq!(requests[2].json(), json!({"model": "up", "input": ["a"], "dimensions": 2}));
}

#[tokio::test]
async fn models_lists_the_names_of_the_file() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.get("/v1/models").await;
    let body = answer.json();
    assert_eq!((answer.status(), &body["object"]), (200, &json!("list")));
    let models = body["data"].as_array().unwrap();
    let own = models.iter().find(|model| model["id"] == "m").expect("the file's model");
    assert_eq!(own["object"], "model");
    assert!(own["created"].is_u64() && own["owned_by"].is_string(), "{own}");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_feature_is_a_model_name() {
    let (one, two) = (Upstream::says("one").await, Upstream::says("two").await);
    let file = format!(
        "[models.one]\nidentifier = \"custom_openai/a\"\nfamily = \"general\"\nendpoints = [\"{}\"]\n[models.two]\nidentifier = \"custom_openai/b\"\nfamily = \"general\"\nendpoints = [\"{}\"]\n[features]\ndefault = \"one\"\nduo_chat = \"two\"\n",
        one.url(),
        two.url()
    );
    let gateway = Gateway::start(&file).await;
    let answer = gateway.chat("feature/duo_chat_explain_code", false).await;
    assert!(answer.text().contains("two"), "{}", answer.text());
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["feature"], &line["model"]),
        (&json!("duo_chat_explain_code"), &json!("two"))
    );
    let answer = gateway.chat("one", false).await;
    assert!(answer.text().contains("one"), "{}", answer.text());
    assert_eq!(gateway.line(&answer).await["feature"], "direct");
}

#[tokio::test]
async fn an_unknown_model_is_404_in_openais_shape() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for name in ["gpt-4o", "feature/nothing", "M", ""] {
        let answer = gateway.chat(name, false).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["code"]),
            (404, &json!("model_not_found")),
            "{name}: {error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(answer.header("x-weir-error"), Some("model_not_found"));
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_models_key_is_sent_and_the_clients_is_not() {
    let upstream = Upstream::says("Hi").await;
    let file = format!(
        "[models.m]\nidentifier = \"custom_openai/up\"\nfamily = \"general\"\nendpoints = [\"{}\"]\napi_key = \"sk-models\"\n",
        upstream.url()
    );
    let gateway = Gateway::start(&file).await;
    let headers = [
        ("authorization", "Bearer sk-clients"),
        ("x-api-key", "sk-clients"),
        ("cookie", "sk-clients"),
    ];
    let body = chat_body("m", false).to_string();
    let answer = gateway.call("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!(answer.status(), 200);
    let received = upstream.only_request();
    assert_eq!(received.header("authorization"), Some("Bearer sk-models"));
    assert!(!received.head_text().contains("sk-clients"), "{}", received.head_text());
}

#[tokio::test]
async fn the_model_servers_own_refusals_pass() {
    let own = json!({"error": {"message": "max_tokens is too large", "type": "BadRequestError", "param": null, "code": 400}});
    let limit = Reply::whole(
        429,
        &[("content-type", "application/json"), ("retry-after", "17")],
        r#"{"error":{"message":"slow down","code":"rate"}}"#,
    );
    let upstream = Upstream::script([
        Reply::json(400, &own),
        limit,
        Reply::whole(500, &[], "Internal Server Error"),
    ])
    .await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", true).await;
    assert_eq!((answer.status(), answer.json()), (400, own));
    let answer = gateway.chat("m", false).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("17")));
    assert_eq!(answer.json()["error"]["message"], "slow down");
    let answer = gateway.chat("m", false).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (502, &json!("upstream_status"))
    );
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["outcome"], &line["error_code"]),
        (&json!("upstream_error"), &json!("upstream_status"))
    );
    assert!(line["note"].as_str().unwrap().contains("500"), "{line}");
}

#[tokio::test]
async fn a_key_that_the_model_server_repeats_reaches_no_client() {
    let repeated = |status| {
        Reply::json(status, &json!({"error": {"message": "wrong key sk-operators-own", "code": 1}}))
    };
    let event = Reply::sse()
        .event(json!({"error": {"message": "wrong key sk-operators-own"}}).to_string())
        .end();
    let upstream = Upstream::script([repeated(401), repeated(400), repeated(500), event]).await;
    let file = one_model(&upstream.url())
        .replace("[features]", "api_key = \"sk-operators-own\"\n[features]");
    let gateway = Gateway::start(&file).await;
    for stream in [false, true, false, true] {
        let answer = gateway.chat("m", stream).await;
        assert!(
            answer.status() >= 400 && !answer.everything().contains("sk-operators"),
            "{}",
            answer.everything()
        );
        let line = gateway.line(&answer).await.to_string();
        assert!(line.contains("•••") && !line.contains("sk-operators"), "{line}");
    }
}

#[tokio::test]
async fn a_content_filter_is_nobodys_failure() {
    // Azure's error for it (contract::providers §d2.4), as a response and as the first event of a
    // stream
    let own = json!({"error": {"message": "The response was filtered", "param": "prompt", "code": "content_filter"}});
    let event = Reply::sse().event(own.to_string()).end();
    let upstream = Upstream::script([Reply::json(400, &own), Reply::json(400, &own), event]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for stream in [false, true, true] {
        let answer = gateway.chat("m", stream).await;
        assert_eq!((answer.status(), answer.json()), (400, own.clone()));
        let line = gateway.line(&answer).await;
        assert_eq!(
            (&line["outcome"], &line["error_code"]),
            (&json!("refused"), &json!("content_filter")),
            "{line}"
        );
    }
    assert_eq!(upstream.requests().len(), 3, "none is sent again");
    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.sum("weir_errors_total", &[("code", "content_filter"), ("model", "m")]),
        3.0
    );
    assert_eq!(metrics.sum("weir_requests_total", &[("outcome", "upstream_error")]), 0.0);
    assert_eq!(metrics.sum("weir_upstream_healthy", &[("model", "m")]), 1.0);
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::says("Hi there").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut client = Client::connect(gateway.public).await;
    for stream in [false, true, false, true] {
        let body = chat_body("m", stream).to_string();
        let answer = client.call("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
        assert_eq!((answer.status(), answer.end), (200, End::Proper));
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (4, 1));
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    let upstream = Upstream::start(|request| {
        Reply::json(200, &json!({"choices":[{"message":{"content": request.text()}}]}))
    })
    .await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut body = chat_body("m", false);
    body["messages"][0]["content"] = json!("x".repeat(2 << 20));
    let answer = gateway.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status(), 200);
    body["model"] = json!("up");
    let received = upstream.only_request();
    assert_eq!(received.json(), body);
    // the response quotes the request: both directions carried all of it
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap(),
        received.text()
    );
}
