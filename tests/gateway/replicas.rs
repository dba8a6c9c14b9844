//! Replicas that fail, report that they are full, or recover: which of them receive the requests
//! then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::upstream::says;
use crate::support::{Client, Gateway, Reply, Upstream, chat_body, eventually};

/// Short times, so that a test sees every state.
const BREAKER: &str =
    "[resilience.breaker]\nopen = \"300ms\"\nopen_max = \"1s\"\nslow_start = \"500ms\"\n";

fn file(replicas: &[&Upstream], more: &str) -> String {
    let urls: Vec<String> =
        replicas.iter().map(|upstream| format!("{:?}", upstream.url())).collect();
    format!("[models.m]\nendpoints = [{}]\n{more}", urls.join(", "))
}

fn fault() -> Reply {
    Reply::json(500, &json!({"error": {"message": "out of memory"}}))
}

/// Sends one request after the other for this time; returns how many got 200, and how many there
/// were.
async fn ask_for(gateway: &Gateway, time: Duration) -> (usize, usize) {
    let (mut client, began) = (Client::connect(gateway.public).await, Instant::now());
    let (mut good, mut all) = (0, 0);
    while began.elapsed() < time {
        let body = chat_body("m", false).to_string();
        let answer = client.call("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
        good += usize::from(answer.status() == 200);
        all += 1;
    }
    (good, all)
}

async fn endpoint(gateway: &Gateway, upstream: &Upstream) -> Value {
    let status = gateway.admin("/status").await.json();
    let endpoints = status["models"][0]["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["url"] == upstream.url()).unwrap().clone()
}

#[tokio::test]
async fn a_replica_that_fails_now_and_then_is_left_alone_and_a_sound_one_is_not() {
    let turn = AtomicUsize::new(0);
    let flip_flop = Upstream::start(move |request| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        if turn % 4 < 2 { fault() } else { says(request, "Hi") }
    })
    .await;
    let (one, two) = (Upstream::says("Hi").await, Upstream::says("Hi").await);
    let gateway = Gateway::start(&file(&[&one, &flip_flop, &two], "")).await;
    ask_for(&gateway, Duration::from_secs(1)).await;
    let before = flip_flop.requests().len();
    let (_, received) = ask_for(&gateway, Duration::from_secs(2)).await;
    let got = flip_flop.requests().len() - before;
    assert!(got * 50 <= received, "{got} of {received} requests");
    let state = |upstream: &Upstream| format!("{}", upstream.address);
    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.sum("weir_breaker_state", &[("model", "m"), ("endpoint", &state(&one))]),
        0.0
    );
    assert_eq!(
        metrics.sum("weir_breaker_state", &[("model", "m"), ("endpoint", &state(&flip_flop))]),
        2.0
    );
    assert_eq!(
        metrics.sum("weir_upstream_healthy", &[("model", "m")]),
        3.0,
        "all of them are there"
    );
    let status = endpoint(&gateway, &flip_flop).await;
    assert_eq!(
        (&status["breaker"], &status["healthy"]),
        (&json!("open"), &json!(true)),
        "{status}"
    );
    let failure = status["failure"].as_str().unwrap();
    assert!(failure.contains("failed") && failure.contains("HTTP 500"), "{failure}");
}

#[tokio::test]
async fn a_replica_that_is_well_again_is_called_again_within_two_seconds() {
    let sick = Arc::new(AtomicBool::new(true));
    let is_sick = Arc::clone(&sick);
    let patient = Upstream::start(move |request| {
        if is_sick.load(Ordering::Relaxed) { fault() } else { says(request, "Hi") }
    })
    .await;
    let sound = Upstream::says("Hi").await;
    let gateway = Gateway::start(&file(&[&patient, &sound], BREAKER)).await;
    ask_for(&gateway, Duration::from_secs(1)).await;
    assert_ne!(endpoint(&gateway, &patient).await["breaker"], "closed");
    sick.store(false, Ordering::Relaxed);
    let before = patient.requests().len();
    ask_for(&gateway, Duration::from_secs(2)).await;
    // how much it gets depends on its latency, which a busy machine raises: the unit tests of load
    // balancing cover that
    assert!(patient.requests().len() > before);
    assert_eq!(endpoint(&gateway, &patient).await["breaker"], "closed");
    let (good, received) = ask_for(&gateway, Duration::from_millis(300)).await;
    assert_eq!(good, received);
}

