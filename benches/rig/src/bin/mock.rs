//! `mock --listen 127.0.0.1:18900`: a model server that costs as little as possible.
//!
//! It speaks OpenAI's chat completions to whatever path is posted, and answers GET with 200. The
//! model's name steers it: `mock-b1024` answers 1,024 bytes; `mock-n100-d20000`, with `stream`,
//! sends 100 chunks 20,000 µs apart (timers tick in milliseconds; `d0` does not wait). Each chunk's
//! text begins with `@` and the nanoseconds of `CLOCK_MONOTONIC` when it was written. A post to
//! `/model/{name}/converse-stream` gets the same stream in Bedrock's binary frames.

use std::io::{self, Write as _};
use std::time::Duration;

use memchr::memmem;
use rig::pace::Pace;
use rig::server::{Request, Requests};
use rig::{Failure, Flags, loopback, now};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// What a model's name asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Bytes of an unstreamed answer.
    bytes: usize,
    /// Chunks of a stream.
    chunks: u32,
    /// Between two chunks.
    delay: Duration,
}

impl Plan {
    fn of(model: &str) -> Self {
        let mut plan = Self { bytes: 1024, chunks: 100, delay: Duration::from_millis(20) };
        for part in model.split('-') {
            let Some((key, number)) = part.split_at_checked(1) else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match key {
                "b" => plan.bytes = number as usize,
                "n" => plan.chunks = number,
                "d" => plan.delay = Duration::from_micros(number.into()),
                _ => {}
            }
        }
        plan
    }
}

fn main() -> Result<(), Failure> {
    let mut flags = Flags::parse(std::env::args().skip(1))?;
    let address = loopback(&flags.take("listen", "127.0.0.1:18900".to_owned())?)?;
    flags.finish()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(4096)?;
        loop {
            let (connection, _) = listener.accept().await?;
            connection.set_nodelay(true)?;
            // A peer that goes away ends its connection and nothing else.
            tokio::spawn(async move { drop(serve(connection).await) });
        }
    })
}

async fn serve(mut socket: TcpStream) -> io::Result<()> {
    let mut requests = Requests::default();
    let mut whole = (Plan::of(""), answer(1024));
    while let Some(Request { head, body }) = requests.next(&mut socket).await? {
        if !head.starts_with(b"POST") {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}").await?;
            continue;
        }
        if let Some(name) = converse_stream(head) {
            bedrock::stream(&mut socket, Plan::of(name)).await?;
            continue;
        }
        let plan = Plan::of(model(body));
        if mentions(body, "stream", "true") {
            stream(&mut socket, plan, mentions(body, "include_usage", "true")).await?;
        } else {
            if whole.0.bytes != plan.bytes {
                whole = (plan, answer(plan.bytes));
            }
            socket.write_all(&whole.1).await?;
        }
    }
    Ok(())
}

/// The model of a Bedrock request line.
fn converse_stream(head: &[u8]) -> Option<&str> {
    let path = head.strip_prefix(b"POST /model/")?;
    std::str::from_utf8(&path[..memmem::find(path, b"/converse-stream ")?]).ok()
}

/// The value of the first `"model"`: good enough for our own requests.
fn model(body: &[u8]) -> &str {
    let find = || {
        let behind = &body[memmem::find(body, b"\"model\"")? + 7..];
        let value = &behind[memchr::memchr(b'"', behind)? + 1..];
        std::str::from_utf8(&value[..memchr::memchr(b'"', value)?]).ok()
    };
    find().unwrap_or("")
}

/// Whether `"key": value` is in there, with or without the space.
fn mentions(body: &[u8], key: &str, value: &str) -> bool {
    memmem::find(body, format!("\"{key}\":{value}").as_bytes()).is_some()
        || memmem::find(body, format!("\"{key}\": {value}").as_bytes()).is_some()
}

/// An unstreamed answer whose body has about this many bytes, head included in what is returned.
fn answer(bytes: usize) -> Vec<u8> {
    let body = |text: &str| {
        format!(
            "{{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":200,\"completion_tokens\":150,\"total_tokens\":350}}}}"
        )
    };
    let text = body(&"x".repeat(bytes.saturating_sub(body("").len())));
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}

async fn stream(socket: &mut TcpStream, plan: Plan, usage: bool) -> io::Result<()> {
    let mut pace = Pace::of(plan.delay);
    let mut out = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let mut data = Vec::with_capacity(512);
    for _ in 0..plan.chunks {
        data.clear();
        let delta = format!("{{\"content\":\"@{} lorem ipsum\"}}", now());
        event(&mut data, &delta, "null")?;
        chunk(&mut out, &data)?;
        socket.write_all(&out).await?;
        out.clear();
        pace.tick().await;
    }
    data.clear();
    event(&mut data, "{}", "\"stop\"")?;
    if usage {
        data.extend_from_slice(b"data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":100,\"total_tokens\":300}}\n\n");
    }
    data.extend_from_slice(b"data: [DONE]\n\n");
    chunk(&mut out, &data)?;
    out.extend_from_slice(b"0\r\n\r\n");
    socket.write_all(&out).await
}

fn event(data: &mut Vec<u8>, delta: &str, finish_reason: &str) -> io::Result<()> {
    write!(
        data,
        "data: {{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish_reason}}}]}}\n\n"
    )
}

fn chunk(out: &mut Vec<u8>, data: &[u8]) -> io::Result<()> {
    write!(out, "{:x}\r\n", data.len())?;
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// AWS's event stream: `total u32be | headers u32be | crc | headers | payload | crc`.
mod bedrock {
    use std::io;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::{Pace, Plan, chunk, now};

    /// A ConverseStream answer: one `contentBlockDelta` a chunk.
    pub(super) async fn stream(socket: &mut TcpStream, plan: Plan) -> io::Result<()> {
        let mut pace = Pace::of(plan.delay);
        let mut out = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let mut data = Vec::with_capacity(512);
        frame(&mut data, "messageStart", "{\"role\":\"assistant\"}");
        chunk(&mut out, &data)?;
        for _ in 0..plan.chunks {
            data.clear();
            let delta = format!(
                "{{\"contentBlockIndex\":0,\"delta\":{{\"text\":\"@{} lorem ipsum\"}},\"p\":\"abcdefghij\"}}",
                now()
            );
            frame(&mut data, "contentBlockDelta", &delta);
            chunk(&mut out, &data)?;
            socket.write_all(&out).await?;
            out.clear();
            pace.tick().await;
        }
        data.clear();
        frame(&mut data, "contentBlockStop", "{\"contentBlockIndex\":0}");
        frame(&mut data, "messageStop", "{\"stopReason\":\"end_turn\"}");
        frame(
            &mut data,
            "metadata",
            "{\"metrics\":{\"latencyMs\":1},\"usage\":{\"inputTokens\":200,\"outputTokens\":100,\"totalTokens\":300}}",
        );
        chunk(&mut out, &data)?;
        out.extend_from_slice(b"0\r\n\r\n");
        socket.write_all(&out).await
    }

    fn frame(out: &mut Vec<u8>, event: &str, payload: &str) {
        let mut headers = Vec::with_capacity(96);
        for (name, value) in [
            (":event-type", event),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ] {
            headers.push(name.len() as u8);
            headers.extend_from_slice(name.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let start = out.len();
        out.extend_from_slice(&((headers.len() + payload.len() + 16) as u32).to_be_bytes());
        out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&out[start..]).to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(payload.as_bytes());
        out.extend_from_slice(&crc32fast::hash(&out[start..]).to_be_bytes());
    }
}
