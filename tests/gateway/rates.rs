//! What a caller may use in a minute, and which models a key is for.

use serde_json::json;

use crate::support::{Answer, Gateway, Upstream, chat_body, eventually, one_model, parse};

/// Starts a gateway with two keys: `ci` with these lines, and another that may do everything.
async fn gateway(upstream: &Upstream, ci: &str, more: &str) -> Gateway {
    let url = upstream.url();
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"keys\"\n\
         static_keys = [{ci}, \"everything\"]\n{}{more}[models.other]\nendpoint = \"{url}\"\n",
        one_model(&url)
    );
    let env = [("CI", "ci-key")].into_iter().collect();
    Gateway::start_exactly(&env, &file).await
}

async fn ask(gateway: &Gateway, key: &str, path: &str, model: &str) -> Answer {
    let authorization = format!("Bearer {key}");
    let mut body = chat_body(model, false);
    body["max_tokens"] = json!(16);
    gateway
        .call("POST", path, &[("authorization", &authorization)], body.to_string().as_bytes())
        .await
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn over_its_requests_a_minute_a_caller_is_429_and_nothing_is_sent() {
    let upstream = Upstream::says("Hi").await;
    let ci = "{ env = \"CI\", name = \"ci\", requests_per_minute = 2 }";
    let gateway = gateway(&upstream, ci, "[limits]\nrequests_per_minute = 3\n").await;
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "ci-key", CHAT, "m").await.status(), 200);
    }
    let refused = ask(&gateway, "ci-key", CHAT, "m").await;
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(refused.status() == 429 && (25..=30).contains(&seconds), "{:?}", refused.head);
    let error = &refused.json()["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("rate_limit_exceeded"), &json!("rate_limit_error"))
    );
    let anthropic = ask(&gateway, "ci-key", "/v1/messages", "m").await;
    assert_eq!(
        (anthropic.status(), &anthropic.json()["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    assert!(anthropic.header("retry-after").is_some());
    let gitlabs = ask(&gateway, "ci-key", "/v2/code/completions", "m").await;
    assert_eq!(
        (gitlabs.status(), &gitlabs.json()["detail"][0]["type"]),
        (429, &json!("rate_limit_exceeded"))
    );
    assert_eq!(upstream.requests().len(), 2);
    for _ in 0..3 {
        assert_eq!(
            ask(&gateway, "everything", CHAT, "m").await.status(),
            200,
            "another caller, the file's own rate"
        );
    }
    assert_eq!(ask(&gateway, "everything", CHAT, "m").await.status(), 429);
    assert_eq!(
        gateway.metrics().await.sum("weir_rate_limited_total", &[("scope", "requests")]),
        4.0
    );
    let line = gateway.line(&refused).await;
    assert_eq!(
        (&line["error_code"], &line["outcome"]),
        (&json!("rate_limit_exceeded"), &json!("refused")),
        "{line}"
    );
}

#[tokio::test]
async fn tokens_are_charged_when_the_answer_ends_and_the_next_request_waits_for_the_debt() {
    // nine tokens a response
    let upstream = Upstream::says("Hi").await;
    let gateway = gateway(&upstream, "{ env = \"CI\", tokens_per_minute = 6 }", "").await;
    assert_eq!(ask(&gateway, "ci-key", CHAT, "m").await.status(), 200);
    eventually("the charge", async || ask(&gateway, "ci-key", CHAT, "m").await.status() == 429)
        .await;
    let refused = ask(&gateway, "ci-key", CHAT, "m").await;
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=100).contains(&seconds), "{seconds}");
    assert!(refused.text().contains("6 tokens per minute"), "{}", refused.text());
    assert!(gateway.metrics().await.sum("weir_rate_limited_total", &[("scope", "tokens")]) >= 2.0);
    assert_eq!(ask(&gateway, "everything", CHAT, "m").await.status(), 200);
}

#[tokio::test]
async fn an_address_has_its_rate_where_nobody_is_called_who_they_are_and_lists_cost_nothing() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "[limits]\nrequests_per_minute = 1\n").await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/v1/models").await.status(), 200);
        assert_eq!(gateway.get("/monitoring/healthz").await.status(), 200);
    }
    let statuses = [gateway.chat("m", true).await.status(), gateway.chat("m", true).await.status()];
    assert_eq!(statuses, [200, 429]);
}

