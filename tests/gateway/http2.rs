//! HTTP/2 on the public port: many responses on one connection, each with its own timeouts,
//! failures and end; a client that closes a stream or the connection cancels its requests at once;
//! a drain sends GOAWAY.

use std::sync::Arc;
use std::time::{Duration, Instant};

use h2::Reason;
use tokio::sync::Notify;

use crate::support::upstream::{begun, says};
use crate::support::{
    Answer, Authority, Client, End, Exchange, Folder, Gateway, Hello, Http2, Process, Reply,
    Surface, Upstream, chat_body, eventually, one_model, resilient_file, secure, surfaces,
};

const CHAT: &str = "/v1/chat/completions";
/// A hundred times the goal, for a busy machine. Without cancellation it would be 60 s.
const AT_ONCE: Duration = Duration::from_millis(500);
const WINDOW: u32 = 65_535;

fn body(stream: bool) -> Vec<u8> {
    chat_body("m", stream).to_string().into_bytes()
}

/// RFC 9113 §8.2.2
fn has_no_header_of_http_1(answer: &Answer) -> bool {
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
        .iter()
        .all(|name| answer.header(name).is_none())
}

#[tokio::test]
async fn one_connection_carries_many_answers_at_once() {
    let gate = Arc::new(Notify::new());
    let opens = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| match request.wants_stream() {
        true => Reply::sse().text("one").gate(&opens).text("two").done(true),
        false => says(request, "whole"),
    })
    .await;
    let gateway = Gateway::with_model(&upstream, "[limits]\nconnections_per_client = 1\n").await;
    let client = Http2::connect(gateway.public).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut exchange = client.send("POST", CHAT, &[], &body(true)).await;
        let head = exchange.head().await.unwrap();
        exchange.read_until("one").await;
        streams.push((exchange, head));
    }
    for _ in 0..3 {
        let answer = client.call("POST", CHAT, &[("x-request-id", "whole")], &body(false)).await;
        assert_eq!((answer.status(), answer.end), (200, End::Proper));
        assert_eq!(answer.header("content-length").unwrap(), answer.body.len().to_string());
        assert_eq!(answer.header("x-request-id"), Some("whole"));
        assert!(answer.text().contains("whole") && has_no_header_of_http_1(&answer), "{answer:?}");
    }
    for (mut exchange, head) in streams {
        gate.notify_one();
        let answer = exchange.rest(head).await;
        assert!(
            answer.text().ends_with("data: [DONE]\n\n") && answer.end == End::Proper,
            "{}",
            answer.text()
        );
        assert!(has_no_header_of_http_1(&answer), "{answer:?}");
    }
    for (method, path, status) in
        [("GET", "/monitoring/healthz", 200), ("HEAD", "/", 200), ("GET", "/nowhere", 404)]
    {
        let answer = client.call(method, path, &[], b"").await;
        assert_eq!((answer.status(), answer.end), (status, End::Proper), "{method} {path}");
        assert_eq!(answer.body.is_empty(), method == "HEAD");
    }
    assert_eq!(
        gateway.metrics().await.sum("weir_requests_total", &[("outcome", "ok"), ("model", "m")]),
        23.0
    );
}

#[tokio::test]
async fn every_call_answers_as_it_does_over_http_1_1() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let client = Http2::connect(gateway.public).await;
    for surface in surfaces() {
        let headers = [("x-request-id", "same"), ("content-type", "application/json")];
        let new = client.call("POST", surface.path, &headers, &surface.bytes()).await;
        let old = gateway.call("POST", surface.path, &headers[..1], &surface.bytes()).await;
        assert_eq!((new.status(), new.end), (old.status(), old.end), "{}", surface.name);
        assert_eq!(new.header("content-type"), old.header("content-type"), "{}", surface.name);
        assert_eq!(new.body.is_empty(), old.body.is_empty(), "{}", surface.name);
    }
}

