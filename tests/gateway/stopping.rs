//! SIGTERM: not ready at once, connections end with an answer that says so, streams run to the limit, exit 0.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{Client, End, Folder, Process, Reply, Upstream, chat_body, eventually, one_model};

const CHAT: &str = "/v1/chat/completions";

fn file(folder: &Folder, upstream: &Upstream, resilience: &str) -> PathBuf {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\n{resilience}\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    );
    folder.write("weir.toml", &text)
}

fn body(stream: bool) -> String {
    chat_body("m", stream).to_string()
}

#[tokio::test]
async fn a_kept_connection_gets_one_more_answer_that_says_it_is_the_last() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("stopping-kept");
    let mut weir = Process::serve(&file(&folder, &upstream, "drain = \"10s\"")).await;
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
    assert!(unused.is_closed().await, "who has asked for nothing is not waited for");
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_end_up() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("stopping-idle");
    let mut weir = Process::serve(&file(&folder, &upstream, "drain = \"60s\"")).await;
    let mut client = Client::connect(weir.public).await;
    client.call("POST", CHAT, &[], body(false).as_bytes()).await;
    weir.signal("TERM");
    // support's patience is far below the drain
    assert!(client.is_closed().await);
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn during_the_delay_new_connections_are_served_and_told_to_go_elsewhere() {
    let gate = Arc::new(Notify::new());
    let upstream = Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let folder = Folder::new("stopping-delay");
    let mut weir = Process::serve(&file(&folder, &upstream, "drain = \"10s\"\ndrain_delay = \"2s\"")).await;
    weir.signal("TERM");
    let told = Instant::now();
    eventually("not ready at once", async || weir.admin("/ready").await.status() == 503).await;
    let mut client = Client::connect(weir.public).await;
    client.send("POST", CHAT, &[], body(true).as_bytes()).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("connection")), (200, Some("close")));
    eventually("nothing new is accepted", async || TcpStream::connect(weir.public).await.is_err()).await;
    assert!(told.elapsed() >= Duration::from_secs(2), "{:?}", told.elapsed());
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert!(answer.text().contains("[DONE]") && answer.end == End::Proper, "{}", answer.text());
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn connections_that_wait_in_the_kernel_are_served_before_the_port_closes() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("stopping-queue");
    let mut weir = Process::serve(&file(&folder, &upstream, "drain = \"10s\"")).await;
    // frozen, it accepts nothing: the kernel alone makes the connections
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
async fn a_stream_beyond_the_limit_is_cut_and_not_ended() {
    let upstream = Upstream::always(Reply::sse().text("one").stall()).await;
    let folder = Folder::new("stopping-limit");
    let mut weir = Process::serve(&file(&folder, &upstream, "drain = \"200ms\"")).await;
    let mut client = Client::connect(weir.public).await;
    client.send("POST", CHAT, &[], body(true).as_bytes()).await;
    let head = client.head().await;
    client.read_until("one").await;
    weir.signal("TERM");
    assert_eq!(client.body(head, false).await.end, End::Cut);
    assert!(weir.ended().await.success(), "a drain that ran out is a drain");
    upstream.closed(0).await;
}