#[tokio::test]
async fn one_request_at_a_time_sees_whether_a_replica_is_back() {
    let hangs = Arc::new(AtomicBool::new(false));
    let is_hanging = Arc::clone(&hangs);
    let patient = Upstream::start(move |_| {
        if is_hanging.load(Ordering::Relaxed) { Reply::stalled() } else { fault() }
    })
    .await;
    let sound = Upstream::says("Hi").await;
    let breaker = "[resilience.breaker]\nfailures = 1\nopen = \"1s\"\n";
    let gateway = Gateway::start(&file(&[&patient, &sound], breaker)).await;
    while patient.requests().is_empty() {
        gateway.chat("m", false).await;
    }
    hangs.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(gateway.open_chat("m", false).await);
    }
    eventually("the others are answered", async || sound.requests().len() >= 9).await;
    assert_eq!(patient.requests().len(), 2, "the one that failed and the one that sees");
    assert_eq!(endpoint(&gateway, &patient).await["breaker"], "half_open");
}

#[tokio::test]
async fn what_a_client_did_wrong_is_held_against_no_replica() {
    let refuses = Reply::json(400, &json!({"error": {"message": "context length exceeded"}}));
    let (one, two) = (Upstream::always(refuses.clone()).await, Upstream::always(refuses).await);
    let gateway = Gateway::start(&file(&[&one, &two], "")).await;
    for _ in 0..30 {
        assert_eq!(gateway.chat("m", false).await.status(), 400);
    }
    assert_eq!(gateway.metrics().await.sum("weir_breaker_state", &[]), 0.0);
    assert!(one.requests().len() > 5 && two.requests().len() > 5);
}

