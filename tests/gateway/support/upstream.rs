//! A model server that follows a script, over TCP by hand, so that it can also misbehave. It
//! records the requests, and when each connection was closed from the other side.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::{eventually, soon};

/// One step of a response.
#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Wait(Duration),
    /// Waits until the test opens the gate.
    Gate(Arc<Notify>),
    /// Waits until the other side closes.
    Stall,
    /// Repeats these bytes until the other side closes.
    Forever(Vec<u8>),
    /// Closes with RST instead of FIN.
    Reset,
}

/// A response, as the steps it takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    steps: Vec<Step>,
    keep: bool,
    chunked: bool,
}

impl Reply {
    /// Sends nothing, not even a head.
    pub(crate) fn stalled() -> Self {
        Self::default().stall()
    }

    /// Sends these bytes, then closes.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::default().bytes(bytes)
    }

    /// Sends these bytes and keeps the connection.
    pub(crate) fn kept(bytes: impl Into<Vec<u8>>) -> Self {
        Self { keep: true, ..Self::raw(bytes) }
    }

    /// Closes the connection instead of responding.
    pub(crate) fn closed() -> Self {
        Self::default()
    }

    /// Sends a head; the body follows in chunks. The connection is kept once [`Reply::end`] was
    /// called.
    pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Whatever\r\ntransfer-encoding: chunked\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        Self { chunked: true, ..Self::default() }.bytes(head)
    }

    /// Sends a whole response with `Content-Length`; the connection is kept.
    pub(crate) fn whole(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        let mut reply = Self::default().bytes([head.as_bytes(), body].concat());
        reply.keep = true;
        reply
    }

    /// Sends a whole JSON response.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, &[("content-type", "application/json")], body.to_string())
    }

    /// Sends the head of an event stream.
    pub(crate) fn sse() -> Self {
        Self::head(200, &[("content-type", "text/event-stream; charset=utf-8")])
    }

    /// Adds one event with this data.
    pub(crate) fn event(self, data: impl AsRef<str>) -> Self {
        self.bytes(format!("data: {}\n\n", data.as_ref()))
    }

    /// Adds one event with a piece of the text.
    pub(crate) fn text(self, text: &str) -> Self {
        self.event(json!({"id":"c-1","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{"content":text},"finish_reason":null}]}).to_string())
    }

    /// Adds one event with a piece of a plain completion's text.
    pub(crate) fn completion_text(self, text: &str) -> Self {
        self.event(json!({"id":"c-1","object":"text_completion","created":1,"model":"up","choices":[{"index":0,"text":text,"finish_reason":null}]}).to_string())
    }

    /// Adds `finish_reason`, usage (`7` in, `2` out) if `usage`, `[DONE]`, and the end of the body.
    pub(crate) fn done(self, usage: bool) -> Self {
        let stop = self.event(r#"{"id":"c-1","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
        let counted = if usage {
            stop.event(r#"{"id":"c-1","object":"chat.completion.chunk","created":1,"model":"up","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#)
        } else {
            stop
        };
        counted.event("[DONE]").end()
    }

    /// Adds bytes: framed as the head announced, or as they are before a head.
    pub(crate) fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let is_head = self.steps.is_empty();
        self.steps.push(Step::Bytes(if self.chunked && !is_head { chunk(&bytes) } else { bytes }));
        self
    }

    /// Ends a chunked body; the connection is kept.
    pub(crate) fn end(mut self) -> Self {
        self.steps.push(Step::Bytes(b"0\r\n\r\n".to_vec()));
        self.keep = true;
        self
    }

    /// Closes after the response, without having announced it.
    pub(crate) fn then_close(mut self) -> Self {
        self.keep = false;
        self
    }

    /// Pauses for this time.
    pub(crate) fn wait(self, time: Duration) -> Self {
        self.step(Step::Wait(time))
    }

    /// Waits until the test opens the gate.
    pub(crate) fn gate(self, gate: &Arc<Notify>) -> Self {
        self.step(Step::Gate(Arc::clone(gate)))
    }

    /// Sends nothing more until the other side closes.
    pub(crate) fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    /// Repeats this chunk until the other side closes.
    pub(crate) fn forever(self, bytes: &[u8]) -> Self {
        self.step(Step::Forever(chunk(bytes)))
    }

    /// Repeats these bytes, outside any framing, until the other side closes.
    pub(crate) fn repeated(self, bytes: &[u8]) -> Self {
        self.step(Step::Forever(bytes.to_vec()))
    }

    /// Adds bytes that break the body's framing.
    pub(crate) fn unframed(self, bytes: &str) -> Self {
        self.step(Step::Bytes(bytes.into()))
    }

    /// Resets the connection.
    pub(crate) fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The index of the connection it came on.
    pub(crate) connection: usize,
}

impl Received {
    /// Returns a header's value by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns the head's values as text, for searches that must find nothing.
    pub(crate) fn head_text(&self) -> String {
        self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn wants_stream(&self) -> bool {
        serde_json::from_slice::<Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    received: watch::Sender<Vec<Received>>,
    /// When the other side closed each connection.
    closed: watch::Sender<Vec<Option<Instant>>>,
    /// The number of bytes that the other side's kernel has taken.
    written: AtomicUsize,
    killed: watch::Sender<bool>,
}

/// The server. It stops with the test's runtime.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Starts a server that responds to each request as the script returns.
    pub(crate) async fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (received, closed) = (watch::Sender::new(Vec::new()), watch::Sender::new(Vec::new()));
        let killed = watch::Sender::new(false);
        let shared = Arc::new(Shared {
            script: Box::new(script),
            received,
            closed,
            killed,
            written: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        let mut killed = shared.killed.subscribe();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = killed.wait_for(|killed| *killed) => break,
                };
                stream.set_nodelay(true).unwrap();
                let mut connection = 0;
                accepting.closed.send_modify(|closed| {
                    connection = closed.len();
                    closed.push(None);
                });
                tokio::spawn(serve(stream, connection, Arc::clone(&accepting)));
            }
        });
        Self { address, shared }
    }

    /// Starts a server that always responds the same.
    pub(crate) async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    /// Starts a server with these responses in order; the last one repeats.
    pub(crate) async fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::start(move |_| {
            let mut replies = replies.lock().unwrap();
            if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() }
        })
        .await
    }

    /// Starts a model that responds with `text`, streamed and with usage (7 in, 2 out) as
    /// requested.
    pub(crate) async fn says(text: &'static str) -> Self {
        Self::start(move |request| says(request, text)).await
    }

    /// Returns `http://127.0.0.1:port/v1`, for the file.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns every request received so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// Returns the only request received.
    pub(crate) fn only_request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// Ends like a killed process: the port is closed and every connection is reset.
    pub(crate) fn kill(&self) {
        self.shared.killed.send_replace(true);
    }

    /// Returns how many bytes could be written so far, on all connections.
    pub(crate) fn written(&self) -> usize {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Waits until the buffers on the path are full and the other side no longer reads; returns how
    /// many bytes it took.
    pub(crate) async fn stalled(&self) -> usize {
        let mut offered = 0;
        eventually("the servers stall", async || {
            let last = std::mem::replace(&mut offered, self.written());
            tokio::time::sleep(Duration::from_millis(300)).await;
            last == offered && offered > 0
        })
        .await;
        offered
    }

    /// Returns how many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.closed.borrow().len()
    }

    /// Waits until this many requests have arrived.
    pub(crate) async fn received(&self, count: usize) {
        let mut received = self.shared.received.subscribe();
        soon("the upstream request", received.wait_for(|list| list.len() >= count)).await.unwrap();
    }

    /// Waits for the request with this id; returns the index of its connection.
    pub(crate) async fn connection_of(&self, request_id: &str) -> usize {
        let mut received = self.shared.received.subscribe();
        let has = |request: &Received| request.header("x-request-id") == Some(request_id);
        let list = soon("the upstream request", received.wait_for(|list| list.iter().any(has)))
            .await
            .unwrap();
        list.iter().find(|request| has(request)).unwrap().connection
    }

    /// Waits until the other side has closed this connection; returns when it did.
    pub(crate) async fn closed(&self, connection: usize) -> Instant {
        let mut closed = self.shared.closed.subscribe();
        let is_closed =
            |list: &Vec<Option<Instant>>| list.get(connection).is_some_and(Option::is_some);
        let list =
            soon("the upstream connection's close", closed.wait_for(is_closed)).await.unwrap();
        list[connection].unwrap()
    }
}

