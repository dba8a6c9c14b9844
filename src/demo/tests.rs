//! The demo's model server over a real socket, and the texts.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::model::ModelServer;
use super::{banner, config};
use crate::generation::{Delta, Generation, StopReason, Usage};
use crate::secret::Secret;
use crate::wire::{SseFrames, event_data};

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start(api_key: Option<&str>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let api_key = api_key.map(|key| Secret::new(key.to_owned()));
        let server = ModelServer { api_key, pace: Duration::from_millis(1) };
        Self { address, stop, served: tokio::spawn(server.serve(listener, stopped)) }
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        String::from_utf8(self.bytes(method, path, headers, body).await).unwrap()
    }

    async fn bytes(&self, method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}");
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        timeout(Duration::from_secs(5), stream.read_to_end(&mut response)).await.unwrap().unwrap();
        response
    }

    /// Returns the status and the JSON body.
    async fn post(&self, path: &str, body: Value) -> (String, Value) {
        let response = self.send("POST", path, "", &body.to_string()).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), serde_json::from_str(body).unwrap())
    }

    /// Returns the `data` of every event, and whether the body ended properly.
    async fn stream(&self, path: &str, body: Value) -> (Vec<String>, bool) {
        let response = self.send("POST", path, "", &body.to_string()).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        let lines = body.split("\r\n").collect::<Vec<_>>();
        // chunk sizes and chunk texts alternate
        let text: String = lines.iter().skip(1).step_by(2).copied().collect();
        let mut frames = SseFrames::new(1 << 20);
        frames.feed(text.into());
        let mut events = Vec::new();
        while let Some(event) = frames.next_event().unwrap() {
            events.push(String::from_utf8(event_data(&event).unwrap().into_owned()).unwrap());
        }
        (events, body.ends_with("\r\n0\r\n\r\n"))
    }
}

/// Returns the data of each chunk of a chunked body.
fn chunks(mut body: &[u8]) -> Vec<bytes::Bytes> {
    let mut chunks = Vec::new();
    while let Some(line) = memchr::memmem::find(body, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        chunks.push(bytes::Bytes::copy_from_slice(&body[line + 2..line + 2 + size]));
        body = &body[line + 2 + size + 2..];
    }
    chunks
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello there" }] })
}

const REPLY: &str =
    "You said: \"Hello there\". This is Weir's demo model: it repeats, it does not think.";

#[tokio::test]
async fn responds_with_one_json_value() {
    let server = Server::start(None);
    let (status, response) = server.post("/v1/chat/completions", chat("demo")).await;
    assert_eq!((status.as_str(), response["object"].as_str()), ("200", Some("chat.completion")));
    let choice = &response["choices"][0];
    assert_eq!(
        (choice["message"]["content"].as_str(), choice["finish_reason"].as_str()),
        (Some(REPLY), Some("stop"))
    );
    assert_eq!(
        response["usage"],
        json!({ "prompt_tokens": 2, "completion_tokens": 15, "total_tokens": 17 })
    );

    let parts = json!([{ "type": "text", "text": "def a():" }]);
    let request = json!({ "messages": [{ "role": "user", "content": parts }], "max_tokens": 3 });
    let (_, response) = server.post("/v1/chat/completions", request).await;
    assert_eq!(response["choices"][0]["message"]["content"], "You said: \"def");
    assert_eq!(response["choices"][0]["finish_reason"], "length");

    let (_, response) =
        server.post("/v1/completions", json!({ "model": "demo", "prompt": "def a():" })).await;
    let text = response["choices"][0]["text"].as_str().unwrap();
    assert!(
        response["object"] == "text_completion" && text.starts_with("\n    pass"),
        "{response}"
    );
}

#[tokio::test]
async fn streams_as_vllm_frames_it() {
    let server = Server::start(None);
    let mut request = chat("demo");
    (request["stream"], request["stream_options"]) =
        (true.into(), json!({ "include_usage": true }));
    let (events, ended) = server.stream("/v1/chat/completions", request.clone()).await;
    assert!(ended);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .collect::<String>();
    assert_eq!(text, REPLY);
    let [.., last, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(last["choices"][0]["delta"], json!({ "content": " think." }));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &15.into()));

    request["stream_options"] = Value::Null;
    let (events, _) = server.stream("/v1/chat/completions", request).await;
    assert!(events.iter().all(|event| !event.contains("usage")));

    let (events, _) =
        server.stream("/v1/completions", json!({ "prompt": "a", "stream": true })).await;
    assert!(events[0].contains("\"text\":\" and\""), "{}", events[0]);
}

/// Decoded by the dialect that decodes Bedrock's own frames.
#[tokio::test]
async fn streams_bedrocks_frames() {
    let server = Server::start(None);
    let request = json!({ "messages": [{ "role": "user", "content": [{ "text": "Hello there" }] }],
        "inferenceConfig": { "maxTokens": 4 } });
    let (status, full) = server.post("/model/demo/converse", request.clone()).await;
    assert_eq!((status.as_str(), &full["stopReason"]), ("200", &"max_tokens".into()));
    assert_eq!(
        full["output"]["message"]["content"],
        json!([{ "text": "You said: \"Hello there\"." }])
    );

    let response =
        server.bytes("POST", "/model/demo/converse-stream", "", &request.to_string()).await;
    let at = memchr::memmem::find(&response, b"\r\n\r\n").unwrap();
    assert!(
        memchr::memmem::find(&response[..at], b"content-type: application/vnd.amazon.eventstream")
            .is_some()
    );
    let bedrock = crate::provider::dialect(crate::model::ProviderKind::Bedrock);
    let (mut decoder, mut deltas) = (bedrock.stream_decoder(&Generation::default()), Vec::new());
    for chunk in chunks(&response[at + 4..]) {
        decoder.feed(chunk, &mut deltas).unwrap();
    }
    decoder.finish(&mut deltas).unwrap();
    let text: String = deltas
        .iter()
        .filter_map(|d| if let Delta::Text(text) = d { Some(&**text) } else { None })
        .collect();
    assert_eq!(text, "You said: \"Hello there\".");
    assert!(deltas.contains(&Delta::Stop(StopReason::Length)), "{deltas:?}");
    assert!(
        deltas.contains(&Delta::Usage(Usage { input: 2, output: 4, ..Usage::default() })),
        "{deltas:?}"
    );
}

