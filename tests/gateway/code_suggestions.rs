//! Code suggestions as GitLab and its editors request them and read the responses
//! (contract::gitlab_client §6).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Client, End, Gateway, Reply, Upstream};

const V2: &str = "/v2/code/completions";
const V3: &str = "/v3/code/completions";
const V4: &str = "/v4/code/suggestions";
const GENERATIONS: &str = "/v2/code/generations";

/// Returns the configuration of one model `m` of this family for everything.
pub(crate) fn model(url: &str, family: &str, more: &str) -> String {
    format!(
        "[models.m]\nidentifier = \"custom_openai/up\"\nfamily = \"{family}\"\nendpoint = \"{url}\"\n{more}\n[features]\ndefault = \"m\"\n"
    )
}

pub(crate) async fn gateway(upstream: &Upstream, family: &str, more: &str) -> Gateway {
    Gateway::start(&model(&upstream.url(), family, more)).await
}

/// Returns the body of `/v2/code/completions` as Rails builds it, without a model.
pub(crate) fn v2(above: &str, below: &str) -> Value {
    json!({
        "project_path": "group/project", "project_id": 33_191_677,
        "current_file": {"file_name": "app.py", "content_above_cursor": above, "content_below_cursor": below},
        "intent": "completion", "stream": false, "telemetry": [], "choices_count": 4,
        "prompt_version": 2, "prompt": null,
    })
}

/// Returns the body of v3 and v4.
pub(crate) fn components(kind: &str, stream: bool) -> Value {
    let mut payload = json!({
        "file_name": "app.py", "content_above_cursor": "import os\n\n# say hello\n", "content_below_cursor": "",
        "language_identifier": "Python", "stream": stream,
    });
    if kind == "code_editor_generation" {
        payload["prompt_id"] = json!("code_suggestions/generations");
        payload["prompt_version"] = json!("^1.0.0");
        payload["prompt_enhancer"] = json!({
            "examples_array": [{"example": "e{{cursor}}", "response": "<new_code>r", "trigger_type": "comment"}],
            "trimmed_content_above_cursor": "import os\n\n# say hello\n", "trimmed_content_below_cursor": "",
            "related_files": ["<file_content file_name=\"a.py\">\nX = 1\n</file_content>\n"], "related_snippets": [],
            "libraries": ["requests"], "user_instruction": "Write the best code.",
        });
    }
    json!({"prompt_components": [{"type": kind, "payload": payload, "metadata": {"source": "GitLab EE", "version": "18.9.0"}}]})
}

/// Returns the events of v4: name and data.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let events = answer.text().split_terminator("\r\n\r\n");
    let read = |event: &str| {
        let (name, data) = event.split_once("\r\n").unwrap();
        let data = data.strip_prefix("data: ").unwrap();
        (name.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
    };
    events.map(read).collect()
}

#[tokio::test]
async fn v2_completion_is_gitlabs_json() {
    let upstream = Upstream::says("a + b").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let headers = [("x-gitlab-enabled-feature-flags", "flag_a, flag_b")];
    let body = v2("def add(a, b):\n    return ", "\n").to_string();
    let answer = gateway.call("POST", V2, &headers, body.as_bytes()).await;
    assert_eq!(
        (answer.status(), answer.header("content-type")),
        (200, Some("application/json")),
        "{}",
        answer.text()
    );
    let mut stated = answer.json();
    let created = stated["created"].take();
    assert!(created.as_u64().is_some_and(|at| at > 1_700_000_000), "{created}");
    let expected = json!({
        "id": "id",
        "model": {"engine": "litellm", "name": "codestral", "lang": "python", "region": null,
            "tokens_consumption_metadata": {"input_tokens": 7, "output_tokens": 2, "max_output_tokens_used": false,
                "context_tokens_sent": 0, "context_tokens_used": 0}},
        "experiments": [], "object": "text_completion", "created": null,
        "choices": [{"text": "a + b", "index": 0, "finish_reason": "length"}],
        "metadata": {"enabled_feature_flags": ["flag_a", "flag_b"]},
    });
    assert_eq!(stated, expected);
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["surface"], &line["feature"]),
        (&json!("gitlab_code"), &json!("code_completions")),
        "{line}"
    );
}

