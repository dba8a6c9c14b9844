//! Anthropic's Messages API towards clients: passed through where the model's server supports it,
//! translated elsewhere; and GitLab's proxy, which leads to the same handler.

use std::fs;

use serde_json::{Value, json};

use crate::golden::{folder, golden};
use crate::support::{Answer, Deaf, End, Gateway, Reply, Upstream};

/// One model of each kind, all on one server.
const KINDS: [&str; 4] = ["openai", "azure", "bedrock", "anthropic"];

fn models(upstream: &Upstream) -> String {
    let root = format!("http://{}", upstream.address);
    format!(
        "[models.openai]\nidentifier = \"custom_openai/up\"\nendpoint = \"{root}/v1\"\n\
         [models.azure]\nidentifier = \"azure/up\"\nendpoint = \"{root}\"\napi_key = \"azure-canary\"\n\
         [models.bedrock]\nidentifier = \"bedrock/anthropic.claude-x\"\nendpoint = \"{root}\"\nregion = \"eu-central-1\"\napi_key = \"aws-canary\"\n\
         [models.anthropic]\nidentifier = \"anthropic/up\"\nendpoint = \"{root}\"\napi_key = \"anthropic-canary\"\n"
    )
}

/// Returns the response of each kind of server to the golden request: text, a tool call with
/// arguments in pieces, one without.
fn answers(path: &str, stream: bool) -> Reply {
    let recorded = |name: &str| fs::read(folder("streams").join(name)).unwrap();
    let events = |name: &str| Reply::sse().bytes(recorded(name)).end();
    match (path, stream) {
        ("/v1/messages", true) => events("tools.anthropic.sse"),
        ("/v1/messages", false) => Reply::json(
            200,
            &json!({"id": "msg_up", "type": "message", "role": "assistant", "model": "up",
            "content": [{"type": "tool_use", "id": "tu_1", "name": "get_issue", "input": {}}], "stop_reason": "tool_use",
            "usage": {"input_tokens": 7, "output_tokens": 2}}),
        ),
        (path, true) if path.starts_with("/model/") => {
            Reply::head(200, &[("content-type", "application/vnd.amazon.eventstream")])
                .bytes(recorded("tools.bedrock.bin"))
                .end()
        }
        (path, false) if path.starts_with("/model/") => Reply::json(
            200,
            &json!({"output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}}, {"text": "Looking."},
            {"toolUse": {"toolUseId": "tu_1", "name": "get_issue", "input": {}}}]}}, "stopReason": "tool_use",
            "usage": {"inputTokens": 7, "outputTokens": 2, "cacheReadInputTokens": 3}}),
        ),
        (_, true) => events("tools.openai.sse"),
        (_, false) => Reply::json(
            200,
            &json!({"id": "c-1", "object": "chat.completion", "created": 1, "model": "up", "choices": [{"index": 0,
            "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_issue", "arguments": "{\"id\":1}"}},
                {"id": "call_2", "type": "function", "function": {"name": "get_issue", "arguments": ""}}]}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}}),
        ),
    }
}

/// Returns a request with everything that every kind of server supports.
fn received(model: &str, stream: bool) -> Value {
    json!({
        "model": model, "max_tokens": 64, "temperature": 0.2, "stop_sequences": ["END"], "stream": stream, "metadata": {"user_id": "u"},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": "Compare #1 and #2"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_issue", "input": {"id": 1}}, {"type": "tool_use", "id": "toolu_2", "name": "get_issue", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "open"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such issue", "is_error": true},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "text", "text": "And this?"}]},
        ],
        "tools": [{"name": "get_issue", "description": "Reads an issue", "cache_control": {"type": "ephemeral"},
            "input_schema": {"type": "object", "properties": {"id": {"type": "integer"}}}}],
        "tool_choice": {"type": "any"}, "thinking": {"type": "enabled", "budget_tokens": 2048},
    })
}

async fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(|request| {
        let stream = request.path.ends_with("-stream") || request.json()["stream"] == true;
        answers(&request.path, stream)
    })
    .await;
    let gateway = Gateway::start(&models(&upstream)).await;
    (upstream, gateway)
}

