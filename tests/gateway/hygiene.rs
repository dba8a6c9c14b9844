//! Which headers of a client's request go to a model server, and that one request stays one
//! request, however it is framed.

use serde_json::json;

use crate::support::{Client, Gateway, Reply, Upstream, chat_body};

/// Headers that a client may send, honestly or not.
const STRANGERS: [(&str, &str); 12] = [
    ("accept-encoding", "gzip, br"),
    ("cookie", "session=canary"),
    ("x-forwarded-for", "canary"),
    ("forwarded", "for=canary"),
    ("x-canary", "canary"),
    ("connection", "keep-alive, x-hop"),
    ("x-hop", "canary"),
    ("te", "trailers"),
    ("proxy-authorization", "Basic canary"),
    ("x-gitlab-global-user-id", "canary"),
    ("user-agent", "canary"),
    ("openai-organization", "canary"),
];
/// The headers of any request to a model server: ours, the type, and what a dialect's own clients
/// may choose.
const KNOWN: [&str; 8] = [
    "host",
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "user-agent",
    "x-request-id",
    "traceparent",
];

#[tokio::test]
async fn of_a_clients_headers_an_allow_list_goes_upstream() {
    let reply = Reply::json(
        200,
        &json!({"choices": [{"message": {"content": "Hi"}}], "content": [], "data": []}),
    );
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let code = json!({"prompt_version": 1, "current_file": {"file_name": "a.py", "content_above_cursor": "x", "content_below_cursor": ""}});
    for (path, body) in [
        ("/v1/chat/completions", chat_body("m", false)),
        ("/v1/embeddings", json!({"model": "m", "input": "x"})),
        (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}),
        ),
        ("/v1/chat/agent", json!({"prompt_components": [{"payload": {"content": "Hello"}}]})),
        ("/v2/code/completions", code),
    ] {
        let before = upstream.requests().len();
        gateway.call("POST", path, &STRANGERS, body.to_string().as_bytes()).await;
        let sent = &upstream.requests()[before..];
        assert!(!sent.is_empty(), "{path}");
        for request in sent {
            let head = request.head_text();
            assert!(!head.contains("canary"), "{path}: {head}");
            assert_eq!(
                request.header("accept-encoding"),
                Some("identity"),
                "{path}: streams are read as they are"
            );
            let names = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name.to_ascii_lowercase());
            let strange: Vec<String> =
                names.filter(|name| !KNOWN.contains(&name.as_str())).collect();
            assert_eq!(strange, [] as [&str; 0], "{path}: {head}");
        }
    }
}

#[tokio::test]
async fn a_smuggled_request_is_never_answered() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let body = chat_body("m", false).to_string();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    let smuggled = "GET /monitoring/healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n";
    let all = chunked.len() + smuggled.len();
    // two lengths for two readers: a length that both agree on ends the connection, the others are
    // refused
    for (framing, content) in [
        (format!("content-length: {all}\r\ntransfer-encoding: chunked\r\n"), &chunked),
        (format!("transfer-encoding: chunked\r\ncontent-length: {all}\r\n"), &chunked),
        (format!("content-length: {}\r\ncontent-length: {all}\r\n", body.len()), &body),
        (format!("content-length: +{}\r\n", body.len()), &body),
        (format!("content-length: {}, {all}\r\n", body.len()), &body),
        ("transfer-encoding: xchunked\r\n".to_owned(), &chunked),
        ("transfer-encoding: chunked, identity\r\n".to_owned(), &chunked),
        (format!("transfer-encoding : chunked\r\ncontent-length: {all}\r\n"), &chunked),
        (format!("x: y\r\n transfer-encoding: chunked\r\ncontent-length: {all}\r\n"), &chunked),
        (format!("x: y\rtransfer-encoding: chunked\r\ncontent-length: {all}\r\n"), &chunked),
    ] {
        let before = upstream.requests().len();
        let mut client = Client::connect(gateway.public).await;
        client.write(format!("{head}{framing}\r\n{content}{smuggled}")).await;
        if let Some(head) = client.try_head().await {
            let answer = client.body(head, false).await;
            assert!(matches!(answer.status(), 200 | 400), "{framing}: {}", answer.text());
            assert_eq!(
                upstream.requests().len() - before,
                usize::from(answer.status() == 200),
                "{framing}"
            );
        }
        assert!(client.try_head().await.is_none(), "{framing}: the second request was answered");
    }
}

#[tokio::test]
async fn a_model_servers_header_cannot_become_two() {
    for head in [
        "content-type: application/json\rset-cookie: canary=1",
        "content-type: application/json\r\n set-cookie: canary=1",
        "content-type: application/json\r\nx: \0set-cookie: canary=1",
        "content-type: application/json\nset-cookie : canary=1",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: 2\r\n\r\n{{}}");
        let upstream = Upstream::always(Reply::raw(answer)).await;
        let gateway = Gateway::with_model(&upstream, "").await;
        let answer = gateway.chat("m", false).await;
        assert_eq!(answer.status(), 502, "{head:?}: {answer:?}");
        assert!(
            answer.header("set-cookie").is_none() && !answer.everything().contains("canary"),
            "{answer:?}"
        );
    }
}