/// Returns a well-behaved server's response to a chat, completion or embedding request.
pub(crate) fn says(request: &Received, text: &str) -> Reply {
    let is_chat =
        request.path.split('?').next().is_some_and(|path| path.ends_with("/chat/completions"));
    if request.path.ends_with("/embeddings") {
        return Reply::json(
            200,
            &embeddings(request.json()["input"].as_array().map_or(1, Vec::len)),
        );
    }
    if request.wants_stream() {
        let usage = request.json()["stream_options"]["include_usage"] == true;
        let say = if is_chat { Reply::text } else { Reply::completion_text };
        return text.split_inclusive(' ').fold(Reply::sse(), say).done(usage);
    }
    let choice = if is_chat {
        json!({"index":0,"message":{"role":"assistant","content":text},"finish_reason":"stop"})
    } else {
        json!({"index":0,"text":text,"finish_reason":"stop"})
    };
    Reply::json(
        200,
        &json!({"id":"c-1","object":"chat.completion","created":1,"model":"up","choices":[choice],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}),
    )
}

/// Returns a response that has begun, of the requested kind.
pub(crate) fn begun(request: &Received) -> Reply {
    match (request.wants_stream(), request.path.ends_with("/chat/completions")) {
        (true, true) => Reply::sse().text("Final Answer: one = 1\n").text("two = 2\n"),
        (true, false) => Reply::sse().completion_text("one"),
        // longer than the gateway buffers before it starts to respond
        (false, _) => {
            Reply::head(200, &[("content-type", "application/json")]).bytes(vec![b' '; 100 << 10])
        }
    }
}