/// Returns a response with ids and times replaced by constants.
fn steady(answer: &Answer) -> String {
    let text = answer.text();
    let Some(at) = text
        .find("\"msg_")
        .filter(|at| text[at + 5..].starts_with(|c: char| c.is_ascii_hexdigit()))
    else {
        return text.to_owned();
    };
    let end = at + 1 + text[at + 1..].find('"').unwrap();
    text.replace(&text[at..end], "\"msg_…")
}

/// Returns the `type` and `message` of an error.
fn stated(text: &str) -> (String, String) {
    let body: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(body["type"], "error", "{text}");
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{text}");
    let field = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    (field("type"), field("message"))
}

#[tokio::test]
async fn every_kind_of_model_whole_and_streamed() {
    let (upstream, gateway) = house().await;
    for kind in KINDS {
        for (stream, name) in [(false, "whole"), (true, "stream")] {
            let answer = gateway.post("/v1/messages", &received(kind, stream)).await;
            assert_eq!(
                (answer.status(), answer.end),
                (200, End::Proper),
                "{kind} {name}: {}",
                answer.text()
            );
            let received = upstream.requests().pop().unwrap();
            let body = serde_json::to_string_pretty(&received.json()).unwrap();
            let text =
                format!("{} {}\n{body}\n\n{}\n", received.method, received.path, steady(&answer));
            golden(&folder("messages").join(format!("{name}.{kind}.snap")), &text);
            let line = gateway.line(&answer).await;
            assert_eq!(
                (&line["surface"], &line["model"], &line["outcome"], &line["stream"]),
                (&json!("anthropic_messages"), &json!(kind), &json!("ok"), &json!(stream)),
                "{line}"
            );
            assert!(
                line["tokens_in"].as_u64() > Some(0) && line["tokens_out"].as_u64() > Some(0),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_passes_byte_for_byte_but_for_the_model_to_a_server_that_speaks_the_same() {
    const ODD: &str =
        "{ \"x\": [1.50, 1E3],\"model\" :\"anthropic\", \"max_tokens\":5,\n\"messages\":[] }";
    let (upstream, gateway) = house().await;
    let headers = [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "context-1m-2025-08-07,files-api-2025-04-14"),
        ("x-api-key", "client-canary"),
        ("cookie", "a=b"),
    ];
    let answer = gateway.call("POST", "/v1/messages?beta=true", &headers, ODD.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let received = upstream.only_request();
    assert_eq!(
        (received.path.as_str(), received.text()),
        ("/v1/messages?beta=true", &*ODD.replace("\"anthropic\"", "\"up\""))
    );
    assert_eq!(received.header("anthropic-beta"), Some("context-1m-2025-08-07"));
    assert_eq!(
        (received.header("x-api-key"), received.header("cookie")),
        (Some("anthropic-canary"), None)
    );
    assert_eq!(
        gateway.line(&answer).await["note"],
        "anthropic-beta left out: files-api-2025-04-14"
    );
}

#[tokio::test]
async fn a_passed_stream_is_complete_only_with_its_end() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1},"stop_reason":null}}"#;
    let text =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;
    let last = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#;
    let (whole, cut) = (
        Reply::sse().event(start).event(text).event(last).event(r#"{"type":"message_stop"}"#).end(),
        Reply::sse().event(start).event(text).end(),
    );
    let upstream = Upstream::script([whole, cut]).await;
    let gateway = Gateway::start(&models(&upstream)).await;
    let body = json!({"model": "anthropic", "max_tokens": 5, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.post("/v1/messages", &body).await;
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["outcome"], &line["tokens_in"], &line["tokens_out"]),
        (&json!("ok"), &json!(9), &json!(4))
    );
    let answer = gateway.post("/v1/messages", &body).await;
    let end = answer.text().rsplit_once("event: error\ndata: ").expect("an error event").1;
    assert_eq!(stated(end.trim_end()).0, "api_error");
    assert_eq!(gateway.line(&answer).await["error_code"], "upstream_broken");
}

#[tokio::test]
async fn calls_whose_pieces_are_mixed_come_one_after_the_other_or_not_at_all() {
    let piece = |index: u32, id: &str, arguments: &str| {
        let function = match id {
            "" => json!({"arguments": arguments}),
            id => json!({"name": id, "arguments": arguments}),
        };
        let call = json!({"index": index, "id": Some(id).filter(|id| !id.is_empty()), "function": function});
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]})
            .to_string()
    };
    let begun = || Reply::sse().event(piece(0, "a", "{")).event(piece(1, "b", "{"));
    let mixed = begun().event(piece(0, "", "}")).event(piece(1, "", "}")).done(false);
    let too_much =
        (0..2).fold(begun(), |reply, _| reply.event(piece(1, "", &"x".repeat(600 << 10)))).stall();
    let upstream = Upstream::script([mixed, too_much]).await;
    let gateway = Gateway::start(&models(&upstream)).await;
    let body = json!({"model": "openai", "max_tokens": 5, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.post("/v1/messages", &body).await;
    let of_blocks = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
    let of_blocks = of_blocks.map(|data| serde_json::from_str::<Value>(data).unwrap());
    let of_blocks = of_blocks.filter(|event| event["index"].is_u64());
    let order: Vec<_> = of_blocks
        .map(|e| format!("{} {}", e["index"], &e["type"].as_str().unwrap()[14..]))
        .collect();
    let block =
        |index: u32| ["start", "delta", "delta", "stop"].map(|kind| format!("{index} {kind}"));
    assert_eq!(order, [&block(0)[..], &block(1)[..]].concat(), "{}", answer.text());
    let answer = gateway.post("/v1/messages", &body).await;
    let end = answer.text().rsplit_once("event: error\ndata: ").expect("an error event").1;
    assert_eq!(stated(end.trim_end()).1, "The model server's answer is too long to be read");
    upstream.closed(0).await;
}

#[tokio::test]
async fn refusals_name_the_field_in_anthropics_format_and_send_nothing() {
    let (upstream, gateway) = house().await;
    let body = |model: &str, extra: Value| {
        let tools = json!([{"name": "f", "input_schema": {}}]);
        let mut body = json!({"model": model, "max_tokens": 5, "tools": tools, "messages": [{"role": "user", "content": "hi"}]});
        extra.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let one = json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    for (body, status, kind, message) in [
        (
            body("openai", json!({"top_k": 5})),
            400,
            "invalid_request_error",
            "top_k: `top_k` cannot be translated",
        ),
        (
            body("bedrock", one),
            400,
            "invalid_request_error",
            "tool_choice.disable_parallel_tool_use: Amazon Bedrock cannot",
        ),
        (
            body("openai", json!({"stream": 1})),
            400,
            "invalid_request_error",
            "stream: expected true or false",
        ),
        (
            body("openai", json!({"messages": [{"role": "user"}]})),
            400,
            "invalid_request_error",
            "messages.0.content: Field",
        ),
        (body("nobody", json!({})), 404, "not_found_error", "The model `nobody` does not exist"),
        (body("feature/duo_chat", json!({})), 400, "invalid_request_error", ""),
    ] {
        let answer = gateway.post("/v1/messages", &body).await;
        let (got, text) = stated(answer.text());
        assert_eq!((answer.status(), got.as_str()), (status, kind), "{text}");
        assert!(text.starts_with(message) || message.is_empty(), "{text}");
    }
    let answer = gateway.call("GET", "/v1/messages", &[], b"").await;
    assert_eq!((answer.status(), stated(answer.text()).0.as_str()), (405, "invalid_request_error"));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_failed_server_is_a_status_before_the_head_and_an_event_after_it() {
    let upstream = Upstream::start(|request| match (request.path.as_str(), request.json()["stream"] == true) {
        ("/v1/messages", true) => Reply::sse()
            .event(r#"{"type":"message_start","message":{"usage":{"input_tokens":9}}}"#)
            .event(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#)
            .end(),
        ("/v1/messages", false) => {
            Reply::json(529, &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
        }
        (path, true) if path.ends_with("/chat/completions") => Reply::sse().text("Hi").then_close(),
        (path, false) if path.ends_with("/chat/completions") => Reply::whole(
            429,
            &[("content-type", "application/json"), ("retry-after", "7")],
            r#"{"error":{"message":"slow"}}"#,
        ),
        (_, _) => Reply::json(403, &json!({"__type": "AccessDeniedException", "message": "canary"})),
    })
    .await;
    let gateway = Gateway::start(&models(&upstream)).await;
    let ask = |model: &str, stream: bool| json!({"model": model, "max_tokens": 5, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    for (model, status, kind) in [
        ("openai", 429, "rate_limit_error"),
        ("bedrock", 502, "api_error"),
        ("anthropic", 502, "overloaded_error"),
    ] {
        let answer = gateway.post("/v1/messages", &ask(model, false)).await;
        let (got, text) = stated(answer.text());
        assert_eq!((answer.status(), got.as_str()), (status, kind), "{model}: {text}");
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(answer.header("retry-after"), (model == "openai").then_some("7"));
    }
    let answer = gateway.post("/v1/messages", &ask("openai", true)).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    let (previous_text, error) =
        answer.text().rsplit_once("event: error\ndata: ").expect("an error event");
    assert!(
        previous_text.contains("text_delta") && !previous_text.contains("message_stop"),
        "{previous_text}"
    );
    assert_eq!(stated(error.trim_end()).0, "api_error");
    assert_eq!(gateway.line(&answer).await["outcome"], "upstream_error");
    // a message that was started without any content is still no answer
    let answer = gateway.post("/v1/messages", &ask("anthropic", true)).await;
    assert_eq!((answer.status(), stated(answer.text()).0.as_str()), (502, "api_error"));
    assert_eq!(gateway.line(&answer).await["outcome"], "upstream_error");
}

#[tokio::test]
async fn an_expiry_is_a1000_before_the_head_and_after_it() {
    let upstream = Upstream::script([Reply::stalled(), Reply::sse().text("Hi").stall()]).await;
    let file = models(&upstream) + "[timeouts]\nfirst_byte = \"200ms\"\nidle = \"200ms\"\n";
    let gateway = Gateway::start(&file).await;
    let body = json!({"model": "openai", "max_tokens": 5, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.post("/v1/messages", &body).await;
    assert_eq!((answer.status(), answer.header("x-weir-error")), (504, Some("A1000")));
    let (kind, text) = stated(answer.text());
    assert!(
        kind == "timeout_error" && text.starts_with("A1000: openai did not answer within 0.2 s"),
        "{text}"
    );
    let answer = gateway.post("/v1/messages", &body).await;
    let error = answer.text().rsplit_once("event: error\ndata: ").expect("an error event").1;
    assert!(stated(error.trim_end()).1.ends_with("(idle)"), "{error}");
    assert_eq!(gateway.line(&answer).await["error_code"], "A1000");
}

#[tokio::test]
async fn tokens_are_counted_where_the_server_can() {
    let upstream = Upstream::start(|request| match request.path.as_str() {
        "/v1/messages/count_tokens" => Reply::json(200, &json!({"input_tokens": 5})),
        path if path.ends_with("/count-tokens") => Reply::json(200, &json!({"inputTokens": 12})),
        path => panic!("{path}"),
    })
    .await;
    let gateway = Gateway::start(&models(&upstream)).await;
    let ask =
        |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    for (model, count) in [("anthropic", 5), ("bedrock", 12)] {
        let answer = gateway.post("/v1/messages/count_tokens", &ask(model)).await;
        assert_eq!(
            (answer.status(), answer.json()),
            (200, json!({"input_tokens": count})),
            "{}",
            answer.text()
        );
        assert_eq!(gateway.line(&answer).await["surface"], "anthropic_count_tokens");
    }
    assert_eq!(
        upstream.requests()[1].json(),
        json!({"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}}})
    );
    for model in ["openai", "azure"] {
        let answer = gateway.post("/v1/messages/count_tokens", &ask(model)).await;
        let (kind, text) = stated(answer.text());
        assert_eq!((answer.status(), kind.as_str()), (404, "not_found_error"));
        assert!(text.contains("does not count tokens"), "{text}");
    }
}

#[tokio::test]
async fn models_are_listed_in_the_clients_format() {
    let deaf = Deaf::start();
    let file = format!(
        "[models.m]\nidentifier = \"custom_openai/up\"\nendpoint = \"http://{}/v1\"\n",
        deaf.address
    );
    let gateway = Gateway::start(&file).await;
    let answer =
        gateway.call("GET", "/v1/models", &[("anthropic-version", "2023-06-01")], b"").await;
    let entry = json!({"type": "model", "id": "m", "display_name": "m", "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active"});
    assert_eq!(
        answer.json(),
        json!({"data": [entry], "has_more": false, "first_id": "m", "last_id": "m"})
    );
    assert_eq!(gateway.get("/v1/models").await.json()["object"], "list");
}

#[tokio::test]
async fn keys_are_taken_from_x_api_key_too() {
    let upstream = Upstream::says("Hi").await;
    let file =
        format!("{}[auth]\nmode = \"keys\"\nstatic_keys = [\"client-key\"]\n", models(&upstream));
    let house = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\ndrain = \"100ms\"\n";
    let gateway = Gateway::start_whole(&format!("{house}{file}")).await;
    let body = json!({"model": "openai", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    for (header, value, status) in [
        ("x-api-key", "client-key", 200),
        ("authorization", "Bearer client-key", 200),
        ("x-api-key", "other", 401),
        ("x-other", "client-key", 401),
    ] {
        let answer =
            gateway.call("POST", "/v1/messages", &[(header, value)], body.as_bytes()).await;
        assert_eq!(answer.status(), status, "{header}: {}", answer.text());
        if status == 401 {
            assert_eq!(stated(answer.text()).0, "authentication_error");
        }
    }
    let received = upstream.requests().pop().unwrap();
    assert!(!received.head_text().contains("client-key"), "{}", received.head_text());
}

#[tokio::test]
async fn gitlabs_proxy_asks_the_model_of_the_feature() {
    let (one, two) = (Upstream::says("one").await, Upstream::says("two").await);
    let model = |name: &str, upstream: &Upstream| {
        format!(
            "[models.{name}]\nidentifier = \"custom_openai/{name}\"\nendpoint = \"{}\"\n",
            upstream.url()
        )
    };
    let features = "[features]\ndefault = \"one\"\nreview_merge_request = \"two\"\ngenerate_commit_message = \"disabled\"\n";
    let gateway =
        Gateway::start(&format!("{}{}{features}", model("one", &one), model("two", &two))).await;
    let ask = async |path: &str, primitive: &str, model: &str| {
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "model": model, "max_tokens": 2048, "temperature": 0, "system": "brief"});
        gateway
            .call(
                "POST",
                path,
                &[("X-Gitlab-Unit-Primitive", primitive)],
                body.to_string().as_bytes(),
            )
            .await
    };
    const MESSAGES: &str = "/v1/proxy/anthropic/v1/messages";
    for (primitive, model, answers) in [
        ("description_composer", "claude-3-7-sonnet-20250219", "one"),
        ("review_merge_request", "claude-3-7-sonnet-20250219", "two"),
        ("review_merge_request", "one", "one"),
        ("description_composer", "feature/review_merge_request", "two"),
    ] {
        let answer = ask(MESSAGES, primitive, model).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.json()["content"][0]["text"], answers, "{primitive} {model}");
        let line = gateway.line(&answer).await;
        assert_eq!((&line["surface"], &line["model"]), (&json!("gitlab_proxy"), &json!(answers)));
    }
    let answer = ask(MESSAGES, "generate_commit_message", "claude-3-7-sonnet-20250219").await;
    assert_eq!((answer.status(), stated(answer.text()).0.as_str()), (403, "permission_error"));

    let chat = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.post("/v1/proxy/openai/v1/chat/completions", &chat).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "one", "{}", answer.text());
    assert_eq!(one.requests().pop().unwrap().json()["model"], "one");
    assert_eq!(gateway.get("/v1/proxy/openai/v1/models").await.json()["object"], "list");
    for path in [
        "/v1/proxy/openai/v1/responses",
        "/v1/proxy/vertex-ai/v1/x:predict",
        "/v1/proxy/anthropic/v1/files",
    ] {
        let answer = gateway.post(path, &chat).await;
        assert_eq!((answer.status(), answer.text()), (404, r#"{"detail":"Not found"}"#), "{path}");
    }
}
