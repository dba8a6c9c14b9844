//! How responses are framed (RFC 9112), by model servers and by us: every legal framing is read and
//! decides whether the connection is kept, and what is ambiguous is refused.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::support::{
    Answer, Client, End, Gateway, Reply, Upstream, chat_body, eventually, one_model, says, soon,
};

const BODY: &str = "{\"choices\":[{\"message\":{\"content\":\"Hi\"}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}";

/// Sends two chats in a row; returns the responses, and how many connections they took.
async fn two_chats(answer: &str, keep: bool) -> ([Answer; 2], usize) {
    let reply = if keep { Reply::kept(answer) } else { Reply::raw(answer) };
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let first = gateway.chat("m", false).await;
    if !keep {
        upstream.closed(0).await;
    }
    let second = gateway.chat("m", false).await;
    assert_eq!(upstream.requests().len(), 2);
    ([first, second], upstream.connections())
}

fn all_received(answers: &[Answer]) {
    for answer in answers {
        assert_eq!((answer.status(), answer.text(), answer.end), (200, BODY, End::Proper));
    }
}

#[tokio::test]
async fn every_legal_framing_is_read_and_kept() {
    let length = BODY.len();
    let (left, right) = BODY.split_at(10);
    for head_and_body in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{BODY}"),
        format!("HTTP/1.1 200\r\ncontent-length:{length}\r\n\r\n{BODY}"),
        format!(
            "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: {length}\r\n\r\n{BODY}"
        ),
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ncontent-length: {length}\r\n\r\n{BODY}"
        ),
        format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{BODY}"
        ),
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n{length:X};name=value\r\n{BODY}\r\n0\r\ntrailer: x\r\n\r\n"
        ),
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA\r\n{left}\r\n{:x}\r\n{right}\r\n000\r\n\r\n",
            right.len()
        ),
    ] {
        let (answers, connections) = two_chats(&head_and_body, true).await;
        all_received(&answers);
        assert_eq!(connections, 1, "{head_and_body}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    ] {
        let (answers, connections) = two_chats(&format!("{head}{BODY}"), false).await;
        all_received(&answers);
        assert_eq!(connections, 2, "{head}");
    }
}

#[tokio::test]
async fn a_connection_that_is_to_close_is_not_used_again() {
    // the server announces a close and does not close
    for head in [
        "HTTP/1.1 200 OK\r\nconnection: close",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 200 OK\r\nConnection: x, CLOSE",
    ] {
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        let (answers, connections) = two_chats(&answer, true).await;
        all_received(&answers);
        assert_eq!(connections, 2, "{head}");
    }
}

