//! Hostile and broken requests: a 4xx that names the fault, nothing sent upstream, no panic, and
//! nothing internal in the response.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Upstream, chat_body};

const KEY: &str = "sk-canary-bad-input";

struct House {
    gateway: Gateway,
    upstream: Upstream,
}

impl House {
    async fn with(more: &str) -> Self {
        let upstream = Upstream::says("Hi").await;
        let model = format!("[models.m]\nendpoint = \"{}\"\napi_key = \"{KEY}\"\n", upstream.url());
        let gateway = Gateway::start(&format!("{model}[features]\ndefault = \"m\"\n{more}")).await;
        Self { gateway, upstream }
    }

    async fn post(&self, path: &str, body: &[u8]) -> Answer {
        let answer = self.gateway.call("POST", path, &[("x-pad", "1")], body).await;
        reveals_nothing(&answer);
        answer
    }

    /// Asserts that nothing went upstream, nothing failed on our side, and the gateway still
    /// serves.
    async fn unharmed(&self) {
        assert!(self.upstream.requests().is_empty(), "{:?}", self.upstream.requests());
        let metrics = self.gateway.metrics().await;
        assert_eq!(
            metrics.sum("weir_requests_total", &[("outcome", "internal")]),
            0.0,
            "{}",
            metrics.text
        );
        assert_eq!(self.gateway.chat("m", false).await.status(), 200);
    }
}

fn reveals_nothing(answer: &Answer) {
    let text = answer.everything();
    for ours in [KEY, ".rs", "src/", env!("CARGO_MANIFEST_DIR"), "panicked", "127.0.0.1"] {
        assert!(!text.contains(ours), "`{ours}` in {text}");
    }
}

const POSTS: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/chat/agent",
    "/v2/chat/agent",
    "/v1/prompts/model_configuration/check",
];

#[tokio::test]
async fn bodies_that_are_not_json_are_422_with_a_list() {
    let house = House::with("").await;
    let bodies: [&[u8]; 8] = [
        b"{",
        b"{\"model\":\"m\"",
        b"{\"model\":\"m\",}",
        b"{'model':'m'}",
        b"nonsense",
        b"\xff\xfe\xfd",
        b"{\"model\":\"m\"} trailing",
        b"\x00",
    ];
    for path in POSTS {
        for body in bodies {
            let answer = house.post(path, body).await;
            let shown = String::from_utf8_lossy(body);
            assert_eq!(answer.status(), 422, "{path} {shown}: {}", answer.text());
            let detail = answer.json()["detail"].clone();
            assert_eq!(detail[0]["loc"][0], "body", "{path} {shown}: {detail}");
            assert!(detail[0]["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{detail}");
            assert!(detail[0]["type"].is_string(), "{detail}");
        }
    }
    // a field that Weir reads must be text; the model server judges what passes through
    for path in &POSTS[..3] {
        assert_eq!(house.post(path, b"{\"model\":\"\xc3\x28\"}").await.status(), 422, "{path}");
    }
    house.unharmed().await;
}

#[tokio::test]
async fn an_absent_body_is_422() {
    let house = House::with("").await;
    for path in POSTS {
        let answer = house.gateway.call("POST", path, &[("content-length", "0")], b"").await;
        assert_eq!(
            (answer.status(), &answer.json()["detail"][0]["type"]),
            (422, &json!("missing")),
            "{path}"
        );
    }
    house.unharmed().await;
}

#[tokio::test]
async fn fields_of_the_wrong_type_are_named() {
    let house = House::with("").await;
    let cases: [(Value, &str, Value, &str); 8] = [
        (json!({}), "missing", json!(["body", "model"]), "model"),
        (json!({"model": null}), "missing", json!(["body", "model"]), "model"),
        (json!({"model": 7}), "type_error", json!(["body", "model"]), "model"),
        (json!({"model": ["m"]}), "type_error", json!(["body", "model"]), "model"),
        (json!({"model": "m", "stream": "yes"}), "type_error", json!(["body", "stream"]), "stream"),
        (json!({"model": "m", "stream": 1}), "type_error", json!(["body", "stream"]), "stream"),
        (
            json!({"model": "m", "stream": true, "stream_options": [true]}),
            "type_error",
            json!(["body", "stream_options"]),
            "stream_options",
        ),
        (
            json!({"model": {"a": 1}, "messages": []}),
            "type_error",
            json!(["body", "model"]),
            "model",
        ),
    ];
    for (body, kind, loc, param) in cases {
        let answer = house.post("/v1/chat/completions", body.to_string().as_bytes()).await;
        let stated = answer.json();
        assert_eq!(
            (answer.status(), &stated["detail"][0]["type"]),
            (422, &json!(kind)),
            "{body}: {stated}"
        );
        assert_eq!(
            (&stated["detail"][0]["loc"], &stated["error"]["param"]),
            (&loc, &json!(param)),
            "{body}"
        );
        assert_eq!(stated["error"]["type"], "invalid_request_error");
    }
    for body in ["[]", "7", "\"text\"", "null", "true"] {
        assert_eq!(
            house.post("/v1/chat/completions", body.as_bytes()).await.status(),
            422,
            "{body}"
        );
    }
    house.unharmed().await;
}

#[tokio::test]
async fn deep_nesting_harms_nobody() {
    let house = House::with("").await;
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let (lists, objects) =
        (deep("[", "]"), format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)));
    for path in POSTS {
        for body in [&lists, &"[".repeat(100_000)] {
            assert_eq!(house.post(path, body.as_bytes()).await.status(), 422, "{path}");
        }
    }
    // unknown fields are skipped, however deep: what is missing is reported
    for path in &POSTS[..4] {
        let answer = house.post(path, objects.as_bytes()).await;
        assert_eq!(
            (answer.status(), &answer.json()["detail"][0]["type"]),
            (422, &json!("missing")),
            "{path}"
        );
    }
    let inside = [
        format!("{{\"model\":\"m\",\"stream\":true,\"stream_options\":{objects}}}"),
        format!("{{\"model\":{lists}}}"),
    ];
    for body in inside {
        assert_eq!(house.post("/v1/chat/completions", body.as_bytes()).await.status(), 422);
    }
    let body = format!("{{\"prompt_components\":[{{\"payload\":{{\"content\":{lists}}}}}]}}");
    assert_eq!(house.post("/v1/chat/agent", body.as_bytes()).await.status(), 422);
    house.unharmed().await;
}

