//! The four timeouts and A1000: what the client, the metrics, the log and the model server see of
//! an expiry, for every timeout, streamed or not, on every surface.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Deaf, End, Gateway, Reply, Upstream, chat_body};

/// How an expiry reaches the client.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reported {
    /// 504, since no head was sent.
    Status,
    /// An error event in the stream.
    Event,
    /// The body is cut: no error fits into the middle of a JSON value or of plain text.
    Cut,
}

/// A model that is too slow in one phase, and how the client gets the error.
struct Case {
    model: &'static str,
    phase: &'static str,
    limits: &'static str,
    limit_ms: u64,
    reply: Reply,
    whole: Reported,
    streamed: Reported,
}

const DRIP: Duration = Duration::from_millis(20);

fn drip(reply: Reply) -> Reply {
    (0..200).fold(reply, |reply, _| reply.text("x").wait(DRIP))
}

fn cases() -> Vec<Case> {
    use Reported::{Cut, Event, Status};
    let json = || Reply::head(200, &[("content-type", "application/json")]);
    let case = |model, phase, limits, limit_ms, reply, whole, streamed| Case {
        model,
        phase,
        limits,
        limit_ms,
        reply,
        whole,
        streamed,
    };
    vec![
        case(
            "silent",
            "first_byte",
            "first_byte = \"150ms\"",
            150,
            Reply::stalled(),
            Status,
            Status,
        ),
        // model servers send their head before the first token: it is no progress yet
        case(
            "head_only",
            "first_byte",
            "first_byte = \"150ms\"",
            150,
            Reply::sse().stall(),
            Status,
            Status,
        ),
        case(
            "pauses",
            "idle",
            "idle = \"150ms\"",
            150,
            Reply::sse().text("one").stall(),
            Status,
            Event,
        ),
        case(
            "half_json",
            "idle",
            "idle = \"150ms\"",
            150,
            json().bytes("{\"choices\":[").stall(),
            Status,
            Cut,
        ),
        case("endless", "total", "total = \"250ms\"", 250, drip(Reply::sse()), Status, Event),
        case("late", "total", "total = \"150ms\"", 150, Reply::stalled(), Status, Status),
    ]
}

fn model_lines(name: &str, url: &str, limits: &str) -> String {
    format!(
        "[models.{name}]\nidentifier = \"custom_openai/up\"\nendpoints = [\"{url}\"]\ntimeouts = {{ {limits} }}\n"
    )
}