#[tokio::test]
async fn the_older_path_and_every_prompt_version_are_the_same_call() {
    let upstream = Upstream::says("x").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    assert_eq!(
        gateway.post("/v2/completions", &v2("a", "")).await.json()["choices"][0]["text"],
        "x"
    );
    for version in [json!(1), json!(2), json!(3), Value::Null] {
        let mut body = v2("a", "");
        body["prompt_version"] = version.clone();
        body["prompt"] = json!([{"role": "user", "content": "theirs"}]);
        let answer = gateway.post(V2, &body).await;
        assert_eq!(answer.status(), 200, "{version}: {}", answer.text());
    }
    let sent = upstream.requests();
    assert!(
        sent.iter().all(|request| request.body == sent[0].body),
        "the caller's prompt is not used"
    );
}

#[tokio::test]
async fn a_stream_of_v2_and_v3_is_raw_text() {
    let upstream = Upstream::says("def hello(): pass").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let mut body = v2("", "");
    body["stream"] = json!(true);
    for (path, body) in [
        (V2, body),
        (V3, components("code_editor_completion", true)),
        (V3, components("code_editor_generation", true)),
    ] {
        let answer = gateway.post(path, &body).await;
        assert_eq!(
            (answer.status(), answer.text(), answer.end),
            (200, "def hello(): pass", End::Proper),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(answer.header("x-streaming-format"), None);
    }
}

#[tokio::test]
async fn a_stream_of_v4_is_events() {
    let upstream = Upstream::says("def é").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let answer = gateway.post(V4, &components("code_editor_completion", true)).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("x-streaming-format", "sse"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let mut events = events(&answer);
    let timestamp = events[0].1["metadata"]["timestamp"].take();
    assert!(timestamp.is_u64(), "{timestamp}");
    let start = json!({"metadata": {"model": {"engine": "openai", "name": "codestral"}, "timestamp": null,
        "enabled_feature_flags": [], "region": null}});
    let chunk = |text: &str| json!({"choices": [{"delta": {"content": text}, "index": 0}]});
    let expected = [
        ("stream_start", start),
        ("content_chunk", chunk("def ")),
        ("content_chunk", chunk("é")),
        ("stream_end", Value::Null),
    ];
    assert_eq!(events, expected.map(|(name, data)| (name.to_owned(), data)));
    assert!(answer.text().ends_with("event: stream_end\r\ndata: null\r\n\r\n"));
    let answer = gateway.post(V4, &components("code_editor_generation", true)).await;
    assert!(
        answer.text().contains(r#""engine":"agent","name":"Code Generations Agent""#),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn v3_and_v4_without_a_stream_are_json() {
    let upstream = Upstream::says("print(1)").await;
    let gateway = gateway(&upstream, "mistral", "").await;
    for path in [V3, V4] {
        for (kind, engine, name, feature) in [
            ("code_editor_completion", "openai", "mistral", "code_completions"),
            ("code_editor_generation", "agent", "Code Generations Agent", "code_generations"),
        ] {
            let answer = gateway.post(path, &components(kind, false)).await;
            let mut stated = answer.json();
            assert!(stated["metadata"]["timestamp"].take().is_u64());
            let model = json!({"engine": engine, "name": name, "lang": "python"});
            let expected = json!({
                "choices": [{"text": "print(1)", "index": 0, "finish_reason": "length"}],
                "metadata": {"model": model, "timestamp": null, "enabled_feature_flags": [], "region": null},
                "model": model,
            });
            assert_eq!(stated, expected, "{path} {kind}");
            assert_eq!(gateway.line(&answer).await["feature"], feature);
        }
    }
}

#[tokio::test]
async fn a_generation_is_requested_with_our_prompt() {
    let upstream = Upstream::says("<new_code>\nprint('hello')\n</new_code> There.").await;
    let gateway = gateway(&upstream, "general", "").await;
    let answer = gateway.post(V4, &components("code_editor_generation", false)).await;
    assert_eq!(answer.json()["choices"][0]["text"], "print('hello')\n", "{}", answer.text());
    let sent = upstream.only_request();
    assert_eq!(sent.path, "/v1/chat/completions");
    let body = sent.json();
    let user = body["messages"][1]["content"].as_str().unwrap();
    for part in [
        "# say hello\n<cursor/>",
        "X = 1",
        "requests",
        "Write the best code.",
        "app.py (Python)",
        "e{{cursor}}",
    ] {
        assert!(user.contains(part), "{part} in {user}");
    }
    assert_eq!(user.matches("import os").count(), 1, "{user}");
    assert_eq!(body["max_tokens"], 2048);
    let line = gateway.line(&answer).await;
    assert_eq!(line["feature"], "code_generations");
}

#[tokio::test]
async fn generations_of_v2_take_an_instruction_or_a_conversation() {
    let upstream = Upstream::says("x = 1").await;
    let gateway = gateway(&upstream, "general", "").await;
    let mut body = v2("import os\n    ", "");
    body["prompt"] = json!("Make it so");
    let answer = gateway.post(GENERATIONS, &body).await;
    let stated = answer.json();
    assert_eq!(
        (&stated["choices"][0]["text"], &stated["model"]["engine"]),
        (&json!("\nx = 1"), &json!("agent"))
    );
    body["prompt_version"] = json!(3);
    body["prompt"] = json!([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]);
    let answer = gateway.post(GENERATIONS, &body).await;
    assert_eq!(answer.json()["model"]["engine"], "litellm");
    let sent = upstream.requests();
    assert!(sent[0].text().contains("Make it so"));
    assert_eq!(sent[1].json()["messages"], body["prompt"]);
}

#[tokio::test]
async fn what_models_wrap_around_code_is_taken_off_in_streams_too() {
    let upstream = Upstream::script([
        Reply::sse()
            .text("<thi")
            .text("nk>so</think>\n<new_")
            .text("code>\ndef f():")
            .text("\n    pass\n</new")
            .text("_code>")
            .done(false),
        Reply::sse()
            .text("Here it is:\n``")
            .text("`python\nx =")
            .text(" 1\n``")
            .text("`\nThat is all.")
            .done(false),
        Reply::sse().text("  \n ").text("\n").done(false),
    ])
    .await;
    let gateway = gateway(&upstream, "general", "").await;
    for expected in ["def f():\n    pass\n", "x = 1\n", ""] {
        let answer = gateway.post(V3, &components("code_editor_generation", true)).await;
        assert_eq!((answer.status(), answer.text(), answer.end), (200, expected, End::Proper));
    }
}

#[tokio::test]
async fn white_space_is_no_choice_and_the_next_line_is_not_repeated() {
    let stated = |text: &str| {
        let choice = json!({"index": 0, "text": text, "finish_reason": "length"});
        Reply::json(
            200,
            &json!({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}),
        )
    };
    let upstream = Upstream::script([stated("\n  \n"), stated(""), stated("  x()\n}")]).await;
    let gateway = gateway(&upstream, "codestral", "").await;
    for _ in 0..2 {
        let answer = gateway.post(V2, &v2("a", "\n")).await.json();
        assert_eq!(answer["choices"], json!([]));
        assert_eq!(answer["model"]["tokens_consumption_metadata"]["max_output_tokens_used"], true);
    }
    let answer = gateway.post(V2, &v2("if (a) {\n", "\n}\n")).await.json();
    assert_eq!(answer["choices"][0]["text"], "  x()\n");
}

#[tokio::test]
async fn a_model_called_as_instructions_may_say_the_cursors_line_again() {
    let upstream = Upstream::says("```python\n    return a + b\n```").await;
    let gateway = gateway(&upstream, "general", "").await;
    let answer = gateway.post(V2, &v2("def add(a, b):\n    return ", "\n")).await.json();
    assert_eq!(answer["choices"][0]["text"], "a + b", "and the line's end is there already");
}

#[tokio::test]
async fn mixtral_escapes_no_underscores() {
    let upstream = Upstream::says(r"my\_name \n").await;
    let gateway = gateway(&upstream, "mixtral", "").await;
    let answer = gateway.post(V2, &v2("a", "")).await.json();
    assert_eq!(answer["choices"][0]["text"], r"my_name \n");
}

#[tokio::test]
async fn a_file_of_no_language_gets_nothing_and_no_model_is_called() {
    let upstream = Upstream::says("x").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let mut body = v2("a", "");
    body["current_file"]["file_name"] = json!("README");
    let answer = gateway.post(V2, &body).await.json();
    assert_eq!((&answer["choices"], &answer["model"]["lang"]), (&json!([]), &json!("")));
    assert_eq!(answer["model"]["tokens_consumption_metadata"], Value::Null);
    let mut body = components("code_editor_completion", true);
    body["prompt_components"][0]["payload"]["file_name"] = json!("README");
    body["prompt_components"][0]["payload"]["language_identifier"] = json!("");
    let answer = gateway.post(V4, &body).await;
    assert_eq!(
        events(&answer).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["stream_start", "stream_end"]
    );
    assert!(upstream.requests().is_empty());
    body["prompt_components"][0]["payload"]["file_name"] = json!("Makefile");
    assert_eq!(gateway.post(V4, &body).await.status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_request_without_a_model_goes_where_the_file_says_or_is_a_clear_422() {
    let upstream = Upstream::says("x").await;
    let by_feature = model(&upstream.url(), "codestral", "")
        .replace("default = \"m\"", "code_completions = \"m\"");
    let gateway = Gateway::start(&by_feature).await;
    assert_eq!(gateway.post(V2, &v2("a", "")).await.status(), 200);
    let answer = gateway.post(V4, &components("code_editor_generation", false)).await;
    assert_eq!(answer.status(), 422);
    let text = answer.json()["detail"][0]["msg"].as_str().unwrap().to_owned();
    assert!(text.contains("features.code_generations or features.default"), "{text}");
}

#[tokio::test]
async fn the_model_that_gitlab_names_is_called_flat_or_as_metadata() {
    let upstream = Upstream::says("x").await;
    let gateway = Gateway::start("[features]\nrequest_loopback = true\n").await;
    let mut flat = v2("P", "S");
    for (name, value) in [
        ("model_provider", "litellm"),
        ("model_name", "codegemma"),
        ("model_endpoint", &upstream.url()),
        ("model_api_key", "canary"),
        ("model_identifier", "custom_openai/theirs"),
    ] {
        flat[name] = json!(value);
    }
    let answer = gateway.post(V2, &flat).await;
    assert_eq!(answer.json()["model"]["name"], "codegemma", "{}", answer.text());
    let mut nested = components("code_editor_completion", false);
    nested["model_metadata"] = json!({"provider": "openai", "name": "novel", "endpoint": upstream.url(), "api_key": "canary", "identifier": ""});
    let answer = gateway.post(V4, &nested).await;
    assert_eq!(answer.json()["model"]["name"], "general", "{}", answer.text());
    let sent = upstream.requests();
    assert_eq!(sent[0].json()["prompt"], "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>");
    assert_eq!(
        (&sent[0].json()["model"], sent[0].header("authorization")),
        (&json!("theirs"), Some("Bearer canary"))
    );
    assert_eq!(sent[1].json()["model"], "novel");
    flat["model_endpoint"] = json!("nowhere");
    let answer = gateway.post(V2, &flat).await;
    assert_eq!(
        (answer.status(), &answer.json()["detail"][0]["loc"]),
        (422, &json!(["body", "model_endpoint"]))
    );
    assert!(!answer.everything().contains("canary"));
}

#[tokio::test]
async fn every_family_of_gitlabs_form_completes() {
    let upstream = Upstream::says("x").await;
    let gateway = Gateway::start("[features]\nrequest_loopback = true\n").await;
    for family in [
        "codegemma",
        "codellama",
        "codestral",
        "codestral-2501",
        "deepseekcoder",
        "llama3",
        "mistral",
        "mixtral",
        "claude_3",
        "gpt",
        "qwen2p5-coder-7b",
        "general",
        "qwen",
        "gemini",
    ] {
        let mut body = v2("a", "");
        body["model_name"] = json!(family);
        body["model_endpoint"] = json!(upstream.url());
        let answer = gateway.post(V2, &body).await;
        assert_eq!(
            (answer.status(), &answer.json()["choices"][0]["text"]),
            (200, &json!("x")),
            "{family}"
        );
        assert_eq!(answer.json()["model"]["name"], family);
    }
}

#[tokio::test]
async fn wrong_bodies_say_where_they_are_wrong() {
    let upstream = Upstream::says("x").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let wrong = |path: &'static str, body: Value| {
        let gateway = &gateway;
        async move {
            let answer = gateway.post(path, &body).await;
            assert_eq!(answer.status(), 422, "{}", answer.text());
            let detail = answer.json()["detail"][0].clone();
            let index_path: Vec<String> = detail["loc"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| part.to_string().replace('"', ""))
                .collect();
            (index_path.join("."), detail["type"].as_str().unwrap().to_owned())
        }
    };
    let with = |index_path: &str, value: Value| {
        let mut body = v2("a", "");
        *body.pointer_mut(index_path).unwrap() = value;
        body
    };
    let long = |count: usize| json!("é".repeat(count));
    let is = |index_path: &str, kind: &str| (index_path.to_owned(), kind.to_owned());
    assert_eq!(wrong(V2, json!({})).await, is("body.current_file", "missing"));
    let mut body = v2("a", "");
    body["current_file"] = json!({"file_name": "a.py", "content_above_cursor": ""});
    assert_eq!(wrong(V2, body).await, is("body.current_file.content_below_cursor", "missing"));
    for (index_path, value, at, kind) in [
        ("/prompt_version", json!(4), "prompt_version", "value_error"),
        ("/current_file/file_name", long(256), "current_file.file_name", "string_too_long"),
        (
            "/current_file/content_above_cursor",
            long(100_001),
            "current_file.content_above_cursor",
            "string_too_long",
        ),
        ("/project_path", long(256), "project_path", "string_too_long"),
        ("/telemetry", json!(vec![0; 11]), "telemetry", "too_long"),
        ("/stream", json!("yes"), "stream", "type_error"),
    ] {
        assert_eq!(wrong(V2, with(index_path, value)).await, is(&format!("body.{at}"), kind));
    }
    assert_eq!(
        gateway.post(V2, &with("/current_file/content_above_cursor", long(100_000))).await.status(),
        200
    );
    let of = |kind: &str| components(kind, false);
    assert_eq!(
        wrong(V4, of("code_context")).await,
        is("body.prompt_components.0.type", "value_error")
    );
    assert_eq!(
        wrong(V4, json!({"prompt_components": []})).await,
        is("body.prompt_components", "too_short")
    );
    let mut body = of("code_editor_completion");
    body["prompt_components"][0]["payload"].as_object_mut().unwrap().remove("content_below_cursor");
    assert_eq!(
        wrong(V4, body).await,
        is("body.prompt_components.0.payload.content_below_cursor", "missing")
    );
    let mut body = of("code_editor_completion");
    body["prompt_components"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "code_context", "payload": {"type": "file", "name": "a"}}));
    assert_eq!(wrong(V3, body).await, is("body.prompt_components.1.payload.content", "missing"));
    let mut body = of("code_editor_completion");
    body["prompt_components"] = json!(vec![body["prompt_components"][0].clone(); 101]);
    assert_eq!(wrong(V3, body).await, is("body.prompt_components", "too_long"));
    assert_eq!(upstream.requests().len(), 1, "none of them reached the model");
}

#[tokio::test]
async fn a_failed_model_is_421_and_a_busy_one_429() {
    let fails = |status| Reply::json(status, &json!({"error": {"message": "boom"}}));
    for (status, shown, detail) in [
        (500, 421, "500: Internal Server Error"),
        (401, 421, "401: Unauthorized"),
        (503, 421, "503: Service Unavailable"),
        (429, 429, "429: Too Many Requests"),
    ] {
        let upstream = Upstream::always(fails(status)).await;
        let gateway = gateway(&upstream, "codestral", "").await;
        for body in [
            components("code_editor_completion", false),
            components("code_editor_completion", true),
        ] {
            let answer = gateway.post(V4, &body).await;
            assert_eq!((answer.status(), answer.json()["detail"].as_str()), (shown, Some(detail)));
            assert_eq!(
                (answer.header("content-type"), answer.end),
                (Some("application/json"), End::Proper)
            );
        }
    }
    let busy =
        Reply::whole(429, &[("content-type", "application/json"), ("retry-after", "7")], "{}");
    let upstream = Upstream::always(busy).await;
    let gateway = gateway(&upstream, "codestral", "").await;
    assert_eq!(gateway.post(V2, &v2("a", "")).await.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn a_slow_model_is_a1000_with_its_limit() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let gateway = gateway(&upstream, "codestral", "timeouts = { total = \"200ms\" }").await;
    let mut stream = v2("a", "");
    stream["stream"] = json!(true);
    for (path, body) in
        [(V2, v2("a", "")), (V2, stream), (V4, components("code_editor_generation", true))]
    {
        let answer = gateway.post(path, &body).await;
        assert_eq!(
            (answer.status(), answer.header("x-weir-error")),
            (504, Some("A1000")),
            "{}",
            answer.text()
        );
        assert_eq!(
            (&answer.json()["error"]["code"], &answer.json()["error"]["limit_ms"]),
            (&json!("A1000"), &json!(200))
        );
    }
}

#[tokio::test]
async fn a_failure_after_the_head_is_an_event_or_a_cut_never_a_clean_end() {
    let upstream = Upstream::always(Reply::sse().text("one\n").text("two\n").then_close()).await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let answer = gateway.post(V3, &components("code_editor_completion", true)).await;
    assert_eq!((answer.status(), answer.text(), answer.end), (200, "one\ntwo\n", End::Cut));
    let answer = gateway.post(V4, &components("code_editor_completion", true)).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    let names: Vec<String> = events(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["stream_start", "content_chunk", "content_chunk", "error"]);
    let (_, error) = events(&answer).pop().unwrap();
    assert!(error["detail"].as_str().unwrap().starts_with("502: Bad Gateway"), "{error}");
    assert_eq!(gateway.line(&answer).await["error_code"], "upstream_broken");
    let slow = Upstream::always(Reply::sse().text("one\n").stall()).await;
    let gateway = self::gateway(&slow, "codestral", "timeouts = { idle = \"100ms\" }").await;
    let answer = gateway.post(V4, &components("code_editor_completion", true)).await;
    let (name, error) = events(&answer).pop().unwrap();
    assert_eq!((name.as_str(), &error["error"]["code"]), ("error", &json!("A1000")), "{error}");
}

#[tokio::test]
async fn a_line_without_end_is_not_held_for_ever() {
    let piece = "x".repeat(32 << 10);
    let endless = (0..520).fold(Reply::sse(), |reply, _| reply.text(&piece));
    let upstream = Upstream::always(endless.stall()).await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let answer = gateway.post(V4, &components("code_editor_generation", true)).await;
    assert_eq!(
        (answer.status(), answer.header("x-weir-error")),
        (421, Some("upstream_broken")),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_million_faults_are_reported_by_a_hundred() {
    let gateway = gateway(&Upstream::says("a").await, "codestral", "").await;
    let mut body = v2("a", "");
    (body["prompt_version"], body["prompt"]) = (json!(3), json!(vec![0; 1000]));
    let answer = gateway.post(GENERATIONS, &body).await;
    assert_eq!(
        (answer.status(), answer.json()["detail"].as_array().map(Vec::len)),
        (422, Some(100))
    );
}

#[tokio::test]
async fn an_editor_that_leaves_stops_the_model() {
    let upstream = Upstream::always(Reply::sse().text("one\n").stall()).await;
    let gateway = gateway(&upstream, "codestral", "").await;
    for (path, body, until) in
        [(V4, components("code_editor_completion", true), "one"), (V2, v2("a", ""), "")]
    {
        let before = upstream.requests().len();
        let mut client = Client::connect(gateway.public).await;
        client.send("POST", path, &[], body.to_string().as_bytes()).await;
        upstream.received(before + 1).await;
        if !until.is_empty() {
            client.head().await;
            client.read_until(until).await;
        }
        let left = std::time::Instant::now();
        drop(client);
        let closed = upstream.closed(upstream.requests()[before].connection).await;
        assert!(closed.saturating_duration_since(left) < Duration::from_secs(1));
    }
}
