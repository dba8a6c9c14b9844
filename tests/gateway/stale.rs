//! Model servers that close, cut, send rubbish or too much: one free retry of a kept connection
//! that died, otherwise a clean error; a broken stream never looks complete.

use serde_json::{Value, json};

use crate::support::{Answer, End, Gateway, Reply, Upstream, chat_body, one_model};

fn whole() -> Reply {
    Reply::json(200, &json!({"choices": [{"message": {"content": "Hi"}}]}))
}

async fn behind(reply: Reply) -> (Gateway, Upstream) {
    let upstream = Upstream::always(reply).await;
    (Gateway::with_model(&upstream, "").await, upstream)
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_once_unseen() {
    // the second request reaches the old connection, which closes without a byte of an answer
    let upstream = Upstream::script([whole(), Reply::closed(), whole()]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    let answer = gateway.chat("m", false).await;
    assert_eq!(
        (answer.status(), &answer.json()["choices"][0]["message"]["content"]),
        (200, &json!("Hi"))
    );
    assert_eq!(gateway.line(&answer).await["retries"], 1);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!((requests[1].connection, requests[2].connection), (0, 1));
    assert_eq!(requests[1].body, requests[2].body);
    assert_eq!(gateway.metrics().await.sum("weir_retries_total", &[("model", "m")]), 1.0);
}

#[tokio::test]
async fn a_reset_kept_connection_is_replaced_too() {
    let upstream = Upstream::script([whole(), Reply::closed().reset(), whole()]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    assert_eq!(gateway.chat("m", false).await.status(), 200);
}

#[tokio::test]
async fn a_server_that_closed_meanwhile_costs_no_retry() {
    let upstream = Upstream::script([whole().then_close(), whole()]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    upstream.closed(0).await;
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let (gateway, upstream) = behind(Reply::closed()).await;
    clean_502(&gateway, &gateway.chat("m", false).await, "upstream_broken").await;
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn the_replay_is_not_replayed() {
    let upstream = Upstream::script([whole(), Reply::closed()]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    clean_502(&gateway, &gateway.chat("m", false).await, "upstream_broken").await;
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_requested_again() {
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"choices\":[";
    let upstream = Upstream::script([whole(), Reply::raw(begun), whole()]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    assert_eq!(gateway.chat("m", false).await.status(), 200);
    let answer = gateway.chat("m", false).await;
    assert!(answer.end == End::Cut || answer.status() == 502, "{answer:?}");
    assert_eq!(upstream.requests().len(), 2);
}

/// Asserts a 502 in OpenAI's shape, counted as the model server's failure, with none of its bytes
/// in the body.
async fn clean_502(gateway: &Gateway, answer: &Answer, code: &str) {
    assert_eq!((answer.status(), answer.end), (502, End::Proper), "{}", answer.text());
    assert_eq!(
        (&answer.json()["error"]["code"], answer.header("x-weir-error")),
        (&json!(code), Some(code))
    );
    let line = gateway.line(answer).await;
    assert_eq!(
        (&line["outcome"], &line["error_code"]),
        (&json!("upstream_error"), &json!(code)),
        "{line}"
    );
    assert!(
        line["note"].as_str().is_some_and(|note| !note.is_empty()),
        "the operator's note is longer: {line}"
    );
    assert!(
        !answer.text().contains("127.0.0.1"),
        "the address stays in the log: {}",
        answer.text()
    );
    assert_eq!(
        gateway.metrics().await.sum("weir_errors_total", &[("code", code), ("model", "m")]),
        1.0
    );
}

const GARBAGE: [&[u8]; 8] = [
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01",
    b"\0\0\0\0\0\0\0\0\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n",
];

#[tokio::test]
async fn garbage_is_a_clean_502() {
    let (mut file, mut upstreams) = (String::new(), Vec::new());
    for (index, garbage) in GARBAGE.into_iter().enumerate() {
        upstreams.push(Upstream::always(Reply::raw(garbage)).await);
        file.push_str(&format!("[models.g{index}]\nendpoint = \"{}\"\n", upstreams[index].url()));
    }
    let gateway = Gateway::start(&file).await;
    let mut answers = Vec::new();
    for index in 0..GARBAGE.len() {
        for stream in [false, true] {
            let answer = gateway.chat(&format!("g{index}"), stream).await;
            assert_eq!(
                (answer.status(), answer.end),
                (502, End::Proper),
                "{index}: {}",
                answer.text()
            );
            assert_eq!(answer.json()["error"]["code"], "upstream_broken", "{index}");
            answers.push(answer);
        }
    }
    for answer in answers {
        let line = gateway.line(&answer).await;
        assert_eq!(
            (&line["outcome"], &line["error_code"]),
            (&json!("upstream_error"), &json!("upstream_broken"))
        );
    }
}

#[tokio::test]
async fn a_refused_connection_is_a_clean_502() {
    let gateway = Gateway::start(&crate::support::one_model("http://127.0.0.1:9/v1")).await;
    let answer = gateway.chat("m", true).await;
    clean_502(&gateway, &answer, "upstream_connect").await;
    assert_eq!(gateway.line(&answer).await["phase"], "connect");
}

/// Returns what the client received before the failure, and the event that reports it.
async fn broken_stream(reply: Reply) -> (String, Value) {
    let (gateway, upstream) = behind(reply).await;
    let answer = gateway.chat("m", true).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
    assert!(
        !answer.text().contains("[DONE]"),
        "a broken stream must not look complete: {}",
        answer.text()
    );
    let mut events = answer.events();
    let last: Value = serde_json::from_str(&events.pop().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "upstream_broken", "{last}");
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["outcome"], &line["status"]),
        (&json!("upstream_error"), &json!(200)),
        "{line}"
    );
    upstream.closed(0).await;
    (events.concat(), last)
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_event() {
    let cut = Reply::sse().text("one");
    let (stated, _) = broken_stream(cut.clone().then_close()).await;
    assert!(stated.contains("one"), "{stated}");
    let (stated, _) = broken_stream(cut.bytes("data: {\"half").then_close()).await;
    assert!(
        stated.contains("one") && !stated.contains("half"),
        "half an event is not passed on: {stated}"
    );
}

#[tokio::test]
async fn a_reset_stream_ends_with_an_error_event() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let upstream = Upstream::always(Reply::sse().text("one").gate(&gate).reset()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut client = gateway.open_chat("m", true).await;
    let head = client.head().await;
    client.read_until("one").await;
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert!(
        answer.end == End::Proper && answer.text().contains("upstream_broken"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_stream_that_ends_cleanly_without_an_end_marker_is_broken_too() {
    let (gateway, _upstream) = behind(Reply::sse().text("one").end()).await;
    let answer = gateway.chat("m", true).await;
    let events = answer.events();
    assert!(events[0].contains("one") && events[1].contains("upstream_broken"), "{events:?}");
    // with a length the same: what came before the end reaches the client
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n";
    let (gateway, _upstream) =
        behind(Reply::whole(200, &[("content-type", "text/event-stream")], text)).await;
    let answer = gateway.chat("m", true).await;
    let events = answer.events();
    assert!(events[0].contains("one") && events[1].contains("upstream_broken"), "{events:?}");
}

#[tokio::test]
async fn an_event_of_ten_megabytes_is_an_error_and_not_held() {
    let huge = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(10 << 20)
    );
    let (stated, _) = broken_stream(Reply::sse().text("one").bytes(huge.as_str()).stall()).await;
    assert!(stated.contains("one") && stated.len() < 1000, "{} bytes", stated.len());
    // and where it is translated, in either direction
    let translated = async |reply: Reply, identifier: &str, path: &str| {
        let upstream = Upstream::always(reply.stall()).await;
        let model = one_model(&upstream.url()).replace("custom_openai/up", identifier);
        let gateway = Gateway::start(&model).await;
        let mut received = chat_body("m", true);
        received["max_tokens"] = json!(9);
        let answer = gateway.post(path, &received).await;
        let text = answer.text();
        assert!(
            text.contains("one") && text.contains("error") && text.len() < 3000,
            "{path}: {} bytes",
            text.len()
        );
        upstream.closed(0).await;
    };
    translated(Reply::sse().text("one").bytes(huge), "custom_openai/up", "/v1/messages").await;
    let delta = |text: &str| {
        let delta = json!({"type": "text_delta", "text": text});
        json!({"type": "content_block_delta", "index": 0, "delta": delta}).to_string()
    };
    let theirs = Reply::sse().event(delta("one")).event(delta(&"x".repeat(10 << 20)));
    translated(theirs, "anthropic/claude", "/v1/chat/completions").await;
}

#[tokio::test]
async fn an_error_before_the_first_word_is_a_status() {
    let error = r#"{"error":{"message":"model is loading","type":"server_error","code":503}}"#;
    let (gateway, upstream) = behind(Reply::sse().event(error).event("[DONE]").end()).await;
    let answer = gateway.chat("m", true).await;
    assert_eq!((answer.status(), answer.json()), (502, serde_json::from_str(error).unwrap()));
    assert_eq!(gateway.line(&answer).await["outcome"], "upstream_error");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn an_error_after_the_first_word_passes_and_is_counted() {
    let error = r#"{"error":{"message":"cuda","code":500}}"#;
    let (gateway, _upstream) = behind(Reply::sse().text("one").event(error).end()).await;
    let answer = gateway.chat("m", true).await;
    assert_eq!(answer.events().last().map(String::as_str), Some(error));
    assert_eq!(gateway.line(&answer).await["outcome"], "upstream_error");
}

#[tokio::test]
async fn a_stream_without_a_single_event_is_an_error() {
    let (gateway, _upstream) = behind(Reply::sse().end()).await;
    clean_502(&gateway, &gateway.chat("m", true).await, "upstream_broken").await;
}

#[tokio::test]
async fn a_whole_answer_to_a_streamed_request_passes_as_it_is() {
    let (gateway, _upstream) = behind(whole()).await;
    let answer = gateway.chat("m", true).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hi");
}

#[tokio::test]
async fn a_whole_answer_that_breaks_off_is_an_error_or_cut() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{\"choices\":[";
    let (gateway, _upstream) = behind(Reply::raw(head)).await;
    clean_502(&gateway, &gateway.chat("m", false).await, "upstream_broken").await;
    // a response larger than the gateway's buffer has begun
    let (gateway, _upstream) = behind(Reply::raw(format!("{head}{}", "x".repeat(80_000)))).await;
    let answer = gateway.chat("m", false).await;
    assert_eq!((answer.status(), answer.end), (200, End::Cut));
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["outcome"], &line["error_code"]),
        (&json!("upstream_error"), &json!("upstream_broken")),
        "{line}"
    );
}

#[tokio::test]
async fn hop_by_hop_headers_and_the_servers_name_stay_behind() {
    let headers = [
        ("content-type", "application/json"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("upgrade", "h2c"),
        ("server", "uvicorn"),
        ("set-cookie", "a=1"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=9"),
        ("anthropic-organization-id", "theirs"),
        ("x-kept", "2"),
    ];
    let (gateway, _upstream) = behind(Reply::whole(200, &headers, "{}")).await;
    let answer = gateway.chat("m", false).await;
    for (gone, _) in
        headers.iter().filter(|(name, _)| !["content-type", "connection", "x-kept"].contains(name))
    {
        assert!(answer.header(gone).is_none(), "{gone}: {answer:?}");
    }
    assert_eq!(answer.header("x-kept"), Some("2"));
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_is_passed_over() {
    let upstream = Upstream::says("Hi").await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let file =
        format!("[models.m]\nendpoints = [\"http://{address}/v1\", \"{}\"]\n", upstream.url());
    let gateway = Gateway::start(&file).await;
    for _ in 0..20 {
        assert_eq!(gateway.chat("m", false).await.status(), 200);
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("weir_upstream_healthy", &[("model", "m")]) >= 1.0);
    assert!(
        metrics.sum("weir_retries_total", &[("model", "m")]) <= 1.0,
        "tried once, then left alone"
    );
    assert_eq!(metrics.sum("weir_errors_total", &[]), 0.0);
}
