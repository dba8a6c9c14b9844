//! `fallback` of a feature: another model responds, in whatever dialect, when the first one fails
//! before its first token. The client gets what that model alone would return.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::failover::{calls, steady};
use crate::support::{Answer, End, Gateway, Received, Reply, Upstream, says};

const ERROR: &str = r#"{"error":{"message":"out of memory","type":"server_error","code":500}}"#;

/// Returns the response of a server with Anthropic's API.
fn claude(request: &Received) -> Reply {
    if request.path.ends_with("/count_tokens") {
        return Reply::json(200, &json!({"input_tokens": 3}));
    }
    let usage = json!({"input_tokens": 7, "output_tokens": 2});
    if !request.wants_stream() {
        let content = json!([{"type": "text", "text": "Hello there, you"}]);
        return Reply::json(
            200,
            &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": content,
                "stop_reason": "end_turn", "usage": usage}),
        );
    }
    let events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 7, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there, you"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
        json!({"type": "message_stop"}),
    ];
    events.iter().fold(Reply::sse(), |reply, event| reply.event(event.to_string())).end()
}

fn openai(request: &Received) -> Reply {
    says(request, "Hello there, you")
}

/// A gateway with models `one` and `two` at servers of their own, and these lines of `[features]`.
struct House {
    one: Upstream,
    two: Upstream,
    gateway: Gateway,
}

type Script = fn(&Received) -> Reply;

impl House {
    async fn with(one: (&str, Script), two: (&str, Script), features: &str) -> Self {
        let upstreams = [Upstream::start(one.1).await, Upstream::start(two.1).await];
        let model = |name: &str, kind: &str, upstream: &Upstream| {
            let base = if kind == "anthropic" {
                upstream.url().replace("/v1", "")
            } else {
                upstream.url()
            };
            format!(
                "[models.{name}]\nidentifier = \"{kind}/up\"\nfamily = \"general\"\nendpoint = \"{base}\"\napi_key = \"k\"\n"
            )
        };
        let models =
            [model("one", one.0, &upstreams[0]), model("two", two.0, &upstreams[1])].concat();
        let house =
            "[timeouts]\nfirst_byte = \"300ms\"\nidle = \"300ms\"\n[chat]\nheartbeat = \"1s\"\n";
        let gateway = Gateway::start(&format!("{house}{models}[features]\n{features}\n")).await;
        let [one, two] = upstreams;
        Self { one, two, gateway }
    }

    async fn falling_back(one: Script) -> Self {
        Self::with(("custom_openai", one), ("anthropic", claude), FALLS_BACK).await
    }

    /// Sends one of GitLab's chats.
    async fn chat(&self, name: &str, stream: bool) -> Answer {
        let body =
            json!({"prompt_components": [{"payload": {"content": "Hello"}}], "stream": stream});
        self.gateway.post(&format!("/v1/chat/{name}"), &body).await
    }

    /// Returns how many requests each server received.
    fn received(&self) -> (usize, usize) {
        (self.one.requests().len(), self.two.requests().len())
    }
}

const FALLS_BACK: &str = "default = { model = \"one\", fallback = [\"two\"] }";