#[tokio::test]
async fn empty_answers_are_answers() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (answers, connections) = two_chats(head, true).await;
        for answer in answers {
            assert_eq!(
                (answer.status(), answer.text(), answer.end),
                (200, "", End::Proper),
                "{head}"
            );
        }
        assert_eq!(connections, 1, "{head}");
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_next_answer() {
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL";
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()),
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{BODY}\r\n0\r\n\r\n{smuggled}",
            BODY.len()
        ),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{smuggled}"),
    ] {
        let (answers, _) = two_chats(&answer, true).await;
        for answer in answers {
            assert!(!answer.everything().contains("EVIL"), "{answer:?}");
        }
    }
    // and those that arrive later, while the connection is idle
    let gate = Arc::new(Notify::new());
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let both = answer.len() + smuggled.len();
    let upstream = Upstream::always(Reply::kept(answer).gate(&gate).bytes(smuggled)).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    all_received(&[gateway.chat("m", false).await]);
    gate.notify_one();
    eventually("the bytes behind it", async || upstream.written() >= both).await;
    all_received(&[gateway.chat("m", false).await]);
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    for headers in [
        "content-length: 1\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "content-length: 1, 2",
        "content-length: -1",
        "content-length: 99999999999999999999",
    ] {
        let upstream = Upstream::always(Reply::raw(format!(
            "HTTP/1.1 200 OK\r\n{headers}\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )))
        .await;
        let gateway = Gateway::with_model(&upstream, "").await;
        let answer = gateway.chat("m", false).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["code"]),
            (502, &json!("upstream_broken")),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn an_endless_head_is_refused_and_not_held() {
    // of headers, and of one header
    for (begun, more) in [
        ("HTTP/1.1 200 OK\r\n", &b"x-pad: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"[..]),
        ("HTTP/1.1 200 OK\r\nx-pad: ", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ] {
        let upstream = Upstream::always(Reply::raw(begun).repeated(more)).await;
        let gateway = Gateway::with_model(&upstream, "").await;
        let answer = gateway.chat("m", false).await;
        assert_eq!(answer.status(), 502, "{}", answer.text());
        upstream.closed(0).await;
    }
}

#[tokio::test]
async fn an_endless_answer_is_refused_and_not_held() {
    let json = [("content-type", "application/json")];
    let upstream = Upstream::always(Reply::head(200, &json).forever(&[b' '; 64 << 10])).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let received =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let answer = gateway.post("/v1/messages", &received).await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
    upstream.closed(0).await;
}

/// Starts a server on one connection that reads a little, sends `early`, and then does the rest.
async fn early<F: Future<Output = ()> + Send>(
    early: String,
    rest: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Gateway {
    let socket = TcpSocket::new_v4().unwrap();
    // accepted sockets inherit it: little fits between the two sides
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(early.as_bytes()).await.unwrap();
        rest(stream).await;
    });
    Gateway::start(&format!("{}[timeouts]\nfirst_byte = \"9s\"\n", one_model(&url))).await
}

/// More than the socket buffers of both sides hold (Linux sends at most 4 MiB ahead).
const LARGE: usize = 6 << 20;

fn large_chat() -> String {
    format!("{{\"model\":\"m\",\"pad\":\"{}\"}}", "x".repeat(LARGE))
}

async fn send_large(gateway: &Gateway) -> Answer {
    gateway.call("POST", "/v1/chat/completions", &[], large_chat().as_bytes()).await
}

#[tokio::test]
async fn a_server_that_refuses_before_it_has_read_the_body_is_heard() {
    let refusal = "{\"error\":{\"message\":\"too long for me\"}}";
    let answer =
        format!("HTTP/1.1 413 Too Large\r\ncontent-length: {}\r\n\r\n{refusal}", refusal.len());
    let gateway = early(answer, async |stream| {
        // reads no more, and keeps the connection
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let answer = send_large(&gateway).await;
    assert_eq!((answer.status(), answer.text()), (413, refusal));
}

#[tokio::test]
async fn an_interim_answer_does_not_stop_the_body() {
    let gateway = early("HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(), async |mut stream| {
        let mut all = Vec::with_capacity(LARGE);
        while all.len() < LARGE - 4096 || !all.ends_with(b"}") {
            assert!(stream.read_buf(&mut all).await.unwrap() > 0);
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let answer = send_large(&gateway).await;
    assert_eq!((answer.status(), answer.text()), (200, BODY));
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_bytes_and_a_close() {
    let upstream = Upstream::start(|request| says(request, "one two")).await;
    let gateway = Gateway::start(&one_model(&upstream.url())).await;
    for stream in [true, false] {
        let body = chat_body("m", stream).to_string();
        let mut tcp = TcpStream::connect(gateway.public).await.unwrap();
        let head =
            format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        tcp.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the close", tcp.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200") && !head.contains("chunked"), "{head}");
        let (start, end) = if stream { ("data: {", "data: [DONE]\n\n") } else { ("{", "}") };
        assert!(body.starts_with(start) && body.ends_with(end) && body.contains("two"), "{body}");
    }
}

#[tokio::test]
async fn a_long_answer_of_known_length_keeps_its_length_and_the_connection() {
    let text = "x".repeat(1 << 20);
    let upstream = Upstream::start(move |request| says(request, &text)).await;
    let gateway = Gateway::start(&one_model(&upstream.url())).await;
    let mut client = Client::connect(gateway.public).await;
    for _ in 0..3 {
        let answer = client
            .call("POST", "/v1/chat/completions", &[], chat_body("m", false).to_string().as_bytes())
            .await;
        assert_eq!(
            (answer.status(), answer.end, answer.header("transfer-encoding")),
            (200, End::Proper, None)
        );
        let length = answer.header("content-length").unwrap().parse::<usize>().unwrap();
        assert_eq!(
            (length, answer.json()["choices"][0]["message"]["content"].as_str().unwrap().len()),
            (answer.body.len(), 1 << 20)
        );
    }
}
