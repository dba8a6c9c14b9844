//! A second attempt at another replica when the first takes longer than most: the tail is cut,
//! within a budget, and the slower attempt is cancelled.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use crate::support::{Answer, Client, Gateway, Received, Reply, Upstream, eventually, says};

const SLOW: Duration = Duration::from_secs(20);

/// Starts two replicas that respond soon, except to a question with "slow" in it: the replica that
/// receives it first responds late.
async fn replicas() -> [Upstream; 2] {
    let heard = Arc::new(Mutex::new(HashSet::new()));
    let script = move |request: &Received| {
        let phrase = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        if phrase.contains("slow") && heard.lock().unwrap().insert(phrase) {
            return Reply::kept("").wait(SLOW);
        }
        says(request, "Hello there")
    };
    let script = Arc::new(script);
    let other = Arc::clone(&script);
    [
        Upstream::start(move |request| script(request)).await,
        Upstream::start(move |request| other(request)).await,
    ]
}

async fn gateway([one, two]: &[Upstream; 2], more: &str) -> Gateway {
    let (one, two) = (one.url(), two.url());
    Gateway::start(&format!("{more}[models.m]\nendpoints = [\"{one}\", \"{two}\"]\n")).await
}

async fn ask(gateway: &Gateway, phrase: &str, stream: bool) -> (Answer, Duration) {
    let body =
        json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": phrase}]});
    let (mut client, started) = (Client::connect(gateway.public).await, Instant::now());
    let answer =
        client.call("POST", "/v1/chat/completions", &[], body.to_string().as_bytes()).await;
    (answer, started.elapsed())
}

fn received(replicas: &[Upstream; 2]) -> usize {
    replicas.iter().map(|upstream| upstream.requests().len()).sum()
}

const ON: &str = "[resilience.hedging]\npercentile = 0.9\n";

#[tokio::test]
async fn the_tail_is_cut_within_the_budget_and_the_loser_is_let_go() {
    let replicas = replicas().await;
    let gateway = gateway(&replicas, ON).await;
    let mut sent = 0;
    for round in 0..2 {
        for number in 0..40 {
            let (answer, _) =
                ask(&gateway, &format!("quick {round} {number}"), number % 2 == 0).await;
            assert_eq!(answer.status(), 200);
        }
        let stream = round == 0;
        let (answer, took) = ask(&gateway, &format!("slow {round}"), stream).await;
        assert!(answer.text().contains("Hello") && took < SLOW / 2, "{took:?}: {}", answer.text());
        if stream {
            assert!(
                answer.text().ends_with("data: [DONE]\n\n"),
                "one clean stream: {}",
                answer.text()
            );
        }
        assert_eq!(gateway.line(&answer).await["retries"], 1, "the second counts");
        sent += 41;
    }
    let extra = received(&replicas) - sent;
    assert!((2..=5).contains(&extra), "{extra} in addition to {sent}");
    eventually("each is answered, and nothing is under way", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("weir_upstream_inflight", &[]) == 0.0
            && metrics.sum("weir_requests_total", &[("outcome", "ok")]) == sent as f64
    })
    .await;
}

#[tokio::test]
async fn without_a_budget_or_where_it_is_off_it_is_the_limit_that_ends_the_wait() {
    const LIMIT: Duration = Duration::from_millis(700);
    for more in ["", "[resilience.hedging]\npercentile = 0.9\nbudget = 0.0\n"] {
        let replicas = replicas().await;
        let gateway =
            gateway(&replicas, &format!("[timeouts]\nfirst_byte = \"{LIMIT:?}\"\n{more}")).await;
        for number in 0..30 {
            assert_eq!(ask(&gateway, &format!("quick {number}"), true).await.0.status(), 200);
        }
        let (answer, took) = ask(&gateway, "slow", true).await;
        assert!(answer.status() == 200 && took >= LIMIT, "{took:?}: {}", answer.text());
    }
}

/// Starts replicas of which the first to receive a slow question waits for the gate.
async fn gated(gate: &Arc<Notify>) -> [Upstream; 2] {
    let heard = Arc::new(Mutex::new(HashSet::new()));
    let gate = Arc::clone(gate);
    let script = move |request: &Received| {
        let phrase = request.text().to_owned();
        match phrase.contains("slow") && heard.lock().unwrap().insert(phrase) {
            true => Reply::sse().gate(&gate).text("late").done(false),
            false => says(request, "Hello there"),
        }
    };
    let script = Arc::new(script);
    let other = Arc::clone(&script);
    [
        Upstream::start(move |request| script(request)).await,
        Upstream::start(move |request| other(request)).await,
    ]
}

/// Starts a gateway with concurrency limits and `priority`, whose model has responded often enough
/// for hedging.
async fn crowded(replicas: &[Upstream; 2], permits: &str) -> Gateway {
    let on = "[resilience.hedging]\npercentile = 0.9\nbudget = 1.0\n";
    let [one, two] = replicas.each_ref().map(Upstream::url);
    let model = format!(
        "[models.m]\nendpoints = [\"{one}\", \"{two}\"]\npriority = true\nhealth_check = \"off\"\n{permits}"
    );
    let gateway = Gateway::start(&format!("{on}{model}\n[features]\ndefault = \"m\"\n")).await;
    for number in 0..30 {
        assert_eq!(ask(&gateway, &format!("quick {number}"), true).await.0.status(), 200);
    }
    gateway
}

#[tokio::test]
async fn a_second_request_waits_for_no_permit_and_pushes_nobody_out() {
    let gate = Arc::new(Notify::new());
    let replicas = gated(&gate).await;
    let gateway = crowded(&replicas, "max_parallel = 1\nmax_queue = 1\nmax_wait = \"9s\"").await;
    let before = received(&replicas);
    let body =
        json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "slow"}]})
            .to_string();
    let mut slow = Client::connect(gateway.public).await;
    slow.send("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
    eventually("the slow one is there", async || received(&replicas) == before + 1).await;
    let mut job = gateway.open_chat("feature/review_merge_request", true).await;
    let waiting =
        async || gateway.metrics().await.sum("weir_model_waiting", &[("model", "m")]) == 1.0;
    eventually("the job waits", waiting).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waiting().await && received(&replicas) == before + 1, "the job waits still, and alone");
    gate.notify_one();
    for (client, phrase) in [(&mut slow, "late"), (&mut job, "Hello")] {
        let head = client.head().await;
        let answer = client.body(head, false).await;
        assert!(answer.status() == 200 && answer.text().contains(phrase), "{}", answer.text());
    }
}

#[tokio::test]
async fn with_room_the_second_goes_with_the_same_priority_and_both_permits_come_back() {
    let gate = Arc::new(Notify::new());
    let replicas = gated(&gate).await;
    let gateway = crowded(&replicas, "max_parallel = 2\nmax_queue = 0").await;
    for number in 0..4 {
        let (answer, _) = ask(&gateway, &format!("slow {number}"), true).await;
        assert!(answer.status() == 200 && answer.text().contains("Hello"), "{}", answer.text());
        let of = format!("slow {number}");
        let both: Vec<Received> = replicas
            .iter()
            .flat_map(Upstream::requests)
            .filter(|r| r.text().contains(&of))
            .collect();
        assert_eq!(both.len(), 2, "{of}");
        assert!(both.iter().all(|request| request.json()["priority"] == 1), "{of}");
    }
}