/// Runs every case at once, streamed or not: the waits overlap.
async fn expire_all(stream: bool) {
    let (mut file, mut upstreams) = (String::new(), Vec::new());
    for case in cases() {
        let upstream = Upstream::always(case.reply.clone()).await;
        file.push_str(&model_lines(case.model, &upstream.url(), case.limits));
        upstreams.push(upstream);
    }
    let gateway = Arc::new(Gateway::start(&file).await);
    let mut running = JoinSet::new();
    for (case, upstream) in cases().into_iter().zip(upstreams) {
        let gateway = Arc::clone(&gateway);
        running.spawn(async move {
            let answer = gateway.chat(case.model, stream).await;
            let reported = if stream { case.streamed } else { case.whole };
            check_reported(&case, reported, &answer);
            check_noted(&case, &gateway, &answer).await;
            upstream.closed(0).await;
            assert_eq!(upstream.requests().len(), 1, "{}: an expiry is not retried", case.model);
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

fn check_reported(case: &Case, reported: Reported, answer: &Answer) {
    let name = case.model;
    match reported {
        Reported::Status => {
            assert_eq!(
                (answer.status(), answer.end),
                (504, End::Proper),
                "{name}: {}",
                answer.text()
            );
            assert_eq!(answer.header("x-weir-error"), Some("A1000"), "{name}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
            check_error(case, &answer.json(), answer);
        }
        Reported::Event => {
            assert_eq!(
                (answer.status(), answer.end),
                (200, End::Proper),
                "{name}: {}",
                answer.text()
            );
            let events = answer.events();
            assert!(
                !answer.text().contains("[DONE]"),
                "{name}: an expired stream must not look complete"
            );
            check_error(case, &serde_json::from_str(events.last().unwrap()).unwrap(), answer);
        }
        Reported::Cut => {
            assert_eq!((answer.status(), answer.end), (200, End::Cut), "{name}: {}", answer.text())
        }
    }
}

fn check_error(case: &Case, body: &Value, answer: &Answer) {
    let error = &body["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("A1000"), &json!("timeout_error")),
        "{error}"
    );
    assert_eq!(
        (&error["phase"], &error["limit_ms"]),
        (&json!(case.phase), &json!(case.limit_ms)),
        "{error}"
    );
    assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"), "{error}");
    let stated = error["message"].as_str().unwrap();
    assert!(
        stated.starts_with(&format!("A1000: {} did not answer within ", case.model)),
        "{stated}"
    );
    assert!(stated.ends_with(&format!("({})", case.phase)), "{stated}");
}

async fn check_noted(case: &Case, gateway: &Gateway, answer: &Answer) {
    let line = gateway.line(answer).await;
    for (key, value) in [
        ("error_code", "A1000"),
        ("phase", case.phase),
        ("outcome", "timeout"),
        ("model", case.model),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    let waited = line["duration_ms"].as_f64().unwrap();
    assert!(waited >= case.limit_ms as f64, "{line}");
    let metrics = gateway.metrics().await;
    let labels =
        [("code", "A1000"), ("phase", case.phase), ("model", case.model), ("feature", "direct")];
    assert_eq!(metrics.sum("weir_errors_total", &labels), 1.0, "{}", metrics.text);
    let ended = [("outcome", "timeout"), ("model", case.model)];
    assert_eq!(metrics.sum("weir_requests_total", &ended), 1.0, "{}", metrics.text);
}

#[tokio::test]
async fn every_limit_is_a1000_for_whole_answers() {
    expire_all(false).await;
}

#[tokio::test]
async fn every_limit_is_a1000_for_streams() {
    expire_all(true).await;
}

#[tokio::test]
async fn a_connection_that_is_not_made_is_a1000() {
    let deaf = Deaf::start();
    let url = format!("http://{}/v1", deaf.address);
    let gateway = Gateway::start(&model_lines("deaf", &url, "connect = \"100ms\"")).await;
    let case = Case {
        model: "deaf",
        phase: "connect",
        limits: "",
        limit_ms: 100,
        reply: Reply::stalled(),
        whole: Reported::Status,
        streamed: Reported::Status,
    };
    let answer = gateway.chat("deaf", false).await;
    check_reported(&case, Reported::Status, &answer);
    check_noted(&case, &gateway, &answer).await;
    let answer = gateway.chat("deaf", true).await;
    check_reported(&case, Reported::Status, &answer);
    assert_eq!(gateway.line(&answer).await["phase"], "connect");
    assert_eq!(gateway.metrics().await.sum("weir_upstream_healthy", &[("model", "deaf")]), 0.0);
}

#[tokio::test]
async fn progress_restarts_idle_and_a_finished_answer_expires_nothing() {
    let steady =
        (0..10).fold(Reply::sse(), |reply, _| reply.text("x").wait(Duration::from_millis(60)));
    let upstream = Upstream::always(steady.done(true)).await;
    let gateway =
        Gateway::start(&model_lines("m", &upstream.url(), "idle = \"400ms\", first_byte = \"5s\""))
            .await;
    let answer = gateway.chat("m", true).await;
    assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(gateway.line(&answer).await["outcome"], "ok");
}

#[tokio::test]
async fn the_nearest_layer_sets_the_limit() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let file = format!(
        "[timeouts]\nfirst_byte = \"30s\"\n{}[features]\nduo_chat = {{ model = \"m\", timeouts = {{ first_byte = \"50ms\" }} }}\n",
        model_lines("m", &upstream.url(), "first_byte = \"20s\"")
    );
    let gateway = Gateway::start(&file).await;
    let answer = gateway.chat("feature/duo_chat", false).await;
    assert_eq!((answer.status(), &answer.json()["error"]["limit_ms"]), (504, &json!(50)));
}

/// Starts one model, on a gateway whose idle timeout is short.
async fn slow_gateway(reply: Reply) -> (Gateway, Upstream) {
    let upstream = Upstream::always(reply).await;
    let limits = "[timeouts]\nfirst_byte = \"150ms\"\nidle = \"150ms\"\n";
    let gateway = Gateway::with_model(&upstream, limits).await;
    (gateway, upstream)
}

fn chat_v1(stream: bool) -> Value {
    json!({"prompt_components": [{"type": "string", "metadata": {"source": "s", "version": "v"}, "payload": {"content": "Hello", "provider": "litellm"}}], "stream": stream})
}

const SENTENCE: &str = "I'm sorry, I couldn't respond in time. Please try again.";

#[tokio::test]
async fn gitlabs_json_surfaces_say_a1000_in_their_own_shape() {
    let (gateway, upstream) = slow_gateway(Reply::stalled()).await;
    let check = json!({"inputs": {}, "stream": false});
    let paths =
        [("/v1/chat/agent", chat_v1(false)), ("/v1/prompts/model_configuration/check", check)];
    for (index, (path, body)) in paths.iter().enumerate() {
        let answer = gateway.post(path, body).await;
        assert_eq!(
            (answer.status(), answer.header("x-weir-error")),
            (504, Some("A1000")),
            "{}",
            answer.text()
        );
        let body = answer.json();
        assert_eq!(body["detail"], "A1000: m did not answer within 0.15 s (first_byte)");
        let request_id = answer.header("x-request-id").unwrap();
        let expected = json!({"code": "A1000", "message": SENTENCE, "phase": "first_byte", "limit_ms": 150, "request_id": request_id});
        assert_eq!(body["error"], expected);
        assert_eq!(gateway.line(&answer).await["error_code"], "A1000");
        upstream.closed(index).await;
    }
}

#[tokio::test]
async fn gitlabs_raw_text_says_the_sentence_before_the_head_and_cuts_after_it() {
    let (gateway, upstream) = slow_gateway(Reply::stalled()).await;
    let answer = gateway.post("/v1/chat/agent", &chat_v1(true)).await;
    assert_eq!((answer.status(), answer.header("x-weir-error")), (504, Some("A1000")));
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{answer:?}");
    assert_eq!(answer.text(), format!("{SENTENCE} (A1000)"));
    upstream.closed(0).await;

    let (gateway, upstream) = slow_gateway(Reply::sse().text("one").stall()).await;
    let answer = gateway.post("/v1/chat/agent", &chat_v1(true)).await;
    assert_eq!((answer.status(), answer.text(), answer.end), (200, "one", End::Cut));
    let line = gateway.line(&answer).await;
    assert_eq!((&line["error_code"], &line["phase"]), (&json!("A1000"), &json!("idle")), "{line}");
    upstream.closed(0).await;
}

#[tokio::test]
async fn a_body_that_never_ends_meets_the_total() {
    let upstream = Upstream::always(
        Reply::sse().forever(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
    )
    .await;
    let gateway = Gateway::start(&model_lines("m", &upstream.url(), "total = \"200ms\"")).await;
    let answer = gateway.chat("m", true).await;
    let error: Value = serde_json::from_str(answer.events().last().unwrap()).unwrap();
    assert_eq!(error["error"]["phase"], "total", "{error}");
    upstream.closed(0).await;
}

#[tokio::test]
async fn a_reader_that_stopped_reading_does_not_outlive_the_total() {
    let known_length = || Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n");
    for (head, version) in [(Reply::sse(), "1.1"), (known_length(), "1.1"), (known_length(), "1.0")]
    {
        let upstream = Upstream::always(head.forever(&[b'x'; 64 * 1024])).await;
        let gateway = Gateway::start(&model_lines("m", &upstream.url(), "total = \"2s\"")).await;
        let mut client = crate::support::Client::connect(gateway.public).await;
        let body = chat_body("m", false).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/{version}\r\nhost: a\r\ncontent-length: {}",
            body.len()
        );
        client.write(format!("{head}\r\ncontent-type: application/json\r\n\r\n{body}")).await;
        // nothing is read: the buffers fill, and only the limit can end it
        upstream.closed(0).await;
        drop(client);
    }
}
