//! `weir serve --replace`: one process after the other takes over the same ports under traffic, and
//! no request is lost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{
    Client, End, Folder, Http2, Process, Reply, Upstream, chat_body, eventually, one_model,
    upstream::says,
};

const UPGRADES: usize = 4;
const PIECES: usize = 10;

/// Starts a model server whose streams take a while and count up; one for `gated` waits in the
/// middle.
async fn model(gate: &Arc<Notify>) -> Upstream {
    let gate = Arc::clone(gate);
    Upstream::start(move |request| {
        let text = request.text();
        if text.contains("gated") {
            return Reply::sse().text("before ").gate(&gate).text("after").done(true);
        }
        if !text.contains("\"stream\":true") {
            return says(request, "whole");
        }
        let slow =
            |reply: Reply, piece| reply.wait(Duration::from_millis(20)).text(&format!("{piece} "));
        (0..PIECES).fold(Reply::sse(), slow).done(true)
    })
    .await
}

/// Writes the folder's file for these ports; workers differ from one process to the next.
fn file(folder: &Folder, upstream: &Upstream, ports: (&str, &str), workers: usize) -> PathBuf {
    let (public, admin) = ports;
    let text = format!(
        "[server]\nlisten = \"{public}\"\nworkers = {workers}\n[admin]\nlisten = \"{admin}\"\n[resilience]\ndrain = \"30s\"\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    );
    folder.write(&format!("weir-{workers}.toml"), &text)
}

/// Returns the whole text of a stream.
fn stated(text: &str) -> String {
    let events = text.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    events
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect()
}

/// Runs clients of every kind until `over`. Each counts its responses; a lost one is a panic.
fn traffic(weir: &Process, over: &Arc<AtomicBool>) -> JoinSet<u32> {
    let mut clients = JoinSet::new();
    let (public, admin) = (weir.public, weir.admin);
    for kind in
        ["fresh", "fresh", "kept", "kept", "kept", "stream", "stream", "kept stream", "admin"]
    {
        let over = Arc::clone(over);
        clients.spawn(async move {
            let body = chat_body("m", kind.contains("stream")).to_string();
            let whole: String = (0..PIECES).map(|piece| format!("{piece} ")).collect();
            let (mut answered, mut kept) = (0, None::<Client>);
            while !over.load(Ordering::Relaxed) {
                let mut client = match kept.take() {
                    Some(client) => client,
                    None => Client::connect(if kind == "admin" { admin } else { public }).await,
                };
                if kind == "admin" {
                    assert_eq!(client.call("GET", "/ready", &[], b"").await.text(), "ready\n");
                } else {
                    let answer =
                        client.call("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
                    assert_eq!(
                        (answer.status(), answer.end),
                        (200, End::Proper),
                        "{kind}: {}",
                        answer.text()
                    );
                    let is_whole = kind.contains("stream") && stated(answer.text()) == whole;
                    assert!(
                        is_whole || answer.text().contains("whole"),
                        "{kind}: {}",
                        answer.text()
                    );
                    // a client that was sent `connection: close` opens a new connection; no other
                    // client may meet a close
                    kept = Some(client).filter(|_| {
                        kind.contains("kept") && answer.header("connection") != Some("close")
                    });
                }
                answered += 1;
            }
            answered
        });
    }
    clients.spawn(streams(public, Arc::clone(over)));
    clients
}

/// Does the same over HTTP/2; reconnects after GOAWAY.
async fn streams(public: SocketAddr, over: Arc<AtomicBool>) -> u32 {
    let body = chat_body("m", false).to_string();
    let (mut answered, mut client) = (0, Http2::connect(public).await);
    while !over.load(Ordering::Relaxed) {
        let mut exchange = match client.open("POST", "/v1/chat/completions", &[]).await {
            Ok(exchange) => exchange,
            Err(error) => {
                assert!(error.is_go_away(), "{error}");
                client = Http2::connect(public).await;
                continue;
            }
        };
        exchange.request.send_data(body.clone().into(), true).unwrap();
        let answer = exchange.answer().await;
        assert!(answer.status() == 200 && answer.text().contains("whole"), "{}", answer.text());
        answered += 1;
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_traffic_lose_no_request_and_no_stream() {
    let gate = Arc::new(Notify::new());
    let (folder, upstream) = (Folder::new("upgrade"), model(&gate).await);
    let mut first =
        Process::serve(&file(&folder, &upstream, ("127.0.0.1:0", "127.0.0.1:0"), 2)).await;
    let ports = (first.public.to_string(), first.admin.to_string());
    let mut long = Client::connect(first.public).await;
    let gated = chat_body("m", true).to_string().replace("Hello", "gated");
    long.send("POST", "/v1/chat/completions", &[], gated.as_bytes()).await;
    let head = long.head().await;
    long.read_until("before").await;

    let over = Arc::new(AtomicBool::new(false));
    let mut clients = traffic(&first, &over);
    let mut processes: Vec<Process> = Vec::new();
    for upgrade in 0..UPGRADES {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let workers = [1, 3, 2][upgrade % 3];
        let new = Process::replace(&file(&folder, &upstream, (&ports.0, &ports.1), workers)).await;
        if let Some(mut old) = processes.pop() {
            assert!(old.ended().await.success());
        }
        let answered =
            async || new.metrics().await.sum("weir_requests_total", &[("outcome", "ok")]) > 0.0;
        eventually("the new process answers", answered).await;
        processes.push(new);
    }
    over.store(true, Ordering::Relaxed);
    while let Some(answered) = clients.join_next().await {
        assert!(answered.unwrap() > 0);
    }
    // the first has been draining all the time
    gate.notify_one();
    let answer = long.body(head, false).await;
    assert_eq!((stated(answer.text()).as_str(), answer.end), ("after", End::Proper));
    assert!(answer.text().contains("[DONE]") && first.ended().await.success());
}

#[tokio::test]
async fn a_process_that_does_not_start_takes_nothing_over() {
    let gate = Arc::new(Notify::new());
    let (folder, upstream) = (Folder::new("upgrade-fails"), model(&gate).await);
    let weir = Process::serve(&file(&folder, &upstream, ("127.0.0.1:0", "127.0.0.1:0"), 1)).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = taken.local_addr().unwrap().to_string();
    let file = file(&folder, &upstream, (&other, &weir.admin.to_string()), 2);
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    let output =
        run.args(["serve", "--replace", "--config"]).arg(file).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains(&other));
    weir.says("whole").await;
    assert_eq!(weir.admin("/ready").await.status(), 200);
}

#[tokio::test]
async fn where_nobody_serves_replace_just_serves_and_without_it_a_second_one_does_not_start() {
    let gate = Arc::new(Notify::new());
    let (folder, upstream) = (Folder::new("upgrade-nobody"), model(&gate).await);
    let weir = Process::replace(&file(&folder, &upstream, ("127.0.0.1:0", "127.0.0.1:0"), 1)).await;
    weir.says("whole").await;
    let file = file(&folder, &upstream, (&weir.public.to_string(), &weir.admin.to_string()), 2);
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = run.args(["serve", "--config"]).arg(file).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("admin.listen"),
        "the second reports why"
    );
}