#[tokio::test]
async fn tls_offers_both_and_serves_both() {
    let (authority, upstream) = (Authority::new(), Upstream::says("Hi").await);
    let folder = Folder::new("http2-tls");
    let pair = authority.issue("weir.test");
    let (cert, key) = (folder.write("tls.crt", &pair.cert), folder.write("tls.key", &pair.key));
    let file =
        format!("{}[server.tls]\ncert = {cert:?}\nkey = {key:?}\n", one_model(&upstream.url()));
    let gateway = Gateway::start(&file).await;
    let hello = |alpn| Hello { alpn, ..Hello::trusting(&authority) };
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1", "h2"], &["h2"]] {
        let stream = secure(gateway.public, hello(alpn)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = Http2::over(stream, WINDOW).await;
        for stream in [true, false, true] {
            let answer = client.call("POST", CHAT, &[], &body(stream)).await;
            assert_eq!((answer.status(), answer.end), (200, End::Proper));
            assert!(answer.text().contains("Hi"), "{}", answer.text());
        }
    }
    for alpn in [&["http/1.1"][..], &[]] {
        let mut client = Client::over(secure(gateway.public, hello(alpn)).await.unwrap());
        for stream in [true, false] {
            let answer = client.call("POST", CHAT, &[], &body(stream)).await;
            assert_eq!((answer.status(), answer.end), (200, End::Proper));
        }
    }
}

#[tokio::test]
async fn large_bodies_and_answers_arrive_whole() {
    let long = "x".repeat(2 << 20);
    let reply = serde_json::json!({"choices": [{"message": {"content": long}}]});
    let upstream = Upstream::always(Reply::json(200, &reply)).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let client = Http2::connect(gateway.public).await;
    let mut request = chat_body("m", false);
    request["messages"][0]["content"] = long.as_str().into();
    let answer = client.call("POST", CHAT, &[], request.to_string().as_bytes()).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    assert_eq!(answer.json(), reply);
    assert_eq!(upstream.only_request().json()["messages"], request["messages"]);
}

