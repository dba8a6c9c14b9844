//! Rates that several gateways count together, and what happens while their Redis is unreachable.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::{Eval, Gateway, Redis, Upstream, eventually, one_model, parse};

/// Starts a gateway with these limits, shared through this Redis.
async fn gateway(upstream: &Upstream, limits: &str, redis: std::net::SocketAddr) -> Gateway {
    Gateway::with_model(upstream, &format!("[limits]\n{limits}\nshared = \"redis://{redis}\"\n"))
        .await
}

async fn is_up(gateway: &Gateway) -> bool {
    gateway.metrics().await.sum("weir_shared_limits_up", &[]) == 1.0
}

async fn connected(gateway: &Gateway) {
    eventually("a connection to Redis", async || is_up(gateway).await).await;
}

/// Allows three requests, from whichever gateway; then reports a wait of 6.5 s.
fn three_requests() -> impl Fn(&Eval) -> Option<[u64; 2]> {
    let taken = Mutex::new(0);
    move |eval| {
        let mut taken = taken.lock().unwrap();
        *taken += eval.arguments[2];
        Some(if eval.arguments[2] == 1 && *taken > 3 { [1, 6500] } else { [0, 0] })
    }
}

#[tokio::test]
async fn two_gateways_share_one_rate_and_its_refusals() {
    let (upstream, redis) = (Upstream::says("Hi").await, Redis::start(three_requests()).await);
    let limits = "requests_per_minute = 100\ntokens_per_minute = 1000";
    let one = gateway(&upstream, limits, redis.address).await;
    let other = gateway(&upstream, limits, redis.address).await;
    connected(&one).await;
    connected(&other).await;
    for gateway in [&one, &other, &other] {
        assert_eq!(gateway.chat("m", false).await.status(), 200);
    }
    // on a busy machine a Redis reply may be late, and a request then counts for its gateway alone
    for gateway in [&one, &other] {
        eventually("the refusal that Redis decides", async || {
            let refused = gateway.chat("m", false).await;
            refused.status() == 429 && refused.header("retry-after") == Some("7")
        })
        .await;
    }
    // nine tokens a response, reported with the next request or by themselves
    let reported = || redis.evals().iter().map(|eval| eval.arguments[3]).sum::<u64>();
    eventually("the tokens' charge", async || reported() >= 9).await;
    assert!(
        reported().is_multiple_of(9) && reported() <= 9 * upstream.requests().len() as u64,
        "{}",
        reported()
    );
    let first = &redis.evals()[0];
    assert_eq!(
        (first.key.as_str(), &first.arguments[..2]),
        ("weir:rates:address 127.0.0.1", &[100, 1000][..])
    );
}

#[tokio::test]
async fn while_redis_is_away_each_counts_for_itself_and_it_comes_back() {
    let upstream = Upstream::says("Hi").await;
    let address = Redis::start(|_| None).await.address;
    let gateway = gateway(&upstream, "requests_per_minute = 1", address).await;
    assert_eq!(
        [gateway.chat("m", false).await.status(), gateway.chat("m", false).await.status()],
        [200, 429]
    );
    assert!(!is_up(&gateway).await);
    let redis = Redis::on(address, |_| Some([0, 0])).await;
    connected(&gateway).await;
    eventually("that Redis decides again", async || gateway.chat("m", false).await.status() == 200)
        .await;
    drop(redis);
    eventually("that it is away", async || {
        let _ = gateway.chat("m", false).await;
        !is_up(&gateway).await
    })
    .await;
    assert_eq!(gateway.chat("m", false).await.status(), 429, "as if it had always counted itself");
}

#[tokio::test]
async fn a_redis_that_does_not_answer_holds_a_request_for_a_moment_and_fails_none() {
    let upstream = Upstream::says("Hi").await;
    let redis = Redis::start(|_| None).await;
    let gateway = gateway(&upstream, "requests_per_minute = 100", redis.address).await;
    connected(&gateway).await;
    let since = Instant::now();
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(50) && took < Duration::from_millis(1500), "{took:?}");
    assert!(!redis.evals().is_empty());
    // the connection is given up, and another is made in the background
    connected(&gateway).await;
    assert_eq!(gateway.metrics().await.sum("weir_requests_total", &[("outcome", "ok")]), 1.0);
    gateway.reload(&one_model(&upstream.url()));
    assert!(!gateway.metrics().await.text.contains("weir_shared_limits_up"), "no Redis, no series");
}

#[test]
fn a_url_that_is_none_is_a_fault_and_a_password_is_not_shown() {
    let faults = parse("[limits]\nshared = \"http://h\"\n").unwrap_err().to_string();
    assert!(faults.contains("limits.shared") && faults.contains("redis://host:6379"), "{faults}");
    let faults =
        parse("[limits]\nshared = \"redis://:sk-canary@h:port\"\n").unwrap_err().to_string();
    assert!(faults.contains("limits.shared") && !faults.contains("canary"), "{faults}");
    assert_eq!(parse("[limits]\nshared = \"redis://h\"\n").unwrap().warnings, []);
    let plain = parse("[limits]\nshared = \"redis://:sk-canary@h\"\n").unwrap();
    assert_eq!(plain.warnings.len(), 1, "a secret in plain text");
    assert!(!format!("{plain:?}").contains("canary"));
}