fn embeddings(count: usize) -> Value {
    let data: Vec<Value> = (0..count)
        .map(|index| json!({"object":"embedding","index":index,"embedding":[0.5,-1.0]}))
        .collect();
    json!({"object":"list","model":"up","data":data,"usage":{"prompt_tokens":7,"total_tokens":7}})
}

async fn serve(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    let mut killed = shared.killed.subscribe();
    tokio::select! {
        () = answer_all(&stream, connection, &shared) => {}
        _ = killed.wait_for(|killed| *killed) => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
    }
    shared.closed.send_modify(|closed| closed[connection] = Some(Instant::now()));
}

async fn answer_all(stream: &TcpStream, connection: usize, shared: &Shared) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(stream, &mut buffer, connection).await {
        let reply = (shared.script)(&request);
        shared.received.send_modify(|list| list.push(request));
        let kept = tokio::select! {
            kept = play(stream, &reply, &shared.written) => kept,
            () = peer_closed(stream, &mut buffer) => false,
        };
        if !kept {
            break;
        }
    }
}

/// Performs the steps. Returns whether the connection is kept.
async fn play(stream: &TcpStream, reply: &Reply, written: &AtomicUsize) -> bool {
    for step in &reply.steps {
        let goes_on = match step {
            Step::Bytes(bytes) => write(stream, bytes, written).await,
            Step::Wait(time) => {
                tokio::time::sleep(*time).await;
                true
            }
            Step::Gate(gate) => {
                gate.notified().await;
                true
            }
            Step::Stall => std::future::pending().await,
            Step::Forever(bytes) => {
                while write(stream, bytes, written).await {}
                false
            }
            Step::Reset => {
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
        };
        if !goes_on {
            return false;
        }
    }
    reply.keep
}

async fn write(stream: &TcpStream, mut bytes: &[u8], written: &AtomicUsize) -> bool {
    while !bytes.is_empty() {
        if stream.writable().await.is_err() {
            return false;
        }
        match stream.try_write(bytes) {
            Ok(count) => {
                written.fetch_add(count, Ordering::Relaxed);
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}

/// Reads more. Returns false at the end.
async fn read(stream: &TcpStream, buffer: &mut Vec<u8>) -> bool {
    loop {
        if stream.readable().await.is_err() {
            return false;
        }
        let mut piece = [0; 16 * 1024];
        match stream.try_read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => {
                buffer.extend_from_slice(&piece[..count]);
                return true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

async fn peer_closed(stream: &TcpStream, buffer: &mut Vec<u8>) {
    while read(stream, buffer).await {}
}

async fn read_request(
    stream: &TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if !read(stream, buffer).await {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..head_end + 4).collect()).unwrap();
    let mut lines = head.lines();
    let mut request_line = lines.next()?.split(' ');
    let (method, path) = (request_line.next()?.to_owned(), request_line.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Received { method, path, headers, body: Vec::new(), connection };
    let length =
        request.header("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    assert!(request.header("transfer-encoding").is_none(), "the gateway knows its bodies' length");
    while buffer.len() < length {
        if !read(stream, buffer).await {
            return None;
        }
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}

/// A listener whose backlog is full: connecting to it never completes.
pub(crate) struct Deaf {
    pub(crate) address: SocketAddr,
    _sockets: Vec<socket2::Socket>,
}

impl Deaf {
    pub(crate) fn start() -> Self {
        let socket =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..8 {
            let filler = socket();
            filler.set_nonblocking(true).unwrap();
            // EINPROGRESS: the socket either took a slot in the backlog or proves that it is full
            let _ = filler.connect(&address.into());
            sockets.push(filler);
        }
        Self { address, _sockets: sockets }
    }
}
