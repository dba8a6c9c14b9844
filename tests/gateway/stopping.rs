//! SIGTERM: not ready at once, connections end with a response that announces it, requests beyond
//! the drain deadline get an error, exit 0.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::upstream::begun;
use crate::support::{
    Client, End, Folder, Process, Reply, Upstream, chat_body, eventually, resilient_file, surfaces,
};

const CHAT: &str = "/v1/chat/completions";

fn body(stream: bool) -> String {
    chat_body("m", stream).to_string()
}

#[tokio::test]
async fn a_kept_connection_gets_one_more_answer_that_says_it_is_the_last() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("stopping-kept");
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, "drain = \"10s\"")).await;
    let mut whole = Client::connect(weir.public).await;
    let mut streamed = Client::connect(weir.public).await;
    let mut unused = Client::connect(weir.public).await;
    for (client, stream) in [(&mut whole, false), (&mut streamed, true)] {
        let answer = client.call("POST", CHAT, &[], body(stream).as_bytes()).await;
        assert_eq!((answer.status(), answer.header("connection")), (200, None));
    }
    weir.signal("TERM");
    eventually("the drain", async || weir.output().contains("draining")).await;
    for (client, stream) in [(&mut whole, false), (&mut streamed, true)] {
        let answer = client.call("POST", CHAT, &[], body(stream).as_bytes()).await;
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        assert_eq!(answer.end, End::Proper);
        assert!(client.is_closed().await);
    }
    assert!(unused.is_closed().await, "a connection without requests is not waited for");
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_end_up() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("stopping-idle");
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, "drain = \"60s\"")).await;
    let mut client = Client::connect(weir.public).await;
    client.call("POST", CHAT, &[], body(false).as_bytes()).await;
    weir.signal("TERM");
    // `PATIENCE` is far below the drain
    assert!(client.is_closed().await);
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn during_the_delay_new_connections_are_served_and_redirected_elsewhere() {
    let gate = Arc::new(Notify::new());
    let upstream =
        Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let folder = Folder::new("stopping-delay");
    let mut weir = Process::serve(&resilient_file(
        &folder,
        &upstream,
        "drain = \"10s\"\ndrain_delay = \"2s\"",
    ))
    .await;
    let reported = Instant::now();
    weir.signal("TERM");
    eventually("not ready at once", async || weir.admin("/ready").await.status() == 503).await;
    let mut client = Client::connect(weir.public).await;
    client.send("POST", CHAT, &[], body(true).as_bytes()).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("connection")), (200, Some("close")));
    eventually("nothing new is accepted", async || TcpStream::connect(weir.public).await.is_err())
        .await;
    assert!(reported.elapsed() >= Duration::from_secs(2), "{:?}", reported.elapsed());
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert!(answer.text().contains("[DONE]") && answer.end == End::Proper, "{}", answer.text());
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn connections_that_wait_in_the_kernel_are_served_before_the_port_closes() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("stopping-queue");
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, "drain = \"10s\"")).await;
    // while stopped, it accepts nothing: the kernel alone makes the connections
    weir.signal("STOP");
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(weir.public).await;
        client.send("POST", CHAT, &[], body(false).as_bytes()).await;
        clients.push(client);
    }
    weir.signal("TERM");
    weir.signal("CONT");
    for client in &mut clients {
        let head = client.head().await;
        assert_eq!(client.body(head, false).await.status(), 200);
    }
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn what_runs_beyond_the_limit_gets_an_error_on_every_call() {
    let upstream = Upstream::start(|request| begun(request).stall()).await;
    let folder = Folder::new("stopping-limit");
    let limits = "drain = \"500ms\"\n[chat]\ntools = \"react\"";
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, limits)).await;
    let mut running = Vec::new();
    for (index, surface) in surfaces().into_iter().enumerate() {
        let mut client = Client::connect(weir.public).await;
        let id = format!("running-{index}");
        client.send("POST", surface.path, &[("x-request-id", &id)], &surface.bytes()).await;
        upstream.connection_of(&id).await;
        let head = if surface.is_gathered() { None } else { Some(client.head().await) };
        running.push((id, surface, client, head));
    }
    let reported = Instant::now();
    weir.signal("TERM");
    for (_, surface, client, head) in &mut running {
        let head = match head.take() {
            Some(head) => head,
            None => client.head().await,
        };
        let answer = client.body(head, false).await;
        assert!(surface.tells_after(&answer), "{}: {answer:?}", surface.name);
        if surface.is_gathered() {
            assert_eq!(answer.header("x-weir-error"), Some("draining"), "{}", surface.name);
            assert_eq!(answer.header("retry-after"), Some("1"), "{}", surface.name);
        }
        assert!(client.is_closed().await);
    }
    assert!(weir.ended().await.success(), "a drain that ran out is a drain");
    assert!((500..2_500).contains(&reported.elapsed().as_millis()), "{:?}", reported.elapsed());
    for (id, surface, ..) in &running {
        let line = line(&weir, id);
        assert_eq!(
            (&line["outcome"], &line["error_code"]),
            (&"overload".into(), &"draining".into()),
            "{line}"
        );
        assert_eq!(
            (&line["note"], &line["surface"]),
            (&"resilience.drain is over".into(), &surface.label.into())
        );
        upstream.closed(upstream.connection_of(id).await).await;
    }
}

#[tokio::test]
async fn who_waits_for_a_permit_at_the_end_gets_an_error() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let folder = Folder::new("stopping-waits");
    let limits = "drain = \"300ms\"\n[limits]\nin_flight = 1\nqueue_wait = \"30s\"";
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, limits)).await;
    let mut clients = [Client::connect(weir.public).await, Client::connect(weir.public).await];
    for client in &mut clients {
        client.send("POST", CHAT, &[], body(false).as_bytes()).await;
        upstream.received(1).await;
    }
    weir.signal("TERM");
    for client in &mut clients {
        let head = client.head().await;
        let answer = client.body(head, false).await;
        assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
        assert_eq!(answer.json()["error"]["code"], "draining");
    }
    assert!(weir.ended().await.success());
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn clients_that_do_not_read_are_cut_and_have_not_left() {
    let event = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(64 << 10)
    );
    let upstream = Upstream::start(move |request| match request.wants_stream() {
        true => Reply::sse().forever(event.as_bytes()),
        false => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
            .forever(&[b' '; 64 << 10]),
    })
    .await;
    let folder = Folder::new("stopping-deaf");
    let mut weir = Process::serve(&resilient_file(&folder, &upstream, "drain = \"300ms\"")).await;
    let mut clients = Vec::new();
    for (id, stream) in [("events", true), ("value", false)] {
        let mut client = Client::connect(weir.public).await;
        client.send("POST", CHAT, &[("x-request-id", id)], body(stream).as_bytes()).await;
        client.head().await;
        clients.push(client);
    }
    upstream.stalled().await;
    let reported = Instant::now();
    weir.signal("TERM");
    assert!(weir.ended().await.success());
    assert!((2_300..6_000).contains(&reported.elapsed().as_millis()), "{:?}", reported.elapsed());
    for id in ["events", "value"] {
        let line = line(&weir, id);
        assert_eq!(
            (&line["outcome"], &line["error_code"]),
            (&"overload".into(), &"draining".into()),
            "{line}"
        );
        assert_eq!(line["note"], "resilience.drain is over; the client did not read");
    }
}

/// Returns a request's line in the access log.
fn line(weir: &Process, id: &str) -> Value {
    let lines = weir.output();
    let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line["request_id"] == id && !line["outcome"].is_null()).expect("a line")
}
