//! One JSON line per request, with the fields operators build on; ids in and out; secrets nowhere.

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Reply, Upstream, chat_body, eventually};

const CANARY: &str = "sk-canary-1f0e9d8c";

#[tokio::test]
async fn a_line_has_every_field_of_the_issue() {
    let upstream = Upstream::says("Hi there").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let body = chat_body("m", true).to_string();
    let headers = [("x-request-id", "01JREQUEST")];
    let answer = gateway.call("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    let line = gateway.log.line("01JREQUEST").await;
    for (key, value) in [
        ("kind", json!("request")),
        ("request_id", json!("01JREQUEST")),
        ("surface", json!("openai_chat")),
        ("feature", json!("direct")),
        ("model", json!("m")),
        ("provider", json!("openai")),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("stream", json!(true)),
        ("tokens_in", json!(7)),
        ("tokens_out", json!(2)),
        ("bytes_in", json!(body.len())),
        ("bytes_out", json!(answer.body.len())),
        ("client", json!("127.0.0.1")),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
    assert!(number("ttft_ms") > 0.0 && number("ttft_ms") <= number("duration_ms"), "{line}");
    assert!(
        number("upstream_ms") > 0.0 && number("upstream_ms") <= number("duration_ms"),
        "{line}"
    );
    // both are rounded to the microsecond
    let overhead = number("duration_ms") * 1000.0 - number("upstream_ms") * 1000.0;
    assert!((number("overhead_us") - overhead).abs() <= 2.0, "{line}");
    assert_eq!(line["trace_id"].as_str().map(str::len), Some(32));
    let ts = line["ts"].as_str().unwrap();
    assert!(ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[10] == b'T', "{ts}");
    for absent in ["error_code", "phase", "note", "retries", "path"] {
        assert!(line.get(absent).is_none(), "{absent} in {line}");
    }
}

#[tokio::test]
async fn every_request_is_one_line_and_one_count() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answers = [
        gateway.chat("m", false).await,
        gateway.chat("m", true).await,
        gateway.chat("nothing", true).await,
        gateway.post("/v1/chat/agent", &json!({})).await,
        gateway.get("/v1/models").await,
        gateway.get("/monitoring/healthz").await,
        gateway.get("/nothing").await,
    ];
    for answer in &answers {
        let line = gateway.line(answer).await;
        assert_eq!(line["status"], answer.status(), "{line}");
        assert_eq!(line["bytes_out"], answer.body.len(), "{line}");
    }
    assert_eq!(gateway.log.lines().len(), answers.len());
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[]), 7.0, "{}", metrics.text);
    assert_eq!(metrics.sum("weir_requests_total", &[("outcome", "ok")]), 4.0, "{}", metrics.text);
    assert_eq!(
        metrics.sum("weir_requests_total", &[("outcome", "refused")]),
        3.0,
        "{}",
        metrics.text
    );
    assert_eq!(metrics.sum("weir_request_duration_seconds_count", &[]), 7.0);
    assert_eq!(metrics.sum("weir_upstream_duration_seconds_count", &[("model", "m")]), 2.0);
    assert_eq!(metrics.sum("weir_time_to_first_token_seconds_count", &[("model", "m")]), 2.0);
}

#[tokio::test]
async fn the_path_of_an_unknown_request_is_no_label() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for n in 0..20 {
        gateway.get(&format!("/unknown/{n}")).await;
        gateway.chat(&format!("model-{n}"), false).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[("surface", "unknown")]), 20.0);
    assert!(
        !metrics.text.contains("model-1") && !metrics.text.contains("/unknown"),
        "{}",
        metrics.text
    );
    let mut models = metrics.values("weir_requests_total", "model");
    models.sort_unstable();
    models.dedup();
    assert_eq!(models, ["-", "m"], "what the file names, and what is none");
}

