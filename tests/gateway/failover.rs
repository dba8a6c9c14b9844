//! What fails before the first content goes to the next replica, within the retry budget; the
//! client sees one clean response, and nothing of the attempt that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Client, End, Gateway, Received, Reply, Upstream, chat_body, says};

/// Two replicas of a model `m` for everything, and the gateway in front of them.
struct Pair {
    replicas: [Upstream; 2],
    gateway: Gateway,
}

impl Pair {
    async fn of(script: impl Fn(&Received) -> Reply + Send + Sync + 'static, more: &str) -> Self {
        let script = Arc::new(script);
        let other = Arc::clone(&script);
        Self::of_two(move |request| script(request), move |request| other(request), more).await
    }

    async fn of_two(
        one: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        two: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        more: &str,
    ) -> Self {
        let replicas = [Upstream::start(one).await, Upstream::start(two).await];
        let [one, two] = replicas.each_ref().map(Upstream::url);
        let model = format!(
            "[models.m]\nidentifier = \"custom_openai/up\"\nfamily = \"general\"\nendpoints = [\"{one}\", \"{two}\"]\n\
             [features]\ndefault = \"m\"\n"
        );
        Self { replicas, gateway: Gateway::start(&format!("{more}{model}")).await }
    }

    /// Starts a pair of which the first replica to be called fails; then both respond.
    async fn first_fails(
        fault: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        more: &str,
    ) -> Self {
        let failing = AtomicBool::new(true);
        let script = move |request: &Received| match failing.swap(false, Ordering::Relaxed) {
            true => fault(request),
            false => says(request, "Hello there, you"),
        };
        Self::of(script, more).await
    }

    fn received(&self) -> Vec<Received> {
        self.replicas.iter().flat_map(Upstream::requests).collect()
    }
}

const ROLE: &str = r#"{"id":"c-0","object":"chat.completion.chunk","created":1,"model":"bad","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":99,"completion_tokens":0,"total_tokens":99}}"#;
const ERROR: &str = r#"{"error":{"message":"out of memory","type":"server_error","code":500}}"#;

fn error(status: u16) -> Reply {
    Reply::whole(
        status,
        &[("content-type", "application/json"), ("retry-after", "3"), ("x-bad", "1")],
        ERROR,
    )
}

