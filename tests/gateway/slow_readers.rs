//! Clients that do not read: each stalls its own model server, costs little memory, holds up no
//! other client and does not stay for ever (`timeouts.rs` has the limit).

use std::time::{Duration, Instant};

use crate::support::{
    Client, Folder, Process, Reply, Upstream, chat_body, one_model, upstream::says,
};

const CHAT: &str = "/v1/chat/completions";
/// More than all socket buffers on the path hold of one endless stream.
const IN_THE_AIR: usize = 50 << 20;
/// The gateway's own memory for each such client: a share of what is in flight, not of what the
/// server offers.
const HELD: usize = 1 << 20;
const READERS: usize = 4;

/// One event of 64 KiB.
fn event() -> String {
    let text = "x".repeat(64 << 10);
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stalls_its_own_server_and_nobody_elses() {
    let event = event();
    let upstream = Upstream::start(move |request| match request.wants_stream() {
        true => Reply::sse().forever(event.as_bytes()),
        false => says(request, "whole"),
    })
    .await;
    let folder = Folder::new("slow-readers");
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nformat = \"json\"\n\
         [auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    );
    let weir = Process::serve(&folder.write("weir.toml", &file)).await;
    weir.says("whole").await;
    let before = weir.resident();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Client::connect(weir.public).await;
        reader.send("POST", CHAT, &[], chat_body("m", true).to_string().as_bytes()).await;
        assert_eq!(reader.head().await.status, 200);
        readers.push(reader);
    }
    let offered = upstream.stalled().await;
    let held = weir.resident().saturating_sub(before);
    assert!(offered < READERS * IN_THE_AIR, "{offered} bytes were taken from the servers");
    assert!(held < READERS * HELD, "{held} bytes of memory for {READERS} readers");
    let received = Instant::now();
    for _ in 0..20 {
        assert_eq!(weir.chat("m").await.status(), 200);
    }
    assert!(received.elapsed() < Duration::from_secs(5), "others wait: {:?}", received.elapsed());
    // one reads on: its server does too
    let mut reader = readers.pop().unwrap();
    let mut read = 0;
    while read < IN_THE_AIR {
        read += reader.chunk().await.unwrap().unwrap().len();
    }
    assert!(upstream.written() > offered, "the stream goes on");
}
