//! Probes, and what an unknown path or method gets.

use serde_json::json;

use crate::support::{Gateway, Upstream};

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::says("Hi").await;
    (Gateway::with_model(&upstream, "").await, upstream)
}

#[tokio::test]
async fn probes_answer_in_every_spelling() {
    let (gateway, _upstream) = gateway().await;
    for path in [
        "/monitoring/healthz",
        "/monitoring/ready",
        "//monitoring//healthz",
        "/monitoring/healthz/",
    ] {
        let answer = gateway.get(path).await;
        assert_eq!((answer.status(), answer.text()), (200, "{}"), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn head_is_200_on_any_path_and_has_no_body() {
    let (gateway, upstream) = gateway().await;
    for path in ["/", "/v1/chat/completions", "/anything//at?all=1", "/monitoring/healthz"] {
        let mut client = crate::support::Client::connect(gateway.public).await;
        let answer = client.call("HEAD", path, &[], b"").await;
        assert_eq!(answer.status(), 200, "{path}");
        // the next response on the connection starts where this one ended
        assert_eq!(client.call("GET", "/monitoring/healthz", &[], b"").await.text(), "{}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn doubled_slashes_reach_the_same_endpoints() {
    let (gateway, upstream) = gateway().await;
    let body = crate::support::chat_body("m", false);
    assert_eq!(gateway.post("//v1//chat/completions", &body).await.status(), 200);
    assert_eq!(upstream.only_request().path, "/v1/chat/completions");
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    let (gateway, upstream) = gateway().await;
    let mut answers = Vec::new();
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/metrics",
        "/status",
        "/v1/chat/nothing",
        "/v1/../etc/passwd",
        "/%00",
    ] {
        let answer = gateway.get(path).await;
        assert_eq!((answer.status(), answer.text()), (404, r#"{"detail":"Not Found"}"#), "{path}");
        answers.push((answer, path));
    }
    for (answer, path) in answers {
        let line = gateway.line(&answer).await;
        assert_eq!((&line["surface"], &line["path"]), (&json!("unknown"), &json!(path)), "{line}");
    }
    let cases = [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("PUT", "/monitoring/healthz", "GET"),
        ("GET", "/v1/prompts/model_configuration/check", "POST"),
        ("PATCH", "/v1/chat/agent", "POST"),
    ];
    for (method, path, allowed) in cases {
        let answer = gateway.call(method, path, &[], b"").await;
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
        assert!(answer.text().contains("Method Not Allowed"), "{}", answer.text());
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let (gateway, _upstream) = gateway().await;
    for path in ["/monitoring/healthz", "/nothing", "/v1/models"] {
        let answer = gateway.call("GET", path, &[("x-request-id", "mine-1")], b"").await;
        assert_eq!(answer.header("x-request-id"), Some("mine-1"), "{path}");
    }
    assert_eq!(gateway.get("/nothing").await.header("x-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn the_admin_listener_answers_and_is_not_public() {
    let (gateway, _upstream) = gateway().await;
    assert_eq!(gateway.admin("/live").await.status(), 200);
    assert_eq!(gateway.admin("/ready").await.status(), 200);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_config_reload_ok", &[]), 1.0);
    assert_eq!(metrics.sum("weir_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    let status = gateway.admin("/status").await.json();
    assert!(status["models"].to_string().contains("\"m\""), "{status}");
    assert_eq!(gateway.admin("/v1/models").await.status(), 404);
}

#[tokio::test]
async fn series_exist_at_zero_from_the_start() {
    let model = |name: &str| {
        format!(
            "[models.{name}]\nidentifier = \"custom_openai/up\"\nfamily = \"general\"\nendpoints = [\"http://127.0.0.1:9/v1\"]\n"
        )
    };
    let features = "[features]\ncode_completions = \"disabled\"\n";
    let file = format!(
        "{}{}{features}duo_chat = {{ model = \"one\", fallback = [\"two\"] }}\n",
        model("one"),
        model("two")
    );
    let gateway = Gateway::start(&file).await;
    let metrics = gateway.metrics().await;
    let chat =
        |model| [("surface", "gitlab_chat_agent"), ("feature", "duo_chat"), ("model", model)];
    for name in ["one", "two"] {
        for outcome in ["ok", "refused", "upstream_error", "timeout", "cancelled"] {
            let labels = [&chat(name)[..], &[("provider", "openai"), ("outcome", outcome)]];
            assert!(metrics.is_zero("weir_requests_total", &labels.concat()), "{}", metrics.text);
        }
        for seconds in ["request_duration", "time_to_first_token"] {
            let count = format!("weir_{seconds}_seconds_count");
            assert!(metrics.is_zero(&count, &chat(name)), "{count}: {}", metrics.text);
        }
        for series in [
            "upstream_duration_seconds_count",
            "queue_seconds_count",
            "upstream_inflight",
            "breaker_state",
            "model_waiting",
            "retries_total",
        ] {
            let series = format!("weir_{series}");
            assert!(metrics.is_zero(&series, &[("model", name)]), "{series}: {}", metrics.text);
        }
        let route = [("feature", "duo_chat_explain_code"), ("model", name)];
        for direction in ["input", "output"] {
            let labels = [&route[..], &[("direction", direction)]].concat();
            assert!(metrics.is_zero("weir_tokens_total", &labels), "{}", metrics.text);
        }
        for phase in ["connect", "first_byte", "idle", "total"] {
            let labels = [&route[..], &[("code", "A1000"), ("phase", phase)]].concat();
            assert!(metrics.is_zero("weir_errors_total", &labels), "{}", metrics.text);
        }
        let direct = [("surface", "openai_chat"), ("feature", "direct"), ("model", name)];
        assert!(metrics.is_zero("weir_requests_total", &direct), "{}", metrics.text);
    }
    for (name, label, value) in [
        ("weir_fallbacks_total", "from", "one"),
        ("weir_overhead_seconds_count", "surface", "gitlab_chat_agent"),
        ("weir_client_disconnects_total", "surface", "gitlab_chat_agent"),
        ("weir_inflight", "surface", "gitlab_prompts"),
        ("weir_rate_limited_total", "scope", "requests"),
        ("weir_tls_handshakes_failed_total", "reason", "not_tls"),
        ("weir_config_reloads_total", "outcome", "failed"),
    ] {
        assert!(metrics.is_zero(name, &[(label, value)]), "{name}: {}", metrics.text);
    }
    assert!(!metrics.text.contains("code_completions"), "a disabled feature has no series");
    assert!(!metrics.text.contains("three"), "{}", metrics.text);
    assert_eq!(gateway.admin("/status").await.json()["errors"], json!({}), "none has occurred");

    gateway.reload(&format!("{file}review_merge_request = \"three\"\n{}", model("three")));
    let metrics = gateway.metrics().await;
    let review = [("surface", "gitlab_prompts"), ("feature", "review_merge_request")];
    let labels = [&review[..], &[("model", "three"), ("outcome", "timeout")]].concat();
    assert!(metrics.is_zero("weir_requests_total", &labels), "{}", metrics.text);
    assert!(metrics.is_zero("weir_retries_total", &[("model", "three")]), "{}", metrics.text);
    assert_eq!(metrics.sum("weir_config_reloads_total", &[("outcome", "ok")]), 1.0);
}

#[tokio::test]
async fn a_model_that_is_down_leaves_the_gateway_ready() {
    let gateway = Gateway::start(&crate::support::one_model("http://127.0.0.1:9/v1")).await;
    assert_eq!(gateway.chat("m", false).await.status(), 502);
    assert_eq!(gateway.get("/monitoring/ready").await.status(), 200);
    assert_eq!(gateway.admin("/ready").await.status(), 200);
    assert_eq!(gateway.metrics().await.sum("weir_upstream_healthy", &[("model", "m")]), 0.0);
}