/// Returns a head and the beginning of a body without content, of a stream or of a whole response.
fn begun(request: &Received) -> Reply {
    if request.wants_stream() {
        return Reply::head(200, &[("content-type", "text/event-stream"), ("x-bad", "1")])
            .event(ROLE);
    }
    Reply::head(200, &[("content-type", "application/json"), ("x-bad", "1")])
        .bytes(r#"{"choices":[{"message":{"content":"bad"#)
}

type Fault = fn(&Received) -> Reply;

/// Every fault before the first content.
const FAULTS: [(&str, Fault); 15] = [
    ("closes", |_| Reply::closed()),
    ("resets", |_| Reply::closed().reset()),
    ("is no server", |_| Reply::raw("SSH-2.0-OpenSSH_9.6\r\n")),
    ("429", |_| error(429)),
    ("500", |_| error(500)),
    ("503", |_| error(503)),
    ("529", |_| error(529)),
    ("silent", |_| Reply::stalled()),
    ("head only", |request| {
        if request.wants_stream() { Reply::sse().stall() } else { Reply::head(200, &[]).stall() }
    }),
    ("begun and silent", |request| begun(request).stall()),
    ("begun and closed", |request| begun(request).then_close()),
    ("begun and reset", |request| begun(request).wait(Duration::from_millis(5)).reset()),
    ("an error in a 200", |request| match request.wants_stream() {
        true => Reply::sse().event(ERROR).end(),
        false => Reply::whole(200, &[("content-type", "application/json"), ("x-bad", "1")], ERROR),
    }),
    ("an error after the role", |request| match request.wants_stream() {
        true => begun(request).event(ERROR).event("[DONE]").end(),
        false => error(502),
    }),
    ("ends without a word", |request| match request.wants_stream() {
        true => begun(request).end(),
        false => begun(request).then_close(),
    }),
];

/// Returns a call of every surface.
pub(crate) fn calls() -> Vec<(&'static str, &'static str, Value)> {
    let message = |stream: bool| json!({"model": "m", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    let prompt = |stream: bool| json!({"inputs": {"diff": "-a\n+b"}, "prompt_version": "^1.0.0", "stream": stream});
    let chat_v1 = |stream: bool| json!({"prompt_components": [{"payload": {"content": "Hello"}}], "stream": stream});
    let agent = json!({"messages": [{"role": "user", "content": "Hello"}], "model_metadata": null});
    let code = crate::code_suggestions::v2("import os\n", "");
    let suggest = crate::code_suggestions::components("code_editor_generation", true);
    vec![
        ("openai stream", "/v1/chat/completions", chat_body("m", true)),
        ("openai", "/v1/chat/completions", chat_body("m", false)),
        ("messages stream", "/v1/messages", message(true)),
        ("messages", "/v1/messages", message(false)),
        ("chat agent", "/v2/chat/agent", agent),
        ("chat v1 stream", "/v1/chat/agent", chat_v1(true)),
        ("chat v1", "/v1/chat/agent", chat_v1(false)),
        ("prompt lines", "/v2/prompts/generate_commit_message", prompt(true)),
        ("prompt", "/v1/prompts/generate_commit_message", prompt(false)),
        ("code", "/v2/code/completions", code),
        ("suggestions", "/v4/code/suggestions", suggest),
    ]
}

/// Returns a response's head and body without what differs from request to request: ids and times.
pub(crate) fn steady(answer: &Answer) -> String {
    let text = answer.everything().replace(answer.header("date").unwrap_or("no date"), "");
    let phrase = text.split_inclusive(|char: char| !char.is_ascii_alphanumeric());
    let is_id = |word: &str| word.len() > 9 && word.chars().all(|char| char.is_ascii_hexdigit());
    phrase
        .map(|word| {
            if is_id(word.trim_end_matches(|char: char| !char.is_ascii_alphanumeric())) {
                "id"
            } else {
                word
            }
        })
        .collect()
}

#[tokio::test]
async fn whatever_fails_before_the_first_content_is_answered_by_the_other_replica() {
    let mut running = JoinSet::new();
    for (surface, path, body) in calls() {
        running.spawn(async move {
            let more =
                "retry_budget = 1.0\n[timeouts]\nfirst_byte = \"1500ms\"\nidle = \"1500ms\"\n";
            let (fault, fails) =
                (Arc::new(std::sync::Mutex::new(FAULTS[0].1)), Arc::new(AtomicBool::new(false)));
            let (at, failing) = (Arc::clone(&fault), Arc::clone(&fails));
            let script = move |request: &Received| match failing.swap(false, Ordering::Relaxed) {
                true => at.lock().unwrap()(request),
                false => says(request, "Hello there, you"),
            };
            let pair = Pair::of(script, more).await;
            let good = pair.gateway.post(path, &body).await;
            assert_eq!((good.status(), good.end), (200, End::Proper), "{surface}: {}", good.text());
            let tokens = pair.gateway.line(&good).await["tokens_in"].clone();
            for (name, reply) in FAULTS {
                *fault.lock().unwrap() = reply;
                fails.store(true, Ordering::Relaxed);
                let before = pair.received().len();
                let answer = pair.gateway.post(path, &body).await;
                assert!(!fails.load(Ordering::Relaxed), "{surface}, {name}: the fault was met");
                assert_eq!(steady(&answer), steady(&good), "{surface}, {name}");
                let line = pair.gateway.line(&answer).await;
                assert_eq!(
                    (&line["outcome"], &line["retries"]),
                    (&json!("ok"), &json!(1)),
                    "{surface}, {name}: {line}"
                );
                assert_eq!(line["tokens_in"], tokens, "{surface}, {name}: {line}");
                assert_eq!(pair.received().len(), before + 2, "{surface}, {name}");
            }
            let bodies: Vec<_> =
                pair.received().into_iter().map(|request| (request.path, request.body)).collect();
            assert!(
                bodies.iter().all(|body| *body == bodies[0]),
                "{surface}: every attempt sends the same"
            );
            let metrics = pair.gateway.metrics().await;
            assert_eq!(metrics.sum("weir_errors_total", &[]), 0.0, "{surface}");
            assert_eq!(
                metrics.sum("weir_retries_total", &[("model", "m")]),
                FAULTS.len() as f64,
                "{surface}"
            );
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn after_the_first_content_nothing_is_called_again() {
    let pair = Pair::first_fails(|_| Reply::sse().text("one").then_close(), "").await;
    let answer = pair.gateway.chat("m", true).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    assert!(
        answer.text().contains("one") && answer.text().contains("upstream_broken"),
        "{}",
        answer.text()
    );
    assert_eq!(pair.received().len(), 1);
}

#[tokio::test]
async fn what_the_client_did_wrong_is_reported_at_once() {
    let filter = r#"{"error":{"code":"content_filter","message":"no"}}"#;
    for (status, body) in [
        (400, ERROR),
        (400, filter),
        (413, ERROR),
        (422, ERROR),
        (404, ERROR),
        (401, ERROR),
        (501, ERROR),
    ] {
        let pair = Pair::first_fails(move |_| Reply::whole(status, &[], body), "").await;
        let answer = pair.gateway.chat("m", true).await;
        assert_ne!(answer.status(), 200, "{status}");
        assert_eq!(
            pair.received().len(),
            1,
            "{status}: our key, its name and the request are the same at every replica"
        );
    }
}

#[tokio::test]
async fn the_only_replica_is_not_called_twice() {
    for reply in [error(429), error(500), Reply::closed(), begun_stream().then_close()] {
        let upstream = Upstream::always(reply).await;
        let gateway = Gateway::with_model(&upstream, "").await;
        let answer = gateway.chat("m", true).await;
        assert!(matches!(answer.status(), 429 | 502), "{}", answer.text());
        assert_eq!(upstream.requests().len(), 1);
    }
}

fn begun_stream() -> Reply {
    Reply::sse().event(ROLE)
}

#[tokio::test]
async fn when_all_are_busy_the_client_comes_back_when_the_first_says_so() {
    let busy = |seconds: &'static str| {
        move |_: &Received| Reply::whole(429, &[("retry-after", seconds)], ERROR)
    };
    let pair = Pair::of_two(busy("9"), busy("4"), "").await;
    for _ in 0..4 {
        let answer = pair.gateway.chat("m", true).await;
        assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("4")));
        assert_eq!(
            answer.json(),
            serde_json::from_str::<Value>(ERROR).unwrap(),
            "in the server's own words"
        );
    }
}

#[tokio::test]
async fn without_a_budget_errors_pass_and_replicas_that_are_down_are_passed_over() {
    let pair = Pair::first_fails(|_| error(500), "retry_budget = 0\n").await;
    let answer = pair.gateway.chat("m", false).await;
    assert_eq!((answer.status(), pair.received().len()), (502, 1));
    let note = pair.gateway.line(&answer).await["note"].as_str().unwrap().to_owned();
    assert!(note.ends_with("the retry budget is used up"), "{note}");
    pair.replicas[0].kill();
    for _ in 0..20 {
        assert_eq!(
            pair.gateway.chat("m", false).await.status(),
            200,
            "nothing was sent: that costs no budget"
        );
    }
}

#[tokio::test]
async fn retries_are_a_share_of_what_is_called() {
    let pair = Pair::of(|_| error(503), "").await;
    let received = 60;
    for _ in 0..received {
        assert_eq!(pair.gateway.chat("m", false).await.status(), 503);
    }
    let extra = pair.received().len() - received;
    // a burst of 10, a fifth of 60, and what a few seconds add
    assert!((20..=30).contains(&extra), "{extra}");
}

#[tokio::test]
async fn a_stream_that_only_clears_its_throat_is_let_through() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let pings = ": ping\n\n".repeat(9000);
    let reply = begun_stream().bytes(pings).gate(&gate).text("one").done(false);
    let waits = begun_stream().gate(&gate).text("one").done(false);
    let upstream = Upstream::script([reply, waits]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for _ in ["as much as is held back", "as long as it is held back"] {
        let mut client = gateway.open_chat("m", true).await;
        let head = client.head().await;
        client.read_until("assistant").await;
        gate.notify_one();
        let answer = client.body(head, false).await;
        assert!(
            answer.text().contains("one") && answer.text().contains("[DONE]"),
            "{}",
            answer.text()
        );
    }
}

/// Sends requests until it is stopped; every response must be whole. Returns how many there were.
async fn asks(gateway: Arc<Gateway>, stream: bool, until: Instant) -> usize {
    let mut client = Client::connect(gateway.public).await;
    let mut count = 0;
    while Instant::now() < until {
        let answer = client
            .call(
                "POST",
                "/v1/chat/completions",
                &[],
                chat_body("m", stream).to_string().as_bytes(),
            )
            .await;
        assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
        assert!(
            answer.text().contains("Hi") && !answer.text().contains("error"),
            "{}",
            answer.text()
        );
        count += 1;
    }
    count
}

#[tokio::test]
async fn a_replica_killed_under_load_is_noticed_by_nobody() {
    // the text comes in one piece: a stream that has begun cannot be retried
    let script = |request: &Received| {
        let (kind, body) = if request.wants_stream() {
            (
                "text/event-stream",
                "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n",
            )
        } else {
            ("application/json", r#"{"choices":[{"message":{"content":"Hi"}}]}"#)
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Reply::kept("").wait(Duration::from_millis(20)).bytes(format!("{head}{body}"))
    };
    let pair = Pair::of(script, "").await;
    let Pair { replicas, gateway } = pair;
    let (gateway, start) = (Arc::new(gateway), Instant::now());
    let mut running = JoinSet::new();
    for number in 0..24 {
        running.spawn(asks(
            Arc::clone(&gateway),
            number % 2 == 0,
            start + Duration::from_millis(1500),
        ));
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    replicas[0].kill();
    let mut received = 0;
    while let Some(count) = running.join_next().await {
        received += count.unwrap();
    }
    assert!(received > 100, "{received}");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[("outcome", "ok")]), received as f64);
    assert!(metrics.sum("weir_retries_total", &[]) >= 1.0, "there were retries");
}