const FAULTS: [(&str, Script); 6] = [
    ("closes", |_| Reply::closed()),
    ("busy", |_| Reply::whole(429, &[("retry-after", "9")], ERROR)),
    ("refuses our key", |_| Reply::whole(401, &[], ERROR)),
    ("has no such model", |_| Reply::whole(404, &[], ERROR)),
    ("silent", |_| Reply::stalled()),
    ("fails before its first word", |request| match request.wants_stream() {
        true => {
            Reply::sse().event(r#"{"choices":[{"delta":{"role":"assistant"}}]}"#).event(ERROR).end()
        }
        false => Reply::whole(500, &[], ERROR),
    }),
];

/// Makes one kind of server fail in every way, and compares each surface's response with what the
/// other model alone returns.
async fn compare(one: &'static str, two: (&'static str, Script)) {
    let alone = House::with((one, |_| Reply::closed()), two, "default = \"two\"").await;
    for (name, fault) in FAULTS {
        let house = House::with((one, fault), two, FALLS_BACK).await;
        for (surface, path, mut body) in calls() {
            if body["model"] == "m" {
                body["model"] = json!("feature/duo_chat");
            }
            let expected = alone.gateway.post(path, &body).await;
            assert_eq!(
                (expected.status(), expected.end),
                (200, End::Proper),
                "{surface}: {}",
                expected.text()
            );
            let answer = house.gateway.post(path, &body).await;
            assert_eq!(steady(&answer), steady(&expected), "{surface}, {name}");
            let (line, plain) =
                (house.gateway.line(&answer).await, alone.gateway.line(&expected).await);
            for key in ["outcome", "model", "provider", "feature", "tokens_in", "tokens_out"] {
                assert_eq!(line[key], plain[key], "{surface}, {name}: {line}");
            }
            assert_eq!(line["fallback_from"], "one", "{surface}, {name}: {line}");
        }
        let metrics = house.gateway.metrics().await;
        let fallbacks = metrics.sum("weir_fallbacks_total", &[("from", "one"), ("to", "two")]);
        assert_eq!(fallbacks, calls().len() as f64, "{name}");
        assert_eq!(metrics.sum("weir_errors_total", &[]), 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_model_of_another_dialect_answers_on_every_surface() {
    compare("custom_openai", ("anthropic", claude)).await;
}

#[tokio::test]
async fn the_reverse_too() {
    compare("anthropic", ("custom_openai", openai)).await;
}

#[tokio::test]
async fn what_the_client_did_wrong_goes_nowhere() {
    for fault in [
        (|_: &Received| Reply::whole(400, &[], ERROR)) as Script,
        |_| Reply::whole(413, &[], ERROR),
        |_| Reply::whole(422, &[], ERROR),
        |_| Reply::whole(400, &[], r#"{"error":{"code":"content_filter","message":"no"}}"#),
    ] {
        let house = House::falling_back(fault).await;
        assert_ne!(house.chat("agent", true).await.status(), 200);
        assert_eq!(house.received(), (1, 0));
    }
}

#[tokio::test]
async fn after_the_first_word_nobody_else_is_called() {
    let house = House::falling_back(|_| Reply::sse().text("one").then_close()).await;
    let answer = house.chat("agent", true).await;
    assert_eq!((answer.status(), answer.text(), answer.end), (200, "one", End::Cut));
    assert_eq!(house.received(), (1, 0));
}

#[tokio::test]
async fn a_sub_feature_falls_back_as_its_parent_and_a_named_model_does_not() {
    let features = "duo_chat = { model = \"one\", fallback = [\"two\"] }";
    let house =
        House::with(("custom_openai", |_| Reply::closed()), ("custom_openai", openai), features)
            .await;
    let answer = house.chat("explain_code", false).await;
    let line = house.gateway.line(&answer).await;
    assert_eq!(
        (answer.status(), &line["feature"]),
        (200, &json!("duo_chat_explain_code")),
        "{line}"
    );
    assert_eq!(
        (&line["model"], &line["fallback_code"]),
        (&json!("two"), &json!("upstream_broken")),
        "{line}"
    );
    assert_eq!(
        house.gateway.chat("one", false).await.status(),
        502,
        "who names a model gets this one"
    );
    assert_eq!(house.received(), (2, 1));
}

#[tokio::test]
async fn when_all_fail_the_last_is_reported_and_a_refusal_of_a_fallback_is_not() {
    let busy = |_: &Received| Reply::whole(429, &[("retry-after", "9")], ERROR);
    let house =
        House::with(("custom_openai", |_| Reply::closed()), ("custom_openai", busy), FALLS_BACK)
            .await;
    let answer = house.chat("agent", false).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("9")));
    let line = house.gateway.line(&answer).await;
    assert_eq!(
        (&line["model"], &line["error_code"]),
        (&json!("two"), &json!("upstream_status")),
        "{line}"
    );
    // the first is busy, the other one's context window is too small: no server has rejected the
    // request itself
    let small = |_: &Received| Reply::whole(400, &[], ERROR);
    let house = House::with(("custom_openai", busy), ("custom_openai", small), FALLS_BACK).await;
    let answer = house.chat("agent", false).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("9")));
    assert_eq!(house.received(), (1, 1));
}

