//! What one connection of HTTP/2 can make a gateway hold, and for how long: streams that are not
//! read, malformed prefaces, heads without end, requests that are opened to be reset.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use h2::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{
    Client, End, Folder, Gateway, Http2, Process, Reply, Upstream, chat_body, one_model, says,
    soon, surfaces,
};

const CHAT: &str = "/v1/chat/completions";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Flags.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn body(stream: bool) -> Vec<u8> {
    chat_body("m", stream).to_string().into_bytes()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the head of a POST (RFC 7541: two fields of the static table, two with their names from
/// it).
fn head(stream: u32, path: &str) -> Vec<u8> {
    let path = [&[0x44, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    frame(HEADERS, END_HEADERS, stream, &[&[0x83, 0x86][..], &path, b"\x41\x01x"].concat())
}

/// A connection whose bytes the test writes itself.
struct Raw(TcpStream);

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self(soon("connecting", TcpStream::connect(address)).await.unwrap())
    }

    /// Opens a connection with a well-formed preface.
    async fn begin(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.write([PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, b"")].concat()).await;
        raw
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = soon("writing", self.0.write_all(bytes.as_ref())).await;
    }

    /// Reads the next frame: its type, its stream, its payload. `None` when the connection has
    /// ended.
    async fn frame(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        soon("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon("its payload", self.0.read_exact(&mut payload)).await.ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Reads up to the next frame of this type.
    async fn until(&mut self, kind: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            match self.frame().await? {
                (other, _, _) if other != kind => {}
                (_, stream, payload) => return Some((stream, payload)),
            }
        }
    }

    /// Waits for GOAWAY; returns its error code.
    async fn goodbye(&mut self) -> Option<u32> {
        let (_, payload) = self.until(GOAWAY).await?;
        Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()))
    }
}

#[tokio::test]
async fn a_stream_that_takes_nothing_stalls_alone_and_does_not_outlive_the_total() {
    let upstream = Upstream::start(|request| match request.wants_stream() {
        true => Reply::sse().forever(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
        false => says(request, "whole"),
    })
    .await;
    let gateway = Gateway::with_model(&upstream, "[timeouts]\ntotal = \"300ms\"\n").await;
    let client = Http2::with_window(gateway.public, 16).await;
    let begun = Instant::now();
    let mut stuck = client.send("POST", CHAT, &[("x-request-id", "stuck")], &body(true)).await;
    let head = stuck.head().await.unwrap();
    for _ in 0..5 {
        let answer = client.call("POST", CHAT, &[], &body(false)).await;
        assert!(answer.text().contains("whole") && answer.end == End::Proper);
    }
    let connection = upstream.connection_of("stuck").await;
    let closed = upstream.closed(connection).await;
    assert!(closed.saturating_duration_since(begun) >= Duration::from_millis(300));
    // a client that reads on after that finds a reset
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let line = gateway.log.line("stuck").await;
    assert_eq!((&line["error_code"], &line["phase"]), (&"A1000".into(), &"total".into()), "{line}");
    let answer = stuck.rest(head).await;
    assert_eq!((answer.body.len(), answer.end), (16, End::Reset(Reason::CANCEL)));
    gateway.in_flight(0.0).await;
}

#[tokio::test]
async fn an_answer_that_is_still_made_meets_its_limits_although_nobody_takes_its_heartbeats() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let file = "[chat]\nheartbeat = \"10ms\"\n[timeouts]\ntotal = \"300ms\"\n";
    let gateway = Gateway::with_model(&upstream, file).await;
    let client = Http2::with_window(gateway.public, 0).await;
    let surfaces = surfaces();
    let chat = surfaces.iter().find(|surface| surface.name.starts_with("Duo Chat")).unwrap();
    let mut stuck =
        client.send("POST", chat.path, &[("x-request-id", "stuck")], &chat.bytes()).await;
    assert_eq!(stuck.head().await.unwrap().status, 200);
    upstream.closed(upstream.connection_of("stuck").await).await;
    drop(stuck);
    assert_eq!(gateway.log.line("stuck").await["error_code"], "A1000");
    gateway.in_flight(0.0).await;
}

const STUCK: usize = 32;

async fn process(folder: &Folder, upstream: &Upstream, drain: &str) -> Process {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\ndrain = \"{drain}\"\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    );
    Process::serve(&folder.write("weir.toml", &text)).await
}