#[tokio::test]
async fn a_replica_that_says_when_to_come_back_is_passed_over_until_then_and_has_not_failed() {
    let full = [("retry-after", "1"), ("content-type", "application/json")];
    let full = Reply::whole(429, &full, r#"{"error":{"message":"slow down"}}"#);
    let (limited, sound) = (Upstream::always(full).await, Upstream::says("Hi").await);
    let gateway = Gateway::start(&file(&[&limited, &sound], "")).await;
    while limited.requests().is_empty() {
        gateway.chat("m", false).await;
    }
    let (good, received) = ask_for(&gateway, Duration::from_millis(500)).await;
    assert_eq!((good, limited.requests().len()), (received, 1));
    assert_eq!(gateway.metrics().await.sum("weir_breaker_state", &[]), 0.0);
    tokio::time::sleep(Duration::from_millis(600)).await;
    ask_for(&gateway, Duration::from_millis(300)).await;
    assert_eq!(
        limited.requests().len(),
        2,
        "probed when its Retry-After was over, then avoided again"
    );
}

#[tokio::test]
async fn replicas_that_all_fail_are_all_called() {
    let replicas = [
        Upstream::always(fault()).await,
        Upstream::always(fault()).await,
        Upstream::always(fault()).await,
    ];
    let gateway = Gateway::start(&file(&[&replicas[0], &replicas[1], &replicas[2]], "")).await;
    let (good, received) = ask_for(&gateway, Duration::from_secs(1)).await;
    assert_eq!(good, 0);
    let counts = replicas.each_ref().map(|upstream| upstream.requests().len());
    assert!(counts.iter().all(|count| count * 5 > received), "{counts:?} of {received}");
}

/// Short times for health checks.
const CHECKS: &str = "[resilience.health_check]\nevery = \"200ms\"\ntimeout = \"100ms\"\n";

#[tokio::test]
async fn a_replica_that_hangs_is_found_by_its_health_check_and_comes_back_by_it() {
    let sick = Arc::new(AtomicBool::new(true));
    let is_sick = Arc::clone(&sick);
    let patient =
        Upstream::start(move |request| match (&*request.path, is_sick.load(Ordering::Relaxed)) {
            (_, true) => Reply::stalled(),
            ("/v1/models", false) => Reply::json(404, &json!({})),
            _ => says(request, "Hi"),
        })
        .await;
    let sound = Upstream::start(|request| match &*request.path {
        "/v1/models" => Reply::json(200, &json!({"object": "list", "data": []})),
        _ => says(request, "Hi"),
    })
    .await;
    let more =
        format!("api_key = \"sk-m\"\n{CHECKS}[resilience.breaker]\nslow_start = \"100ms\"\n");
    let gateway = Gateway::start(&file(&[&patient, &sound], &more)).await;
    eventually("it is passed over", async || {
        endpoint(&gateway, &patient).await["healthy"] == false
    })
    .await;
    let status = endpoint(&gateway, &patient).await;
    assert_eq!(
        (&status["breaker"], &status["failure"]),
        (&json!("open"), &json!("fails its health check"))
    );
    assert!(
        patient
            .requests()
            .iter()
            .all(|request| request.path == "/v1/models" && request.method == "GET")
    );
    assert_eq!(patient.requests()[0].header("authorization"), Some("Bearer sk-m"));
    let (good, received) = ask_for(&gateway, Duration::from_millis(300)).await;
    assert_eq!(good, received, "no client request meets the fault");
    sick.store(false, Ordering::Relaxed);
    eventually("it is back, and 404 is an answer", async || {
        endpoint(&gateway, &patient).await["healthy"] == true
    })
    .await;
    eventually("it gets requests", async || {
        ask_for(&gateway, Duration::from_millis(20)).await;
        patient.requests().iter().any(|request| request.method == "POST")
    })
    .await;
}

#[tokio::test]
async fn a_named_path_is_checked_below_the_root_and_off_is_off() {
    let upstream = Upstream::start(|request| match &*request.path {
        "/health" => Reply::whole(503, &[], ""),
        _ => says(request, "Hi"),
    })
    .await;
    let gateway =
        Gateway::start(&file(&[&upstream], &format!("health_check = \"/health\"\n{CHECKS}"))).await;
    eventually("it is out", async || endpoint(&gateway, &upstream).await["breaker"] == "open")
        .await;
    assert_eq!(
        gateway.chat("m", false).await.status(),
        200,
        "the only replica is used all the same"
    );
    let (one, two) = (Upstream::says("Hi").await, Upstream::says("Hi").await);
    gateway.reload(&file(&[&one, &two], &format!("health_check = \"off\"\n{CHECKS}")));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(one.requests().len() + two.requests().len(), 0);
}

#[tokio::test]
async fn a_server_that_tells_that_others_fill_it_gets_less() {
    let tells = |running: u32| {
        Upstream::start(move |request| match &*request.path {
            "/metrics" => Reply::whole(
                200,
                &[],
                format!("vllm:num_requests_running{{engine=\"0\"}} {running}\n"),
            ),
            _ => says(request, "Hi"),
        })
    };
    let (full, free) = (tells(50).await, tells(0).await);
    let file = file(&[&full, &free], "load = \"vllm\"\nhealth_check = \"off\"\n");
    let gateway = Gateway::start(&file).await;
    full.received(1).await;
    free.received(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    ask_for(&gateway, Duration::from_millis(300)).await;
    let received = |upstream: &Upstream| {
        upstream.requests().iter().filter(|request| request.method == "POST").count()
    };
    assert!(received(&free) > 5 * received(&full), "{} and {}", received(&free), received(&full));
}

#[tokio::test]
async fn requests_that_begin_alike_go_to_one_replica_until_it_has_much_more_to_do() {
    let replicas =
        [Upstream::says("Hi").await, Upstream::says("Hi").await, Upstream::says("Hi").await];
    let list: Vec<&Upstream> = replicas.iter().collect();
    let gateway = Gateway::start(&file(&list, "affinity = true\n")).await;
    let ask = async |who: &str, turn: usize| {
        let question = format!("I am {who}. {}{turn}", "My file is long. ".repeat(200));
        let body = json!({"model": "m", "messages": [{"role": "user", "content": question}]});
        assert_eq!(gateway.post("/v1/chat/completions", &body).await.status(), 200);
    };
    for turn in 0..10 {
        for who in ["Ann", "Bob", "Cem", "Dee", "Eva", "Flo"] {
            ask(who, turn).await;
        }
    }
    let mut received = 0;
    for who in ["Ann", "Bob", "Cem", "Dee", "Eva", "Flo"] {
        let of = |upstream: &Upstream| {
            upstream.requests().iter().filter(|r| r.text().contains(who)).count()
        };
        let counts = replicas.each_ref().map(of);
        assert_eq!(counts.iter().max(), Some(&10), "{who}: {counts:?}");
        received += counts.iter().sum::<usize>();
    }
    assert_eq!(received, 60);
}

#[tokio::test]
async fn many_requests_that_begin_alike_spill_over() {
    let (one, two) =
        (Upstream::always(Reply::stalled()).await, Upstream::always(Reply::stalled()).await);
    let gateway = Gateway::start(&file(&[&one, &two], "affinity = true\n")).await;
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "alike ".repeat(500)}]})
            .to_string();
    let mut clients = Vec::new();
    for count in 1..=12 {
        let mut client = Client::connect(gateway.public).await;
        client.send("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
        clients.push(client);
        eventually("one more", async || one.requests().len() + two.requests().len() == count).await;
    }
    let (more, less) = (
        one.requests().len().max(two.requests().len()),
        one.requests().len().min(two.requests().len()),
    );
    assert!(less >= 3 && more >= 5, "{more} and {less}");
}
