//! What a model receives for a completion: each family's FIM tokens byte for byte, which call, how
//! much of the file.

use serde_json::{Value, json};

use crate::code_suggestions::{components, gateway, v2};
use crate::support::{Reply, Upstream};

const V2: &str = "/v2/code/completions";
const ABOVE: &str = "def f(x):\n    ";
const BELOW: &str = "\n\nprint(f(1))";

/// Returns the path and body of the one request that a completion of this family became.
async fn received(family: &str, more: &str, body: &Value) -> (String, Value) {
    let upstream = Upstream::says("x").await;
    let gateway = gateway(&upstream, family, more).await;
    let answer = gateway.post(V2, body).await;
    assert_eq!(answer.status(), 200, "{family}: {}", answer.text());
    let sent = upstream.only_request();
    (sent.path.clone(), sent.json())
}

#[tokio::test]
async fn each_familys_marks_are_a_raw_text() {
    let codegemma =
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"].as_slice();
    let codestral = ["[INST]", "[/INST]", "[PREFIX]", "[MIDDLE]"].as_slice();
    let qwen = ["<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"].as_slice();
    let starcoder = ["<fim_prefix>", "<fim_middle>", "<file_sep>", "<|endoftext|>"].as_slice();
    for (family, prompt, stop) in [
        (
            "codegemma",
            "<|fim_prefix|>def f(x):\n    <|fim_suffix|>\n\nprint(f(1))<|fim_middle|>",
            codegemma,
        ),
        (
            "codellama",
            "<PRE> def f(x):\n     <SUF> \n\nprint(f(1)) <MID>",
            &["<PRE>", "<SUF>", "<MID>", "<EOT>"],
        ),
        (
            "deepseekcoder",
            "<｜fim▁begin｜>def f(x):\n    <｜fim▁hole｜>\n\nprint(f(1))<｜fim▁end｜>",
            &[],
        ),
        ("codestral", "[SUFFIX]\n\nprint(f(1))[PREFIX]def f(x):\n    ", codestral),
        (
            "qwen2.5-coder",
            "<|fim_prefix|>def f(x):\n    <|fim_suffix|>\n\nprint(f(1))<|fim_middle|>",
            qwen,
        ),
        (
            "starcoder",
            "<fim_prefix>def f(x):\n    <fim_suffix>\n\nprint(f(1))<fim_middle>",
            starcoder,
        ),
        (
            "granite",
            "<fim_prefix>def f(x):\n    <fim_suffix>\n\nprint(f(1))<fim_middle>",
            starcoder,
        ),
    ] {
        let (path, body) = received(family, "", &v2(ABOVE, BELOW)).await;
        let mut expected =
            json!({"model": "up", "prompt": prompt, "max_tokens": 128, "temperature": 0.0});
        if !stop.is_empty() {
            expected["stop"] = json!(stop);
        }
        assert_eq!((path.as_str(), body), ("/v1/completions", expected), "{family}");
    }
}

#[tokio::test]
async fn an_empty_suffix_is_empty_and_a_stream_asks_for_counts() {
    let mut body = v2(ABOVE, "");
    body["stream"] = json!(true);
    let (_, sent) = received("codestral", "", &body).await;
    assert_eq!(sent["prompt"], "[SUFFIX][PREFIX]def f(x):\n    ");
    assert_eq!(
        (&sent["stream"], &sent["stream_options"]),
        (&json!(true), &json!({"include_usage": true}))
    );
}

#[tokio::test]
async fn families_without_marks_are_called_as_instructions() {
    for (family, temperature, max_tokens, systems) in [
        ("general", json!(0.0), 128, 1),
        ("claude_3", json!(0.0), 128, 1),
        ("mistral", json!(0.0), 128, 1),
        ("llama3", json!(0.0), 128, 1),
        ("gemini", json!(1.0), 128, 1),
        ("qwen", json!(0.0), 1024, 1),
        ("gpt", Value::Null, 1024, 1),
    ] {
        let (path, body) = received(family, "", &v2(ABOVE, BELOW)).await;
        assert_eq!(path, "/v1/chat/completions", "{family}");
        assert_eq!(
            (&body["temperature"], &body["max_tokens"]),
            (&temperature, &json!(max_tokens)),
            "{family}"
        );
        let messages = body["messages"].as_array().unwrap();
        assert_eq!(messages.iter().filter(|message| message["role"] == "system").count(), systems);
        let user = messages.last().unwrap()["content"].as_str().unwrap();
        assert!(user.contains("def f(x):\n    <cursor/>\n\nprint(f(1))\n"), "{user}");
        assert!(user.contains("File: app.py (Python)"), "{user}");
    }
}

#[tokio::test]
async fn one_key_puts_the_marks_into_a_message() {
    let more = "completion_endpoint = \"chat\"";
    let (path, body) = received("codestral", more, &v2("P", "S")).await;
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(body["messages"], json!([{"role": "user", "content": "[SUFFIX]S[PREFIX]P"}]));
    let more = "[families.codestral]\ncompletion = \"chat\"";
    let (path, body) = received("codestral", more, &v2("P", "S")).await;
    assert!(path == "/v1/chat/completions" && body.to_string().contains("P<cursor/>S"), "{body}");
    let more = "[families.mine]\ncompletion = \"fim\"\nfim.template = \"<a>{prefix}<b>{suffix}<c>\"\ncompletion_tokens = 9";
    let (path, body) = received("mine", more, &v2("P", "S")).await;
    assert_eq!(
        (path.as_str(), &body["prompt"], &body["max_tokens"]),
        ("/v1/completions", &json!("<a>P<b>S<c>"), &json!(9))
    );
}