/// Starts a gateway with a model that streams without end, in large events.
async fn endless(name: &str) -> (Folder, Upstream, Process) {
    let text = "x".repeat(64 << 10);
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let upstream = Upstream::start(move |request| match request.wants_stream() {
        true => Reply::sse().forever(event.as_bytes()),
        false => says(request, "whole"),
    })
    .await;
    let folder = Folder::new(name);
    let weir = process(&folder, &upstream, "30s").await;
    weir.says("whole").await;
    (folder, upstream, weir)
}

/// Waits until nothing moves; asserts that the gateway then holds little for each stream.
async fn hold_little(upstream: &Upstream, weir: &Process, before: usize) {
    /// What is buffered before hyper, in hyper, and for the socket.
    const HELD: usize = 256 << 10;
    upstream.received(STUCK).await;
    upstream.stalled().await;
    let held = weir.resident().saturating_sub(before);
    assert!(held < STUCK * HELD, "{held} bytes of memory for {STUCK} streams");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_take_nothing_hold_little() {
    let (_folder, upstream, weir) = endless("http2-windows").await;
    let before = weir.resident();
    let client = Http2::with_window(weir.public, 1024).await;
    let mut streams = Vec::new();
    for _ in 0..STUCK {
        let mut exchange = client.send("POST", CHAT, &[], &body(true)).await;
        assert_eq!(exchange.head().await.unwrap().status, 200);
        streams.push(exchange);
    }
    hold_little(&upstream, &weir, before).await;
    let answer = client.call("POST", CHAT, &[], &body(false)).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    // one reads on: its server does too
    let mut reader = streams.pop().unwrap();
    let written = upstream.written();
    while upstream.written() == written {
        reader.chunk().await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_windows_of_a_client_that_does_not_read_hold_little() {
    let (_folder, upstream, weir) = endless("http2-deaf").await;
    let before = weir.resident();
    let mut raw = Raw::connect(weir.public).await;
    // SETTINGS_INITIAL_WINDOW_SIZE, and as much for the connection
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0]);
    raw.write(
        [PREFACE.as_bytes(), &settings, &frame(WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0])].concat(),
    )
    .await;
    for stream in (1..).step_by(2).take(STUCK) {
        raw.write([head(stream, CHAT), frame(DATA, END_STREAM, stream, &body(true))].concat())
            .await;
    }
    hold_little(&upstream, &weir, before).await;
    assert_eq!(weir.chat("m").await.status(), 200);
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_no_more() {
    const MOST: usize = 128;
    let upstream = Upstream::always(Reply::stalled()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let client = Http2::connect(gateway.public).await;
    assert_eq!(client.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
    let mut streams = Vec::new();
    for _ in 0..MOST {
        streams.push(client.send("POST", CHAT, &[], &body(false)).await);
    }
    upstream.received(MOST).await;
    let one_more = client.send("POST", CHAT, &[], &body(false)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(upstream.requests().len(), MOST, "it waits at its client");
    // a client that does not wait is refused
    let mut raw = Raw::begin(gateway.public).await;
    for stream in 0..=MOST as u32 {
        raw.write(head(2 * stream + 1, CHAT)).await;
    }
    let (stream, reason) = raw.until(RST_STREAM).await.unwrap();
    assert_eq!((stream, reason), (2 * MOST as u32 + 1, vec![0, 0, 0, 7]), "REFUSED_STREAM");
    drop((streams, one_more, client, raw));
    gateway.in_flight(0.0).await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_431_and_one_without_end_ends_the_connection() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "[limits]\nmax_headers = \"8KiB\"\n").await;
    let client = Http2::connect(gateway.public).await;
    let answer =
        client.call("GET", "/monitoring/healthz", &[("x-long", &"y".repeat(12 << 10))], b"").await;
    assert_eq!(answer.status(), 431);
    assert_eq!(
        client.call("GET", "/monitoring/healthz", &[("x-long", "y")], b"").await.status(),
        200
    );
    let mut raw = Raw::begin(gateway.public).await;
    raw.write(frame(HEADERS, 0, 1, &[0x83, 0x86])).await;
    for _ in 0..100 {
        // one header without an index, name of one byte, value of 8 KiB, and no end of it
        let header = [&b"\x00\x01z\x7f\x81\x3f"[..], &[b'v'; 8192]].concat();
        raw.write(frame(9, 0, 1, &header)).await;
    }
    assert!(raw.goodbye().await.is_none_or(|reason| reason != 0));
    assert_eq!(gateway.chat("m", false).await.status(), 200);
}

#[tokio::test]
async fn requests_that_are_opened_to_be_reset_end_their_connection() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let reset = |stream| [head(stream, CHAT), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
    // RFC 9113 §8.2.2: this makes us reset it
    let faulty = |stream| {
        frame(HEADERS, END_HEADERS, stream, b"\x83\x86\x84\x41\x01x\x00\x0aconnection\x05close")
    };
    let kinds: [&dyn Fn(u32) -> Vec<u8>; 2] = [&reset, &faulty];
    for kind in kinds {
        let mut raw = Raw::begin(gateway.public).await;
        let flood: Vec<u8> = (0..500).flat_map(|n| kind(2 * n + 1)).collect();
        raw.write(flood).await;
        assert_eq!(raw.goodbye().await, Some(11), "ENHANCE_YOUR_CALM");
        while raw.frame().await.is_some() {}
        gateway.in_flight(0.0).await;
    }
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(gateway.get("/monitoring/healthz").await.status(), 200);
}

#[tokio::test]
async fn what_begins_wrong_or_not_at_all_is_let_go() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "[limits]\nheader_timeout = \"200ms\"\n").await;
    let nothing = b"";
    let settings = frame(SETTINGS, 0, 0, b"");
    let rubbish = [0xff; 64];
    let beginnings: [(&str, &[&[u8]]); 7] = [
        ("silence", &[nothing]),
        ("half a preface", &[&PREFACE.as_bytes()[..10]]),
        ("a preface and silence", &[PREFACE.as_bytes()]),
        ("another preface", &[b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &settings]),
        ("a preface and rubbish", &[PREFACE.as_bytes(), &rubbish]),
        ("no settings", &[PREFACE.as_bytes(), &frame(DATA, 0, 1, b"x")]),
        ("rubbish", &[&rubbish]),
    ];
    for (name, pieces) in beginnings {
        let mut raw = Raw::connect(gateway.public).await;
        let since = Instant::now();
        for piece in pieces {
            raw.write(piece).await;
        }
        let mut stated = Vec::new();
        let _ = soon(name, raw.0.read_to_end(&mut stated)).await;
        assert!(since.elapsed() < Duration::from_secs(3), "{name}: {:?}", since.elapsed());
    }
    assert_eq!(gateway.metrics().await.sum("weir_requests_total", &[("outcome", "ok")]), 0.0);
    assert_eq!(gateway.chat("m", false).await.status(), 200);
}

#[tokio::test]
async fn a_beginning_in_pieces_is_one() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut raw = Raw::connect(gateway.public).await;
    for piece in PREFACE.as_bytes().chunks(7) {
        raw.write(piece).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    raw.write([frame(SETTINGS, 0, 0, b""), head(1, "/nowhere")].concat()).await;
    assert_eq!(raw.until(HEADERS).await.unwrap().0, 1, "an answer");
    // HTTP/1.1's POST begins with the same letter
    let mut client = Client::connect(gateway.public).await;
    client.write("P").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let body = String::from_utf8(body(false)).unwrap();
    client
        .write(format!(
            "OST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!(client.head().await.status, 200);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_client_that_does_not_hear_its_goodbye() {
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("http2-unheard");
    let mut weir = process(&folder, &upstream, "60s").await;
    let mut raw = Raw::begin(weir.public).await;
    raw.write(head(1, "/nowhere")).await;
    assert_eq!(raw.until(HEADERS).await.unwrap().0, 1, "an answer");
    weir.signal("TERM");
    assert_eq!(raw.goodbye().await, Some(0));
    // a ping follows, to which there is no reply; `PATIENCE` is far below the drain
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn an_idle_connection_gets_goaway_and_one_with_a_stream_is_not() {
    let slow = Reply::sse().text("one").wait(Duration::from_millis(600)).text("two").done(true);
    let upstream = Upstream::always(slow).await;
    let gateway = Gateway::with_model(&upstream, "[limits]\nheader_timeout = \"200ms\"\n").await;
    let mut client = Http2::connect(gateway.public).await;
    let answer = client.call("POST", CHAT, &[], &body(true)).await;
    assert!(answer.text().contains("[DONE]") && answer.end == End::Proper, "{}", answer.text());
    let since = Instant::now();
    assert!(client.ended().await.is_ok());
    assert!(since.elapsed() >= Duration::from_millis(150), "{:?}", since.elapsed());
}