#[tokio::test]
async fn a_reload_changes_rates_at_once_and_forgets_no_use() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "[limits]\nrequests_per_minute = 100\n").await;
    let file = |most: u32| {
        format!("{}[limits]\nrequests_per_minute = {most}\n", one_model(&upstream.url()))
    };
    for _ in 0..2 {
        assert_eq!(gateway.chat("m", false).await.status(), 200);
    }
    gateway.reload(&file(1));
    let statuses =
        [gateway.chat("m", false).await.status(), gateway.chat("m", false).await.status()];
    assert_eq!(statuses, [200, 429]);
    gateway.reload(&one_model(&upstream.url()));
    assert_eq!(gateway.chat("m", false).await.status(), 200);
}

#[tokio::test]
async fn a_key_opens_its_own_models_only_and_sees_no_other() {
    let upstream = Upstream::says("Hi").await;
    let ci = "{ env = \"CI\", name = \"ci\", models = [\"other\"] }";
    let gateway = gateway(&upstream, ci, "duo_chat = \"other\"\n").await;
    for model in ["m", "feature/code_completions"] {
        for path in [CHAT, "/v1/messages"] {
            let refused = ask(&gateway, "ci-key", path, model).await;
            assert_eq!(refused.status(), 403, "{path} {model}");
            assert!(refused.text().contains("not for the model m"), "{}", refused.text());
        }
    }
    let body = json!({"stream": false, "model_metadata": {"provider": "openai", "endpoint": upstream.url(), "name": "general", "identifier": "custom_openai/x"}, "inputs": {"diff": "+1"}, "prompt_version": "^1.0.0"});
    let named = gateway
        .call(
            "POST",
            "/v1/prompts/generate_commit_message",
            &[("authorization", "Bearer ci-key")],
            body.to_string().as_bytes(),
        )
        .await;
    assert_eq!(named.status(), 403, "nor one that the request names: {}", named.text());
    assert!(upstream.requests().is_empty());
    assert_eq!(ask(&gateway, "ci-key", CHAT, "other").await.status(), 200);
    assert_eq!(ask(&gateway, "ci-key", CHAT, "feature/duo_chat").await.status(), 200);
    assert_eq!(ask(&gateway, "everything", CHAT, "m").await.status(), 200);
    let listed =
        gateway.call("GET", "/v1/models", &[("authorization", "Bearer ci-key")], b"").await.json();
    let names: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert!(
        names[0] == "other" && names[1..].iter().all(|name| name.starts_with("feature/duo_chat")),
        "{names:?}"
    );
}

#[test]
fn faults_of_keys_name_the_location_and_the_nearest_model() {
    let file = |item: &str| {
        format!("[auth]\nstatic_keys = [{item}]\n[models.codestral]\nendpoint = \"http://h/v1\"\n")
    };
    let of = |item: &str| parse(&file(item)).unwrap_err().to_string();
    let unknown = of("{ file = \"Cargo.lock\", models = [\"codestrl\"] }");
    assert!(
        unknown.contains("auth.static_keys[0].models")
            && unknown.contains("did you mean \"codestral\"?"),
        "{unknown}"
    );
    for (item, phrase) in [
        ("{ env = \"PATH\", model = \"codestral\" }", "did you mean models?"),
        ("{ name = \"ci\" }", "expected { env ="),
        ("{ env = \"PATH\", file = \"x\" }", "expected { env ="),
        ("{ env = \"PATH\", requests_per_minute = 0 }", "expected a whole number from 1"),
        ("{ env = \"PATH\", tokens_per_minute = \"9\" }", "static_keys[0].tokens_per_minute"),
        ("{ env = \"PATH\", models = [] }", "expected an array of models' names"),
        ("\"a\", \"a\"", "the same key twice"),
        ("{ env = \"PATH\", name = \"a b\" }", "visible ASCII"),
    ] {
        assert!(of(item).contains(phrase), "{item}: {}", of(item));
    }
}