#[tokio::test]
async fn a_server_without_completions_is_called_once_more_as_instructions() {
    for status in [404, 405] {
        let upstream = Upstream::start(move |request| match request.path.as_str() {
            "/v1/completions" => Reply::json(status, &json!({"detail": "Not Found"})),
            _ => Reply::json(
                200,
                &json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}),
            ),
        })
        .await;
        let gateway = gateway(&upstream, "codestral", "").await;
        let answer = gateway.post(V2, &v2("P", "S")).await;
        assert_eq!(answer.json()["choices"][0]["text"], "x", "{}", answer.text());
        let paths: Vec<String> =
            upstream.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(paths, ["/v1/completions", "/v1/chat/completions"]);
        assert_eq!(gateway.line(&answer).await["retries"], 1);
    }
    let upstream =
        Upstream::always(Reply::json(404, &json!({"error": {"message": "no such model"}}))).await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let answer = gateway.post(V2, &v2("P", "S")).await;
    assert_eq!((answer.status(), answer.json()["detail"].as_str()), (421, Some("404: Not Found")));
    assert_eq!(upstream.requests().len(), 2, "once, not for ever");
}

/// Returns lines of text, `bytes` long or a little less.
fn lines(name: &str, bytes: usize) -> String {
    let mut text: String =
        (0..).map(|n| format!("{name} {n}\n")).take_while(|_| true).take(bytes / 8).collect();
    text.truncate(bytes);
    text
}

#[tokio::test]
async fn a_long_file_is_cut_to_the_window_around_the_cursor() {
    let (above, below) = (lines("above", 90_000), lines("below", 90_000));
    let (_, body) = received("codegemma", "", &v2(&above, &below)).await;
    let prompt = body["prompt"].as_str().unwrap();
    let (before, after) =
        prompt.strip_prefix("<|fim_prefix|>").unwrap().split_once("<|fim_suffix|>").unwrap();
    let after = after.strip_suffix("<|fim_middle|>").unwrap();
    // 8000 tokens of window, 128 of output, 64 to spare, 2.5 bytes each
    let room = (8000 - 128 - 64) * 5 / 2;
    assert!(prompt.len() <= room + 60 && prompt.len() > room - 1100, "{} of {room}", prompt.len());
    assert!(above.ends_with(before) && below.starts_with(after));
    assert!(before.starts_with("above ") && after.ends_with('\n'), "cut at lines");
    assert!((after.len() * 100).div_ceil(room) <= 7 && before.len() > after.len() * 10);
    let (_, body) = received("codegemma", "context_tokens = 2000", &v2(&above, "")).await;
    let room = (2000 - 128 - 64) * 5 / 2;
    assert!(body["prompt"].as_str().unwrap().len() <= room + 60);
    let (_, body) = received("codegemma", "", &v2("é".repeat(40_000).as_str(), "")).await;
    assert!(body["prompt"].as_str().unwrap().contains("éé"), "characters stay whole");
}

#[tokio::test]
async fn context_fills_what_the_file_leaves_files_first() {
    let mut body = v2("P", "S");
    let item = |kind: &str, content: &str| json!({"type": kind, "name": "n", "content": content});
    body["context"] = json!([item("snippet", "CTX2"), item("file", "CTX1")]);
    let upstream = Upstream::says("x").await;
    let gateway = gateway(&upstream, "codestral", "").await;
    let answer = gateway.post(V2, &body).await.json();
    assert_eq!(upstream.only_request().json()["prompt"], "[SUFFIX]S[PREFIX]CTX1\nCTX2\nP");
    let tokens = &answer["model"]["tokens_consumption_metadata"];
    assert_eq!(
        (&tokens["context_tokens_sent"], &tokens["context_tokens_used"]),
        (&json!(4), &json!(4))
    );
    body["context"] = json!([item("file", &lines("context", 400_000))]);
    body["current_file"]["content_above_cursor"] = json!(lines("above", 70_000));
    let answer = gateway.post(V2, &body).await.json();
    let prompt = upstream.requests()[1].json()["prompt"].as_str().unwrap().to_owned();
    assert!(
        prompt.contains("PREFIX]context 0\n") && prompt.contains(&lines("above", 70_000)),
        "code is not cut for context"
    );
    let used =
        answer["model"]["tokens_consumption_metadata"]["context_tokens_used"].as_u64().unwrap();
    assert!(used > 1000 && prompt.len() <= 32_768 * 5 / 2 + 60, "{used} {}", prompt.len());
    let mut body = components("code_editor_completion", false);
    let component = json!({"type": "code_context", "payload": {"type": "file", "name": "n", "content": "CTX1"}});
    body["prompt_components"].as_array_mut().unwrap().push(component);
    assert_eq!(gateway.post("/v4/code/suggestions", &body).await.status(), 200);
    assert_eq!(
        upstream.requests()[2].json()["prompt"],
        "[SUFFIX][PREFIX]CTX1\nimport os\n\n# say hello\n"
    );
}

#[tokio::test]
async fn a_generation_fits_into_a_small_window() {
    let upstream = Upstream::says("x").await;
    let gateway = gateway(&upstream, "codegemma", "").await;
    let mut body = components("code_editor_generation", false);
    let payload = &mut body["prompt_components"][0]["payload"];
    payload["prompt_enhancer"]["trimmed_content_above_cursor"] = json!(lines("above", 50_000));
    let big = format!("<file_content>\n{}</file_content>", lines("other", 100_000));
    payload["prompt_enhancer"]["related_files"] = json!([big]);
    let answer = gateway.post("/v4/code/suggestions", &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let sent = upstream.only_request();
    assert!(sent.body.len() < 8000 * 5 / 2 + 2000, "{}", sent.body.len());
    assert!(sent.json()["max_tokens"].as_u64().unwrap() <= 1024);
    assert!(!sent.text().contains("other 0"));
}