#[tokio::test]
async fn streams_as_azure_does() {
    let server = Server::start(None);
    let mut request = chat("ignored");
    request["stream"] = true.into();
    let (events, ended) =
        server.stream("/openai/deployments/demo/chat/completions?api-version=x", request).await;
    let first: Value = serde_json::from_str(&events[0]).unwrap();
    assert!(
        ended && first["choices"] == json!([]) && first["prompt_filter_results"].is_array(),
        "{first}"
    );
}

#[tokio::test]
async fn refuses_as_vllm_does() {
    let server = Server::start(Some("sk-demo"));
    let response =
        server.send("POST", "/v1/chat/completions", "authorization: Bearer wrong\r\n", "{}").await;
    assert!(
        response.starts_with("HTTP/1.1 401 ") && response.ends_with("{\"error\":\"Unauthorized\"}"),
        "{response}"
    );
    let models = server.send("GET", "/v1/models", "authorization: Bearer sk-demo\r\n", "").await;
    assert!(models.contains("\"id\":\"demo-slow\""), "{models}");
    let health = server.send("GET", "/health", "", "").await;
    assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("\r\n\r\n"), "{health}");

    let server = Server::start(None);
    let (status, response) = server.post("/v1/chat/completions", chat("gpt-9")).await;
    assert_eq!((status.as_str(), &response["error"]["code"]), ("404", &404.into()));
    assert_eq!(response["error"]["message"], "The model `gpt-9` does not exist.");
    let (status, response) = server.post("/v1/chat/completions", json!({ "messages": "no" })).await;
    assert_eq!((status.as_str(), &response["error"]["type"]), ("400", &"BadRequestError".into()));
    let (status, _) = server.post("/v1/chat/completions", json!({ "model": "demo" })).await;
    assert_eq!(status, "400");
    let (status, response) = server.post("/v1/chat/completions", chat("demo-broken")).await;
    assert_eq!((status.as_str(), &response["error"]["code"]), ("500", &500.into()));
    let (status, response) = server.post("/nope", json!({})).await;
    assert_eq!((status.as_str(), response), ("404", json!({ "detail": "Not Found" })));
}

#[tokio::test]
async fn demo_cut_does_not_end_its_body() {
    let server = Server::start(None);
    let mut request = chat("demo-cut");
    let response = server.send("POST", "/v1/chat/completions", "", &request.to_string()).await;
    assert!(response.contains("200 OK") && !response.ends_with("0\r\n\r\n"), "{response}");
    request["stream"] = true.into();
    let (events, ended) = server.stream("/v1/chat/completions", request).await;
    assert!(!ended && events.len() == 8, "{events:?}");
}

#[tokio::test]
async fn demo_slow_sends_no_head_before_the_client_disconnects() {
    let server = Server::start(None);
    let slow = server.post("/v1/chat/completions", chat("demo-slow"));
    assert!(timeout(Duration::from_millis(300), slow).await.is_err());
    // a response still under way would delay this for five seconds
    server.stop.send(true).unwrap();
    timeout(Duration::from_secs(2), server.served).await.expect("serve returns").unwrap().unwrap();
}

#[tokio::test]
async fn embeds() {
    let server = Server::start(None);
    let (_, response) =
        server.post("/v1/embeddings", json!({ "model": "demo", "input": ["a b", "c"] })).await;
    assert_eq!(
        (response["data"].as_array().unwrap().len(), &response["usage"]["prompt_tokens"]),
        (2, &3.into())
    );
    assert_eq!(response["data"][1]["embedding"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn stops_on_its_signal() {
    let server = Server::start(None);
    server.send("GET", "/health", "", "").await;
    server.stop.send(true).unwrap();
    timeout(Duration::from_secs(2), server.served).await.expect("serve returns").unwrap().unwrap();
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_configuration_is_toml_without_placeholders() {
    let text =
        config(address("127.0.0.1:5052"), address("127.0.0.1:8082"), address("127.0.0.1:40001"));
    assert!(!text.contains('@'), "{text}");
    let file: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(file["server"]["listen"].as_str(), Some("127.0.0.1:5052"));
    assert_eq!(
        file["models"]["demo-slow"]["endpoints"][0].as_str(),
        Some("http://127.0.0.1:40001/v1")
    );
    for feature in file["features"].as_table().unwrap().keys().filter(|key| *key != "default") {
        assert!(crate::route::Feature::parse(feature).is_some(), "{feature}");
    }
}

#[test]
fn the_banner_fits_a_terminal() {
    let text = banner(address("127.0.0.1:5052"), address("127.0.0.1:8082"));
    assert!(!text.contains('@') && text.lines().count() <= 30, "{}", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
}
