//! A client that disconnects, with a FIN or without: the request at the model server is cancelled
//! at once, on every call, streamed or not, before the head and after it, in the queue and while
//! sending. Nothing is left behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{
    Client, Folder, Gateway, Process, Reply, Surface, Upstream, chat_body, eventually, one_model,
    surfaces,
};

const CHAT: &str = "/v1/chat/completions";
/// Ten times the goal, for a busy machine. Without cancellation it would be 60 s.
const AT_ONCE: Duration = Duration::from_millis(50);

/// How far an exchange has come, and how the client disconnects.
#[derive(Clone, Copy, Debug)]
struct Parting {
    midway: bool,
    reset: bool,
}

async fn connect(gateway: &Gateway, parting: Parting) -> Client {
    if parting.reset {
        Client::that_resets(gateway.public).await
    } else {
        Client::connect(gateway.public).await
    }
}

/// Disconnects; returns how soon the model server's connection closed.
async fn leave(
    gateway: &Gateway,
    upstream: &Upstream,
    surface: &Surface,
    parting: Parting,
    id: &str,
) -> Duration {
    let mut client = connect(gateway, parting).await;
    client.send("POST", surface.path, &[("x-request-id", id)], &surface.bytes()).await;
    let connection = upstream.connection_of(id).await;
    match (parting.midway, surface.is_gathered()) {
        (false, _) => {}
        (true, true) => tokio::time::sleep(Duration::from_millis(2)).await,
        (true, false) => {
            assert_eq!(client.head().await.status, 200, "{}", surface.name);
            client.chunk().await.unwrap_or_else(|end| panic!("{}: {end:?}", surface.name));
        }
    }
    let left = Instant::now();
    drop(client);
    upstream.closed(connection).await.saturating_duration_since(left)
}