#[tokio::test]
async fn repeated_fields_do_not_smuggle_a_second_model() {
    let house = House::with("").await;
    let body = br#"{"model":"m","model":"other","messages":[]}"#;
    let answer = house.post("/v1/chat/completions", body).await;
    assert_eq!(answer.status(), 422, "{}", answer.text());
    house.unharmed().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_before_it_is_read() {
    let house = House::with("[limits]\nmax_body = \"1KiB\"\n").await;
    // announced: refused although not one byte of it was sent
    let mut client = Client::connect(house.gateway.public).await;
    client
        .write("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 1025\r\n\r\n")
        .await;
    let head = client.head().await;
    let answer = client.body(head, false).await;
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (413, &json!("body_too_large")));
    // chunked: refused when the bytes have come
    let mut client = Client::connect(house.gateway.public).await;
    client
        .write("POST /v1/chat/agent HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        client.write(format!("200\r\n{}\r\n", "x".repeat(512))).await;
    }
    assert_eq!(client.head().await.status, 413);
    house.unharmed().await;
    let mut fits = chat_body("m", false);
    fits["pad"] = json!("x".repeat(1024 - fits.to_string().len() - 9));
    assert_eq!(fits.to_string().len(), 1024);
    assert_eq!(house.post("/v1/chat/completions", fits.to_string().as_bytes()).await.status(), 200);
}