#[tokio::test]
async fn trace_context_and_request_id_go_through() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str()), ("X-Request-ID", "corr-7")];
    let body = chat_body("m", false).to_string();
    let answer = gateway.call("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!(answer.header("x-request-id"), Some("corr-7"));
    let sent = upstream.only_request();
    assert_eq!(sent.header("x-request-id"), Some("corr-7"));
    let onward = sent.header("traceparent").unwrap();
    assert!(
        onward.starts_with(&format!("00-{TRACE}-"))
            && onward.ends_with("-01")
            && onward.len() == 55,
        "{onward}"
    );
    assert_ne!(onward, parent, "the span is our own");
    assert_eq!(gateway.log.line("corr-7").await["trace_id"], TRACE);
}

#[tokio::test]
async fn ids_that_are_absent_or_bad_are_made() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let long = "x".repeat(300);
    let bad: [&[(&str, &str)]; 4] = [
        &[],
        &[
            ("x-request-id", "has space"),
            ("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        ],
        &[("x-request-id", &long), ("traceparent", "garbage")],
        &[
            ("x-request-id", ""),
            ("traceparent", "ff-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
        ],
    ];
    for headers in bad {
        let answer = gateway
            .call(
                "POST",
                "/v1/chat/completions",
                headers,
                chat_body("m", false).to_string().as_bytes(),
            )
            .await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        let sent = upstream.requests().pop().unwrap();
        assert_eq!(sent.header("x-request-id"), Some(id.as_str()));
        let trace = gateway.log.line(&id).await["trace_id"].as_str().unwrap().to_owned();
        assert!(
            sent.header("traceparent").unwrap().starts_with(&format!("00-{trace}-")),
            "{trace}"
        );
    }
}

#[tokio::test]
async fn hostile_ids_and_paths_stay_one_line() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer =
        gateway.call("GET", "/%22%0A%7B%22x", &[("x-request-id", "\"},{\"a\":\"")], b"").await;
    assert_eq!(answer.status(), 404);
    let line = gateway.line(&answer).await;
    assert_eq!(line["path"], "/%22%0A%7B%22x");
    // an id that JSON would have to escape is replaced by a generated one
    assert_eq!(line["request_id"].as_str().unwrap().len(), 32, "{line}");
    assert_eq!(gateway.log.lines().len(), 1);
    let mut client = Client::connect(gateway.public).await;
    client
        .write("GET /\",\"status\":200,\"x\":\" HTTP/1.1\r\nhost: h\r\nx-request-id: known\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 404);
    let line = gateway.log.line("known").await;
    assert_eq!(
        (&line["path"], &line["status"]),
        (&json!("/\",\"status\":200,\"x\":\""), &json!(404)),
        "{line}"
    );
}

/// Puts a canary into every slot that takes a secret, calls every surface, provokes every kind of
/// failure.
#[tokio::test]
async fn no_secret_is_anywhere() {
    let replies = [
        Reply::json(401, &json!({"error": "Unauthorized"})),
        Reply::json(500, &json!({"error": {"message": "boom"}})),
        Reply::raw("garbage"),
        Reply::sse().text("one").then_close(),
        Reply::sse().text("one").done(true),
    ];
    let upstream = Upstream::script(replies).await;
    let file = format!(
        "[models.m]\nendpoint = \"{}\"\napi_key = \"{CANARY}\"\n[models.down]\nendpoint = \"http://127.0.0.1:9/v1\"\napi_key = \"{CANARY}\"\n\
         [features]\nduo_chat = \"down\"\nrequest_loopback = true\n[auth]\nmode = \"keys\"\nstatic_keys = [\"{CANARY}\"]\n",
        upstream.url()
    );
    let gateway = Gateway::start_whole(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\ndrain = \"100ms\"\n{file}"
    ))
    .await;
    let bearer = format!("Bearer {CANARY}");
    let (mut seen, mut last) = (String::new(), None);
    let metadata = |identifier: &str| json!({"inputs": {}, "model_metadata": {"name": "gpt", "endpoint": "http://127.0.0.1:9/v1", "api_key": CANARY, "identifier": identifier}});
    let bodies: [(&str, Value); 10] = [
        ("/v1/chat/completions", chat_body("m", true)),
        ("/v1/chat/completions", chat_body("m", false)),
        ("/v1/chat/completions", chat_body("m", true)),
        ("/v1/chat/completions", chat_body("m", true)),
        ("/v1/chat/completions", chat_body("m", true)),
        ("/v1/chat/completions", chat_body("down", true)),
        ("/v1/chat/agent", json!({"prompt_components": [{"payload": {"content": "Hello"}}]})),
        ("/v1/prompts/model_configuration/check", metadata("custom_openai/x")),
        ("/v1/prompts/model_configuration/check", metadata("nope/x")),
        ("/v1/nothing", json!({})),
    ];
    for auth in [
        ("authorization", bearer.as_str()),
        ("x-api-key", CANARY),
        ("authorization", "Basic c2stY2FuYXJ5"),
    ] {
        for (path, body) in &bodies {
            let answer = gateway.call("POST", path, &[auth], body.to_string().as_bytes()).await;
            seen.push_str(&answer.everything());
            last = Some(answer);
        }
    }
    // one worker writes its lines in order: with the last one all are there
    gateway.line(&last.unwrap()).await;
    assert_eq!(
        upstream.requests()[0].header("authorization"),
        Some(bearer.as_str()),
        "the canary was in use"
    );
    for path in ["/metrics", "/status", "/live", "/ready", "/nothing"] {
        seen.push_str(&gateway.admin(path).await.everything());
    }
    seen.push_str(&gateway.log.text());
    assert_eq!(gateway.log.lines().len(), 3 * bodies.len(), "all was looked at");
    assert!(!seen.contains(CANARY) && !seen.contains("canary"), "the canary sang");
    // nor what users wrote
    assert!(!gateway.log.text().contains("Hello"));
}

#[tokio::test]
async fn a_key_that_a_model_server_repeats_is_dots_in_the_log() {
    let stated = json!({"error": {"message": format!("Incorrect API key provided: {CANARY}")}});
    let upstream = Upstream::always(Reply::json(401, &stated)).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let line = gateway.line(&gateway.chat("m", false).await).await;
    assert!(line["note"].as_str().unwrap().contains("Incorrect API key provided: •••"), "{line}");
    assert!(!gateway.log.text().contains("canary"));
}

#[tokio::test]
async fn callers_without_a_key_are_401_and_send_nothing() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::start_whole(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\ndrain = \"100ms\"\n\
         [auth]\nmode = \"keys\"\nstatic_keys = [\"sk-known\"]\n[models.m]\nendpoint = \"{}\"\n[features]\ndefault = \"m\"\n",
        upstream.url()
    ))
    .await;
    let chat = chat_body("m", false).to_string();
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer ")],
        &[("x-api-key", "sk-know")],
    ] {
        let answer = gateway.call("POST", "/v1/chat/completions", headers, chat.as_bytes()).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["code"]),
            (401, &json!("unauthorized"))
        );
        let answer = gateway.call("POST", "/v1/chat/agent", headers, b"{}").await;
        assert!(answer.status() == 401 && answer.json()["error"].is_string(), "{}", answer.text());
    }
    assert!(upstream.requests().is_empty());
    for headers in [&[("authorization", "Bearer sk-known")], &[("x-api-key", "sk-known")]] {
        let answer = gateway.call("POST", "/v1/chat/completions", headers, chat.as_bytes()).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    // probes need no key
    assert_eq!(gateway.get("/monitoring/healthz").await.status(), 200);
    eventually("the refusals are counted", async || {
        gateway.metrics().await.sum("weir_errors_total", &[("code", "unauthorized")]) == 8.0
    })
    .await;
}