/// Returns the beginning of a response of this kind, and then nothing.
fn begun(streamed: bool, path: &str) -> Reply {
    match (streamed, path.ends_with("/chat/completions")) {
        (true, true) => Reply::sse().text("one = 1\n").text("two = 2\n").stall(),
        (true, false) => Reply::sse().completion_text("one").stall(),
        // longer than the gateway buffers before it starts to respond
        (false, _) => Reply::head(200, &[("content-type", "application/json")])
            .bytes(vec![b' '; 100 << 10])
            .stall(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_server_is_reported_at_once_on_every_call() {
    let mut took = Vec::new();
    for midway in [false, true] {
        let reply = move |request: &crate::support::upstream::Received| {
            if midway { begun(request.wants_stream(), &request.path) } else { Reply::stalled() }
        };
        let upstream = Upstream::start(reply).await;
        // Duo Chat shows no text before it is known to be the answer, but sends heartbeats
        let gateway = Gateway::with_model(&upstream, "[chat]\nheartbeat = \"10ms\"\n").await;
        for round in 0..6 {
            let parting = Parting { midway, reset: round % 2 == 0 };
            for (index, surface) in surfaces().iter().enumerate() {
                let id = format!("{round}-{index}");
                took.push((
                    leave(&gateway, &upstream, surface, parting, &id).await,
                    surface.name.clone(),
                    parting,
                ));
            }
        }
        gateway.in_flight(0.0).await;
        gateway.all_cancelled(took.len() / if midway { 2 } else { 1 }).await;
        assert_eq!(
            upstream.requests().len(),
            gateway.log.lines().len(),
            "a cancelled request is not sent again"
        );
        let metrics = gateway.metrics().await;
        assert_eq!(
            metrics.sum("weir_client_disconnects_total", &[]),
            upstream.requests().len() as f64
        );
    }
    took.sort_by_key(|(time, _, _)| *time);
    let p99 = &took[took.len() * 99 / 100];
    println!("{} partings: median {:?}, p99 {:?}", took.len(), took[took.len() / 2].0, p99.0);
    assert!(p99.0 < AT_ONCE, "{p99:?}, at most {:?}", took.last());
}

#[tokio::test]
async fn a_slot_in_the_queue_is_given_up_at_once_on_every_call() {
    let upstream = Upstream::always(Reply::stalled()).await;
    // one in flight and one queued: a cancelled one that stayed queued would shut out the next
    let limits = "[limits]\nin_flight = 1\nqueue = 1\nqueue_wait = \"60s\"\n";
    let gateway = Gateway::with_model(&upstream, limits).await;
    let occupant = gateway.open_chat("m", false).await;
    upstream.received(1).await;
    let all = surfaces();
    for (index, surface) in all.iter().enumerate() {
        let mut client = connect(&gateway, Parting { midway: false, reset: index % 2 == 0 }).await;
        client.send("POST", surface.path, &[], &surface.bytes()).await;
        gateway.in_flight(2.0).await;
        drop(client);
        gateway.in_flight(1.0).await;
    }
    drop(occupant);
    gateway.in_flight(0.0).await;
    gateway.all_cancelled(all.len() + 1).await;
    assert_eq!(upstream.requests().len(), 1, "who waited was sent to nobody");
}

#[tokio::test]
async fn a_request_that_is_not_sent_to_its_end_is_forgotten_on_every_call() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let all = surfaces();
    for (index, surface) in all.iter().enumerate() {
        let mut client = connect(&gateway, Parting { midway: false, reset: index % 2 == 0 }).await;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: weir.test\r\ncontent-length: 100\r\n\r\n{{",
            surface.path
        );
        client.write(head).await;
        eventually("it is read", async || gateway.metrics().await.sum("weir_inflight", &[]) == 1.0)
            .await;
        drop(client);
        gateway.in_flight(0.0).await;
    }
    gateway.all_cancelled(all.len()).await;
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_stream_that_is_read_faster_than_it_is_left_still_ends_everything() {
    let upstream = Upstream::always(
        Reply::sse().forever(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
    )
    .await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let surfaces = surfaces();
    for id in ["a", "b", "c"] {
        leave(&gateway, &upstream, &surfaces[0], Parting { midway: true, reset: false }, id).await;
        assert_eq!(gateway.log.line(id).await["outcome"], "cancelled");
    }
}

/// One of many clients: sends a request and disconnects, sooner or later, with FIN or RST.
async fn come_and_go(public: std::net::SocketAddr, index: usize) {
    let mut client = match index % 3 {
        0 => Client::that_resets(public).await,
        _ => Client::connect(public).await,
    };
    let body = chat_body("m", !index.is_multiple_of(4)).to_string();
    if index.is_multiple_of(5) {
        client
            .write(format!(
                "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
                body.len() + 1
            ))
            .await;
        client.write(&body).await;
        return;
    }
    client.send("POST", CHAT, &[], body.as_bytes()).await;
    if index.is_multiple_of(2) {
        client.head().await;
        client.chunk().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_partings_leave_nothing_behind() {
    const AT_ONCE: usize = 50;
    let upstream = Upstream::start(|request| begun(request.wants_stream(), &request.path)).await;
    let folder = Folder::new("partings");
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nformat = \"json\"\n\
         [auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    );
    let weir = Arc::new(Process::serve(&folder.write("weir.toml", &file)).await);
    let leave = async |count: usize| {
        let mut clients = JoinSet::new();
        for index in 0..count {
            clients.spawn(come_and_go(weir.public, index));
            if clients.len() == AT_ONCE {
                clients.join_next().await.unwrap().unwrap();
            }
        }
        clients.join_all().await;
        eventually("nothing in flight", async || {
            let metrics = weir.metrics().await;
            metrics.sum("weir_inflight", &[]) + metrics.sum("weir_upstream_inflight", &[]) == 0.0
        })
        .await;
    };
    leave(400).await;
    let (descriptors, resident) = (weir.descriptors(), weir.resident());
    leave(1600).await;
    eventually("no more descriptors than before", async || weir.descriptors() <= descriptors).await;
    let grown = weir.resident().saturating_sub(resident);
    assert!(grown < 4 << 20, "{grown} bytes more than after the first 400");
    eventually("a line for each", async || {
        let output = weir.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["kind"] == "request" && line["outcome"] == "cancelled").count()
            == 2000
    })
    .await;
}