#[tokio::test]
async fn beats_before_the_first_word_do_not_keep_it_from_falling_back() {
    let silent = "first_byte = \"200ms\"";
    let (one, two) = (Upstream::always(Reply::stalled()).await, Upstream::says("Hello").await);
    let file = format!(
        "[chat]\nheartbeat = \"50ms\"\n[models.one]\nendpoint = \"{}\"\ntimeouts = {{ {silent} }}\n[models.two]\nendpoint = \"{}\"\n[features]\n{FALLS_BACK}\n",
        one.url(),
        two.url()
    );
    let gateway = Gateway::start(&file).await;
    let body = json!({"messages": [{"role": "user", "content": "Hello"}], "model_metadata": null});
    let answer = gateway.post("/v2/chat/agent", &body).await;
    assert!(
        answer.text().starts_with('\n') && answer.text().contains("Hello"),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("error"), "{}", answer.text());
}

#[tokio::test]
async fn the_time_at_a_model_server_is_the_answering_attempts_own() {
    let house = House::falling_back(|_| Reply::stalled()).await;
    let answer = house.chat("agent", false).await;
    assert_eq!(answer.status(), 200);
    let (line, metrics) = (house.gateway.line(&answer).await, house.gateway.metrics().await);
    let of = |name: &str, model: &str| {
        metrics.sum(&format!("weir_upstream_duration_seconds_{name}"), &[("model", model)])
    };
    assert_eq!((of("count", "one"), of("count", "two")), (0.0, 1.0));
    // `one` was silent for 300 ms
    assert!(of("sum", "two") < 0.3, "{}", of("sum", "two"));
    let [upstream, overhead] =
        ["upstream_ms", "overhead_us"].map(|key| line[key].as_f64().unwrap());
    assert!(upstream >= 300.0 && overhead < 100_000.0, "the line has all of it: {line}");
}

#[tokio::test]
async fn one_total_holds_for_all_models_and_a_silent_one_leaves_half_of_it() {
    let features = "duo_chat = { model = \"one\", fallback = [\"two\"], timeouts = { first_byte = \"60s\", total = \"1s\" } }";
    let house =
        House::with(("custom_openai", |_| Reply::stalled()), ("custom_openai", openai), features)
            .await;
    assert_eq!(house.chat("agent", false).await.status(), 200);
    let house = House::with(
        ("custom_openai", |_| Reply::stalled()),
        ("custom_openai", |_| Reply::stalled()),
        features,
    )
    .await;
    let answer = house.chat("agent", false).await;
    let line = house.gateway.line(&answer).await;
    assert_eq!((answer.status(), &line["phase"]), (504, &json!("total")), "{line}");
    let took = line["duration_ms"].as_f64().unwrap();
    assert!((1000.0..1900.0).contains(&took), "{line}");
}

#[tokio::test]
async fn vectors_and_test_connection_stay_with_their_model() {
    let house = House::falling_back(|_| Reply::whole(500, &[], ERROR)).await;
    let embed = json!({"contents": ["a"], "model_metadata": {"provider": "gitlab"}});
    assert_eq!(house.gateway.post("/v1/embeddings/code_embeddings", &embed).await.status(), 502);
    let embed = json!({"model": "feature/embeddings_code", "input": "a"});
    assert_eq!(house.gateway.post("/v1/embeddings", &embed).await.status(), 502);
    let check = json!({"inputs": {}});
    assert_eq!(
        house.gateway.post("/v1/prompts/model_configuration/check", &check).await.status(),
        421
    );
    assert_eq!(house.received(), (3, 0));
}