#[tokio::test]
async fn chunked_bodies_are_read_like_others() {
    let house = House::with("").await;
    let mut client = Client::connect(house.gateway.public).await;
    client
        .write(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    for piece in chat_body("m", false).to_string().as_bytes().chunks(7) {
        client.write([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let mut expected = chat_body("up", false);
    expected["model"] = json!("m");
    assert_eq!(house.upstream.only_request().json(), expected);
}

#[tokio::test]
async fn headers_over_the_limit_are_431() {
    let house = House::with("[limits]\nmax_headers = \"8KiB\"\n").await;
    let mut client = Client::connect(house.gateway.public).await;
    client
        .write(format!(
            "GET /monitoring/healthz HTTP/1.1\r\nhost: h\r\nx-big: {}\r\n\r\n",
            "x".repeat(64 * 1024)
        ))
        .await;
    assert_eq!(client.head().await.status, 431);
    let many: String = (0..2000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut client = Client::connect(house.gateway.public).await;
    client
        .write(format!("GET /monitoring/healthz HTTP/1.1\r\nhost: h\r\n{}\r\n", &many[..6000]))
        .await;
    assert_eq!(client.head().await.status, 431);
    house.unharmed().await;
}

#[tokio::test]
async fn what_is_not_http_is_400_or_closed() {
    let house = House::with("").await;
    let rubbish: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/7.7\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n{}",
    ];
    for bytes in rubbish {
        let mut client = Client::connect(house.gateway.public).await;
        client.write(bytes).await;
        let status = client.try_head().await.map(|head| head.status);
        assert!(
            matches!(status, None | Some(400)),
            "{status:?} for {}",
            String::from_utf8_lossy(bytes)
        );
    }
    house.unharmed().await;
}

#[tokio::test]
async fn clients_that_do_not_finish_are_let_go() {
    let house =
        House::with("[limits]\nheader_timeout = \"100ms\"\nbody_timeout = \"100ms\"\n").await;
    let mut slow_head = Client::connect(house.gateway.public).await;
    slow_head.write("GET /monitoring/healthz HTTP/1.1\r\nhost: h\r\nx-unfinished: ").await;
    let mut slow_body = Client::connect(house.gateway.public).await;
    slow_body
        .write("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n{")
        .await;
    assert!(slow_head.is_closed().await);
    let head = slow_body.head().await;
    assert_eq!(head.status, 408);
    house.unharmed().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_its_body_harms_nobody() {
    let house = House::with("").await;
    let mut client = Client::connect(house.gateway.public).await;
    client.write("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-request-id: broke-off\r\ncontent-length: 100\r\n\r\n{\"mod").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(client);
    let line = house.gateway.log.line("broke-off").await;
    assert_ne!(line["outcome"], "ok", "{line}");
    assert_ne!(line["outcome"], "internal", "{line}");
    house.unharmed().await;
}

#[tokio::test]
async fn beyond_the_permits_and_the_queue_it_is_503_with_retry_after() {
    let upstream = Upstream::always(crate::support::Reply::stalled()).await;
    let gateway =
        Gateway::with_model(&upstream, "[limits]\nin_flight = 1\nqueue = 0\nqueue_wait = \"9s\"\n")
            .await;
    let _first = gateway.open_chat("m", true).await;
    upstream.received(1).await;
    let answer = gateway.chat("m", false).await;
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (503, &json!("overloaded")));
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains("limits.in_flight, limits.queue"), "at once: {}", answer.text());
    assert_eq!(gateway.line(&answer).await["outcome"], "overload");
    // probes pass
    assert_eq!(gateway.get("/monitoring/healthz").await.status(), 200);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let house = House::with("[limits]\nconnections_per_client = 2\n").await;
    let mut first = Client::connect(house.gateway.public).await;
    let mut second = Client::connect(house.gateway.public).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
    }
    let mut third = Client::connect(house.gateway.public).await;
    third.write("GET /monitoring/healthz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(third.try_head().await.is_none());
    // the admin listener is not counted
    assert_eq!(house.gateway.metrics().await.sum("weir_connections_refused_total", &[]), 1.0);
    drop(first);
    crate::support::eventually("the slot of the closed connection", async || {
        let mut client = Client::connect(house.gateway.public).await;
        client.write("GET /monitoring/healthz HTTP/1.1\r\nhost: h\r\n\r\n").await;
        client.try_head().await.is_some()
    })
    .await;
    assert_eq!(second.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
}

#[tokio::test]
async fn a_connection_that_is_kept_is_closed_when_nothing_comes() {
    let house = House::with("[limits]\nheader_timeout = \"150ms\"\n").await;
    let mut silent = Client::connect(house.gateway.public).await;
    let mut idle = Client::connect(house.gateway.public).await;
    assert_eq!(idle.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
    let mut streamed = house.gateway.open_chat("m", true).await;
    let head = streamed.head().await;
    assert_eq!(streamed.body(head, false).await.status(), 200);
    for client in [&mut silent, &mut idle, &mut streamed] {
        assert!(client.is_closed().await);
    }
}