#[tokio::test]
async fn an_expiry_is_a1000_before_the_head_and_after_it() {
    let upstream = Upstream::start(|request| match request.text().contains("begin") {
        true => Reply::sse().text("one").stall(),
        false => Reply::stalled(),
    })
    .await;
    let limits = "[timeouts]\nfirst_byte = \"150ms\"\nidle = \"150ms\"\n";
    let gateway = Gateway::with_model(&upstream, limits).await;
    let client = Http2::connect(gateway.public).await;
    let answer = client.call("POST", CHAT, &[], &body(true)).await;
    assert_eq!(
        (answer.status(), answer.header("x-weir-error"), answer.end),
        (504, Some("A1000"), End::Proper)
    );
    let begins = chat_body("m", true).to_string().replace("Hello", "begin");
    let answer = client.call("POST", CHAT, &[], begins.as_bytes()).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    assert!(answer.events().last().unwrap().contains("A1000") && !answer.text().contains("[DONE]"));
    assert_eq!(gateway.line(&answer).await["error_code"], "A1000");
    upstream.closed(0).await;
    upstream.closed(1).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_without_a_word_is_a_reset_and_no_end() {
    let gate = Arc::new(Notify::new());
    let opens = Arc::clone(&gate);
    // what the reset must not overtake arrives in the same read
    let upstream = Upstream::start(move |request| match request.text().contains("Wait") {
        true => Reply::sse().text("one").gate(&opens).text("two").done(true),
        false => Reply::sse().text("one").wait(Duration::from_millis(20)).text("two").then_close(),
    })
    .await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let client = Http2::connect(gateway.public).await;
    let surfaces = surfaces();
    let raw = surfaces.iter().find(|surface| surface.name == "chat v1 (Text)").unwrap();
    let waits = raw.body.to_string().replace("Hello", "Wait");
    let mut other = client.send("POST", raw.path, &[], waits.as_bytes()).await;
    let head = other.head().await.unwrap();
    other.read_until("one").await;
    for _ in 0..10 {
        let answer = client.call("POST", raw.path, &[], &raw.bytes()).await;
        let reset = End::Reset(Reason::INTERNAL_ERROR);
        assert_eq!((answer.status(), answer.text(), answer.end), (200, "onetwo", reset));
        assert_eq!(gateway.line(&answer).await["error_code"], "upstream_broken");
    }
    gate.notify_one();
    let answer = other.rest(head).await;
    assert_eq!((answer.text(), answer.end), ("two", End::Proper), "the others go on");
}

/// How far an exchange has come, and what its client closes.
#[derive(Clone, Copy, Debug)]
struct Parting {
    midway: bool,
    connection: bool,
}

/// Closes it; returns how soon the model server's connection closed.
async fn leave(
    client: Http2,
    upstream: &Upstream,
    surface: &Surface,
    parting: Parting,
    id: &str,
) -> Duration {
    let mut exchange =
        client.send("POST", surface.path, &[("x-request-id", id)], &surface.bytes()).await;
    let connection = upstream.connection_of(id).await;
    match (parting.midway, surface.is_gathered()) {
        (false, _) => {}
        (true, true) => tokio::time::sleep(Duration::from_millis(2)).await,
        (true, false) => {
            assert_eq!(exchange.head().await.unwrap().status, 200, "{}", surface.name);
            exchange.chunk().await.unwrap_or_else(|reason| panic!("{}: {reason:?}", surface.name));
        }
    }
    let left = Instant::now();
    if parting.connection {
        drop(client)
    } else {
        drop(exchange)
    }
    upstream.closed(connection).await.saturating_duration_since(left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stream_and_a_closed_connection_cancel_the_model_server_at_once() {
    let mut took = Vec::new();
    for midway in [false, true] {
        let reply = move |request: &crate::support::Received| {
            if midway { begun(request).stall() } else { Reply::stalled() }
        };
        let upstream = Upstream::start(reply).await;
        let gateway = Gateway::with_model(&upstream, "[chat]\nheartbeat = \"10ms\"\n").await;
        let mut count = 0;
        for connection in [false, true] {
            for (index, surface) in surfaces().iter().enumerate() {
                let id = format!("{connection}-{index}");
                let client = Http2::connect(gateway.public).await;
                let parting = Parting { midway, connection };
                took.push((
                    leave(client, &upstream, surface, parting, &id).await,
                    surface.name.clone(),
                    parting,
                ));
                count += 1;
            }
        }
        gateway.in_flight(0.0).await;
        gateway.all_cancelled(count).await;
        assert_eq!(upstream.requests().len(), count, "a cancelled request is not sent again");
    }
    took.sort_by_key(|(time, _, _)| *time);
    let p99 = &took[took.len() * 99 / 100];
    println!("{} partings: median {:?}, p99 {:?}", took.len(), took[took.len() / 2].0, p99.0);
    assert!(p99.0 < AT_ONCE, "{p99:?}, at most {:?}", took.last());
}

#[tokio::test]
async fn a_reset_concerns_its_own_stream_and_a_lost_connection_all_of_them() {
    let upstream = Upstream::always(Reply::sse().text("one").stall()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let client = Http2::connect(gateway.public).await;
    let mut streams: Vec<Exchange> = Vec::new();
    for id in ["0", "1", "2", "3"] {
        let mut exchange = client.send("POST", CHAT, &[("x-request-id", id)], &body(true)).await;
        exchange.head().await.unwrap();
        exchange.read_until("one").await;
        streams.push(exchange);
    }
    drop(streams.remove(1));
    upstream.closed(upstream.connection_of("1").await).await;
    gateway.in_flight(3.0).await;
    let left = Instant::now();
    drop(client);
    for id in ["0", "2", "3"] {
        let closed = upstream.closed(upstream.connection_of(id).await).await;
        assert!(closed.saturating_duration_since(left) < AT_ONCE);
    }
    gateway.in_flight(0.0).await;
    gateway.all_cancelled(4).await;
}

#[tokio::test]
async fn a_slot_in_the_queue_and_half_a_request_are_given_up_at_once() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let limits = "[limits]\nin_flight = 1\nqueue = 1\nqueue_wait = \"60s\"\n";
    let gateway = Gateway::with_model(&upstream, limits).await;
    let client = Http2::connect(gateway.public).await;
    let occupant = client.send("POST", CHAT, &[], &body(false)).await;
    upstream.received(1).await;
    for _ in 0..3 {
        let waits = client.send("POST", CHAT, &[], &body(false)).await;
        gateway.in_flight(2.0).await;
        drop(waits);
        gateway.in_flight(1.0).await;
    }
    drop(occupant);
    gateway.in_flight(0.0).await;
    for stream_only in [true, false] {
        let client = Http2::connect(gateway.public).await;
        let mut half = client.open("POST", CHAT, &[("content-length", "100")]).await.unwrap();
        half.request.send_data("{".into(), false).unwrap();
        gateway.in_flight(1.0).await;
        if stream_only {
            drop(half)
        } else {
            drop(client)
        }
        gateway.in_flight(0.0).await;
    }
    gateway.all_cancelled(6).await;
    assert_eq!(upstream.requests().len(), 1, "who waited was sent to nobody");
}

#[tokio::test]
async fn a_drain_says_goodbye_and_what_runs_may_end() {
    let gate = Arc::new(Notify::new());
    let upstream =
        Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let folder = Folder::new("http2-drain");
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, "drain = \"30s\"")).await;
    let (mut unused, mut client) =
        (Http2::connect(weir.public).await, Http2::connect(weir.public).await);
    let mut running = client.send("POST", CHAT, &[], &body(true)).await;
    let head = running.head().await.unwrap();
    running.read_until("one").await;
    weir.signal("TERM");
    eventually("the goodbye", async || client.gets_goaway().await).await;
    assert!(unused.ended().await.is_ok(), "a connection without requests is not waited for");
    gate.notify_one();
    let answer = running.rest(head).await;
    assert!(answer.text().contains("[DONE]") && answer.end == End::Proper, "{}", answer.text());
    assert!(client.ended().await.is_ok());
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn what_runs_beyond_the_drain_gets_an_error_and_who_takes_nothing_is_cut() {
    let upstream = Upstream::start(|request| begun(request).stall()).await;
    let folder = Folder::new("http2-drain-limit");
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, "drain = \"300ms\"")).await;
    let (client, stuck) =
        (Http2::connect(weir.public).await, Http2::with_window(weir.public, 0).await);
    let mut running = Vec::new();
    for surface in surfaces() {
        let mut exchange = client.send("POST", surface.path, &[], &surface.bytes()).await;
        let head = if surface.is_gathered() { None } else { Some(exchange.head().await.unwrap()) };
        running.push((surface, exchange, head));
    }
    let mut deaf = stuck.send("POST", CHAT, &[("x-request-id", "deaf")], &body(true)).await;
    assert_eq!(deaf.head().await.unwrap().status, 200);
    upstream.received(running.len() + 1).await;
    weir.signal("TERM");
    for (surface, mut exchange, head) in running {
        let head = match head {
            Some(head) => head,
            None => exchange.head().await.unwrap(),
        };
        let mut answer = exchange.rest(head).await;
        if answer.end == End::Reset(Reason::INTERNAL_ERROR) {
            answer.end = End::Cut;
        }
        assert!(surface.tells_after(&answer), "{}: {answer:?}", surface.name);
    }
    assert!(weir.ended().await.success(), "a drain that ran out is a drain");
    for connection in 0..upstream.connections() {
        upstream.closed(connection).await;
    }
    let output = weir.output();
    let mut lines =
        output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines
        .find(|line| line["request_id"] == "deaf" && !line["outcome"].is_null())
        .expect("a line");
    assert_eq!(
        (&line["outcome"], &line["error_code"]),
        (&"overload".into(), &"draining".into()),
        "{line}"
    );
}

#[tokio::test]
async fn during_the_delay_whoever_comes_may_ask() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("http2-delay");
    let mut weir = Process::serve(&resilient_file(
        &folder,
        &upstream,
        "drain = \"10s\"\ndrain_delay = \"2s\"",
    ))
    .await;
    weir.signal("TERM");
    eventually("not ready at once", async || weir.admin("/ready").await.status() == 503).await;
    let mut client = Http2::connect(weir.public).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.call("POST", CHAT, &[], &body(false)).await.status(), 200);
    eventually("then the goodbye", async || client.gets_goaway().await).await;
    assert!(client.ended().await.is_ok());
    assert!(weir.ended().await.success());
}
