//! A model's concurrency limit: how many requests at a time, which ones wait for how long and in
//! which order, which ones are shed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use crate::support::{
    Client, Gateway, Received, Reply, Upstream, chat_body, eventually, one_model, says,
};

/// Returns the configuration of one model `m` for everything, with these limits of its own.
fn limited(upstream: &Upstream, limits: &str) -> String {
    one_model(&upstream.url()).replace("[features]", &format!("{limits}\n[features]"))
}

/// Starts a model that responds to one request each time the gate is opened.
async fn gated() -> (Upstream, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let answer = json!({"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hi"}}]});
    let upstream = Upstream::start(move |_| {
        Reply::default().gate(&opened).bytes(whole(&answer.to_string())).then_close()
    })
    .await;
    (upstream, gate)
}

fn whole(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits until this many requests are queued at `m`.
async fn waiting(gateway: &Gateway, count: f64) {
    eventually("the queue", async || {
        gateway.metrics().await.sum("weir_model_waiting", &[("model", "m")]) == count
    })
    .await;
}

async fn status(mut client: Client) -> u16 {
    client.head().await.status
}

#[tokio::test]
async fn no_more_than_max_parallel_and_completions_before_chat_before_jobs() {
    let (upstream, gate) = gated().await;
    let limits = "max_parallel = 1\nmax_queue = 3\nmax_wait = \"9s\"";
    let whole = limited(&upstream, limits);
    let house =
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = Gateway::start_whole(&format!("{house}{whole}")).await;
    let mut clients = vec![gateway.open_chat("m", false).await];
    upstream.received(1).await;
    let others = ["feature/review_merge_request", "feature/duo_chat", "feature/code_completions"];
    for (index_path, model) in others.iter().enumerate() {
        let mut body = chat_body(model, false);
        body["user"] = json!(model);
        let mut client = Client::connect(gateway.public).await;
        client.send("POST", "/v1/chat/completions", &[], body.to_string().as_bytes()).await;
        clients.push(client);
        waiting(&gateway, index_path as f64 + 1.0).await;
    }
    for served in 1..=4 {
        upstream.received(served).await;
        assert_eq!(upstream.requests().len(), served, "one at a time");
        gate.notify_one();
    }
    for client in clients {
        assert_eq!(status(client).await, 200);
    }
    let order: Vec<String> = upstream.requests()[1..]
        .iter()
        .map(|request| request.json()["user"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, [others[2], others[1], others[0]]);
}

#[tokio::test]
async fn beyond_the_models_queue_it_is_503_at_once_and_a_completion_takes_a_jobs_permit() {
    let (upstream, gate) = gated().await;
    let gateway =
        Gateway::start(&limited(&upstream, "max_parallel = 1\nmax_queue = 1\nmax_wait = \"9s\""))
            .await;
    let first = gateway.open_chat("m", false).await;
    upstream.received(1).await;
    let mut job = gateway.open_chat("feature/review_merge_request", false).await;
    waiting(&gateway, 1.0).await;
    let shed = gateway.chat("feature/summarize_review", false).await;
    assert_eq!((shed.status(), shed.header("retry-after")), (503, Some("1")));
    assert!(
        shed.json()["error"]["message"].as_str().unwrap().contains("models.m.max_parallel"),
        "{}",
        shed.text()
    );
    let completion = gateway.open_chat("feature/code_completions", false).await;
    let head = job.head().await;
    let pushed_out = job.body(head, false).await;
    assert_eq!(
        (pushed_out.status(), pushed_out.json()["error"]["code"].as_str()),
        (503, Some("overloaded"))
    );
    let line = gateway.line(&pushed_out).await;
    assert!(line["queue_ms"].as_f64().unwrap() > 0.0 && line["outcome"] == "overload", "{line}");
    gate.notify_one();
    upstream.received(2).await;
    gate.notify_one();
    assert_eq!((status(first).await, status(completion).await), (200, 200));
}

#[tokio::test]
async fn a_wait_is_bounded_and_seen_in_the_log_the_metrics_and_the_status() {
    let (upstream, gate) = gated().await;
    let gateway =
        Gateway::start(&limited(&upstream, "max_parallel = 1\nmax_wait = \"300ms\"")).await;
    let first = gateway.open_chat("m", false).await;
    upstream.received(1).await;
    let waits = gateway.open_chat("m", false).await;
    waiting(&gateway, 1.0).await;
    assert_eq!(gateway.admin("/status").await.json()["models"][0]["waiting"], 1);
    assert_eq!(status(waits).await, 503);
    let late = gateway.chat("m", false).await;
    assert!(late.text().contains("max_wait"), "{}", late.text());
    let line = gateway.line(&late).await;
    let [queued, total] = ["queue_ms", "duration_ms"].map(|key| line[key].as_f64().unwrap());
    assert!(queued >= 300.0 && total >= queued, "{line}");
    assert!(
        line["overhead_us"].as_f64().unwrap() < 1000.0 * (total - queued) + 1000.0,
        "not Weir's own time: {line}"
    );
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_queue_seconds_count", &[("model", "m")]), 2.0);
    assert_eq!(metrics.sum("weir_model_waiting", &[("model", "m")]), 0.0);
    gate.notify_one();
    assert_eq!(status(first).await, 200);
    assert_eq!(upstream.requests().len(), 1, "who was shed was not sent");
}

#[tokio::test]
async fn a_stream_keeps_its_permit_until_it_ends_or_its_client_leaves() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let upstream =
        Upstream::start(move |_| Reply::sse().text("Hi").gate(&opened).done(false)).await;
    let gateway = Gateway::start(&limited(&upstream, "max_parallel = 1\nmax_wait = \"9s\"")).await;
    let mut first = gateway.open_chat("m", true).await;
    first.head().await;
    first.read_until("Hi").await;
    let mut second = gateway.open_chat("m", true).await;
    waiting(&gateway, 1.0).await;
    assert_eq!(upstream.requests().len(), 1, "its head is sent, its permit is not released");
    gate.notify_one();
    first.read_until("[DONE]").await;
    second.head().await;
    let left = gateway.open_chat("m", true).await;
    waiting(&gateway, 1.0).await;
    drop(left);
    waiting(&gateway, 0.0).await;
    let third = gateway.open_chat("m", true).await;
    waiting(&gateway, 1.0).await;
    drop(second);
    assert_eq!(status(third).await, 200);
    assert_eq!(upstream.requests().len(), 3, "who left the queue was not sent");
}

#[tokio::test]
async fn a_reload_lets_those_in_who_wait() {
    let (upstream, gate) = gated().await;
    let gateway = Gateway::start(&limited(&upstream, "max_parallel = 1\nmax_wait = \"9s\"")).await;
    let clients = [gateway.open_chat("m", false).await, gateway.open_chat("m", false).await];
    upstream.received(1).await;
    waiting(&gateway, 1.0).await;
    gateway.reload(&limited(&upstream, "max_parallel = 2"));
    upstream.received(2).await;
    gate.notify_waiters();
    for client in clients {
        assert_eq!(status(client).await, 200);
    }
}

#[tokio::test]
async fn an_attempt_that_fails_keeps_its_permit_for_the_next() {
    for (path, stream) in
        [("/v1/chat/completions", true), ("/v1/messages", true), ("/v1/messages", false)]
    {
        let gate = Arc::new(Notify::new());
        let (opened, turns) = (Arc::clone(&gate), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&turns);
        let script = move |request: &Received| {
            let mut turns = seen.lock().unwrap();
            turns.push(if request.text().contains("first") { "first" } else { "second" });
            match (turns.len(), stream) {
                (1, true) => Reply::sse()
                    .gate(&opened)
                    .event(r#"{"error":{"message":"out of memory"}}"#)
                    .end(),
                (1, false) => Reply::head(200, &[]).bytes("{").gate(&opened).then_close(),
                _ => says(request, "Hi"),
            }
        };
        let (script, mut upstreams) = (Arc::new(script), Vec::new());
        for _ in 0..2 {
            let script = Arc::clone(&script);
            upstreams.push(Upstream::start(move |request| script(request)).await);
        }
        let endpoints =
            format!("endpoints = [\"{}\", \"{}\"]", upstreams[0].url(), upstreams[1].url());
        let file = format!(
            "[models.m]\n{endpoints}\nmax_parallel = 1\nmax_queue = 1\nmax_wait = \"9s\"\n"
        );
        let gateway = Gateway::start(&file).await;
        let mut clients = Vec::new();
        for who in ["first", "second"] {
            let mut body = chat_body("m", stream);
            (body["max_tokens"], body["messages"][0]["content"]) = (json!(9), json!(who));
            let mut client = Client::connect(gateway.public).await;
            client.send("POST", path, &[], body.to_string().as_bytes()).await;
            clients.push(client);
            eventually("the first is there", async || !turns.lock().unwrap().is_empty()).await;
        }
        waiting(&gateway, 1.0).await;
        gate.notify_one();
        for client in &mut clients {
            let head = client.head().await;
            let answer = client.body(head, false).await;
            assert!(
                answer.status() == 200 && answer.text().contains("Hi"),
                "{path} {stream}: {}",
                answer.text()
            );
        }
        assert_eq!(
            *turns.lock().unwrap(),
            ["first", "first", "second"],
            "{path} {stream}: nobody is let in between"
        );
    }
}

#[tokio::test]
async fn a_wait_at_a_fallback_is_no_time_at_a_model_server() {
    let (upstream, gate) = gated().await;
    let down = Upstream::always(Reply::closed()).await;
    let (one, two) = (down.url(), upstream.url());
    let file = format!(
        "[models.one]\nendpoint = \"{one}\"\n[models.m]\nendpoint = \"{two}\"\nmax_parallel = 1\nmax_wait = \"9s\"\n\
         [features]\ndefault = {{ model = \"one\", fallback = [\"m\"] }}\n"
    );
    let gateway = Gateway::start(&file).await;
    let first = gateway.open_chat("m", false).await;
    upstream.received(1).await;
    let mut second = gateway.open_chat("feature/duo_chat", false).await;
    waiting(&gateway, 1.0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.notify_one();
    upstream.received(2).await;
    gate.notify_one();
    assert_eq!(status(first).await, 200);
    let head = second.head().await;
    let answer = second.body(head, false).await;
    let line = gateway.line(&answer).await;
    let [queued, upstream, total] =
        ["queue_ms", "upstream_ms", "duration_ms"].map(|key| line[key].as_f64().unwrap());
    assert!(line["model"] == "m" && queued >= 100.0 && queued + upstream <= total + 0.1, "{line}");
}

/// Open loop: requests come at twice the rate at which the model can respond, whatever their
/// outcome.
#[tokio::test]
async fn at_twice_what_a_model_bears_it_is_kept_busy_and_the_rest_is_reported_at_once() {
    const PARALLEL: usize = 16;
    const SERVICE: Duration = Duration::from_millis(400);
    const ROUNDS: usize = 5;
    let reply = whole(r#"{"id": "c", "object": "chat.completion", "choices": []}"#);
    let upstream =
        Upstream::start(move |_| Reply::default().wait(SERVICE).bytes(reply.clone())).await;
    let limits = format!("max_parallel = {PARALLEL}\nmax_queue = {PARALLEL}\nmax_wait = \"9s\"");
    let gateway = Gateway::start(&limited(&upstream, &limits)).await;
    let (body, public, began) = (chat_body("m", false).to_string(), gateway.public, Instant::now());
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..2 * PARALLEL * ROUNDS {
        let (body, at) =
            (body.clone(), began + SERVICE.mul_f64(number as f64 / (2 * PARALLEL) as f64));
        calls.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let answer = Client::connect(public)
                .await
                .call("POST", "/v1/chat/completions", &[], body.as_bytes())
                .await;
            (answer, began.elapsed())
        });
    }
    let answers = calls.join_all().await;
    let (done, shed): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(answer, _)| answer.status() == 200);
    // the first response comes after one round
    let in_time = done.iter().filter(|(_, at)| *at <= SERVICE * (ROUNDS as u32 + 1)).count();
    assert!(
        10 * in_time >= 9 * PARALLEL * ROUNDS,
        "{in_time} of {} that the model can answer",
        PARALLEL * ROUNDS
    );
    assert!(shed.len() > PARALLEL, "{} shed", shed.len());
    assert!(
        shed.iter()
            .all(|(answer, _)| answer.status() == 503 && answer.header("retry-after").is_some())
    );
    eventually("every line of the log", async || {
        gateway.log.text().lines().count() >= done.len() + shed.len()
    })
    .await;
    let lines = gateway.log.lines();
    let lines = lines.iter().filter(|line| line["outcome"] == "overload");
    let mut own: Vec<f64> = lines.map(|line| line["duration_ms"].as_f64().unwrap()).collect();
    own.sort_by(f64::total_cmp);
    assert!(own[own.len() / 2] < 2.0, "half of those shed within 2 ms: {own:?}");
}