#[tokio::test]
async fn tokens_are_counted_by_whoever_can() {
    let house = House::falling_back(|_| Reply::closed()).await;
    let body =
        json!({"model": "feature/duo_chat", "messages": [{"role": "user", "content": "hi"}]});
    // an OpenAI server cannot count at all: no failure of its own
    assert_eq!(house.gateway.post("/v1/messages/count_tokens", &body).await.status(), 404);
    let house =
        House::with(("anthropic", |_| Reply::closed()), ("anthropic", claude), FALLS_BACK).await;
    let answer = house.gateway.post("/v1/messages/count_tokens", &body).await;
    assert_eq!((answer.status(), answer.json()), (200, json!({"input_tokens": 3})));
}

#[tokio::test]
async fn a_chain_is_called_in_its_order() {
    let turn = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut upstreams = Vec::new();
    for name in ["a", "b", "c"] {
        let turn = Arc::clone(&turn);
        let fails = move |request: &Received| {
            turn.lock().unwrap().push(name);
            if name == "c" { says(request, "c") } else { Reply::closed() }
        };
        upstreams.push((name, Upstream::start(fails).await));
    }
    let models: String = upstreams
        .iter()
        .map(|(name, up)| format!("[models.{name}]\nendpoint = \"{}\"\n", up.url()))
        .collect();
    let features = "[features]\ndefault = { model = \"a\", fallback = [\"b\", \"c\"] }\n";
    let gateway = Gateway::start(&format!("{models}{features}")).await;
    let answer = gateway
        .post("/v1/chat/completions", &crate::support::chat_body("feature/duo_chat", false))
        .await;
    assert_eq!((answer.status(), turn.lock().unwrap().clone()), (200, vec!["a", "b", "c"]));
    let metrics = gateway.metrics().await;
    for (from, to) in [("a", "b"), ("b", "c")] {
        let labels = [("feature", "duo_chat"), ("from", from), ("to", to)];
        assert_eq!(metrics.sum("weir_fallbacks_total", &labels), 1.0);
    }
    let status: Value = gateway.admin("/status").await.json();
    let rows = status["features"].as_array().unwrap();
    let chat = rows.iter().find(|row| row["feature"] == "duo_chat").unwrap();
    assert_eq!(chat["fallback"], json!(["b", "c"]));
}

#[tokio::test]
async fn a_key_falls_back_only_to_models_that_it_is_for() {
    let (one, two) = (Upstream::always(Reply::closed()).await, Upstream::says("Hello").await);
    let models: String = [("one", &one), ("two", &two)]
        .map(|(name, upstream)| format!("[models.{name}]\nendpoint = \"{}\"\n", upstream.url()))
        .concat();
    let keys = "static_keys = [{ env = \"ONE\", models = [\"one\"] }, { env = \"BOTH\", models = [\"one\", \"two\"] }]";
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"keys\"\n{keys}\n\
         [resilience]\ndrain = \"100ms\"\n{models}[features]\n{FALLS_BACK}\n"
    );
    let env = [("ONE", "key-one"), ("BOTH", "key-both")].into_iter().collect();
    let gateway = Gateway::start_exactly(&env, &file).await;
    let body = crate::support::chat_body("feature/duo_chat", false).to_string();
    for (key, status) in [("Bearer key-one", 502), ("Bearer key-both", 200)] {
        let answer = gateway
            .call("POST", "/v1/chat/completions", &[("authorization", key)], body.as_bytes())
            .await;
        assert_eq!(answer.status(), status, "{key}: {}", answer.text());
    }
    assert_eq!(two.requests().len(), 1);
}
