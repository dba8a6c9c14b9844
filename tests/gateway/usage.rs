//! Token counts of streams that end before they are counted: exact as far as the provider reported,
//! otherwise estimated and marked so, in the access log and in `weir_tokens_total`.

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Reply, Upstream, chat_body, eventually};

/// Returns an OpenAI-style chunk with this text, and with running counts if there are any.
fn chunk(phrase: &str, usage: Option<(u64, u64)>) -> String {
    let mut chunk =
        json!({"id":"c-1","choices":[{"index":0,"delta":{"content":phrase},"finish_reason":null}]});
    if let Some((input, output)) = usage {
        chunk["usage"] = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    }
    chunk.to_string()
}

/// Sends a chat, reads up to `until`, disconnects; returns the log's line.
async fn left_at(gateway: &Gateway, body: &Value, until: &str) -> Value {
    let mut client = Client::connect(gateway.public).await;
    let headers = [("x-request-id", "left")];
    client.send("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await;
    client.head().await;
    client.read_until(until).await;
    drop(client);
    gateway.log.line("left").await
}

fn counts(line: &Value) -> (Option<u64>, Option<u64>, bool) {
    (line["tokens_in"].as_u64(), line["tokens_out"].as_u64(), line["usage_estimated"] == true)
}

#[tokio::test]
async fn a_stream_that_is_left_is_estimated_from_what_passed() {
    let phrase = ["A sentence of forty-four bytes, all in one. ", "x", "yz"];
    let reply = phrase.iter().fold(Reply::sse(), |reply, phrase| reply.event(chunk(phrase, None)));
    let upstream = Upstream::always(reply.stall()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let line = left_at(&gateway, &chat_body("m", true), "yz").await;
    let sent = upstream.only_request().body.len() as u64;
    assert_eq!(counts(&line), (Some(sent.div_ceil(4)), Some(12), true), "47 bytes of text: {line}");
    assert_eq!(line["outcome"], "cancelled", "{line}");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_tokens_total", &[("direction", "output"), ("model", "m")]), 12.0);
    assert_eq!(
        metrics.sum("weir_tokens_total", &[("direction", "input"), ("model", "m")]),
        sent.div_ceil(4) as f64
    );
    assert!(metrics.text.contains("estimated at 4 bytes a token"), "{}", metrics.text);
}

#[tokio::test]
async fn short_pieces_are_a_token_each() {
    let reply = ["a", "b", "c", "d", "e"]
        .iter()
        .fold(Reply::sse(), |reply, phrase| reply.event(chunk(phrase, None)));
    let upstream = Upstream::always(reply.stall()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let line = left_at(&gateway, &chat_body("m", true), "\"e\"").await;
    assert_eq!((counts(&line).1, counts(&line).2), (Some(5), true), "{line}");
}

#[tokio::test]
async fn running_counts_are_exact() {
    // what vLLM sends to a client that requested continuous_usage_stats
    let reply = Reply::sse()
        .event(chunk("one ", Some((7, 1))))
        .event(chunk("two three", Some((7, 3))))
        .stall();
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut body = chat_body("m", true);
    body["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": true});
    let line = left_at(&gateway, &body, "three").await;
    assert_eq!(counts(&line), (Some(7), Some(3), false), "{line}");
    assert_eq!(upstream.only_request().json()["stream_options"], body["stream_options"]);
}

#[tokio::test]
async fn what_is_known_of_a_translated_stream_stays_exact() {
    let event =
        |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let usage = json!({"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 1});
    let start = json!({"type": "message_start", "message": {"id": "m1", "role": "assistant", "content": [], "usage": usage}});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    let events = [start, block, text("Twelve bytes"), text(" and more")];
    let reply = events.into_iter().fold(Reply::sse(), |reply, value| reply.bytes(event(value)));
    let upstream = Upstream::always(reply.stall()).await;
    let file = "[models.c]\nidentifier = \"anthropic/claude\"\nendpoint = \"http://ADDRESS\"\napi_key = \"k\"\n";
    let gateway = Gateway::start(&file.replace("ADDRESS", &upstream.address.to_string())).await;
    let line = left_at(&gateway, &chat_body("c", true), "and more").await;
    assert_eq!(
        counts(&line),
        (Some(25), Some(1 + 6), true),
        "21 bytes after the report of 1: {line}"
    );
    assert_eq!(line["tokens_cached"], 5, "{line}");
}

#[tokio::test]
async fn whatever_ends_a_stream_is_counted_alike() {
    let begun = || Reply::sse().event(chunk("Words that were paid for", None));
    let cases = [
        (begun().then_close(), "upstream_broken"),
        (begun().event(r#"{"error":{"message":"gone","code":500}}"#).end(), "upstream_broken"),
        (begun().stall(), "A1000"),
    ];
    for (reply, code) in cases {
        let upstream = Upstream::always(reply).await;
        let gateway = Gateway::with_model(&upstream, "[timeouts]\nidle = \"50ms\"\n").await;
        let line = gateway.line(&gateway.chat("m", true).await).await;
        assert_eq!(
            (&line["error_code"], counts(&line).1, counts(&line).2),
            (&json!(code), Some(6), true),
            "{line}"
        );
    }
    // a server that never counts
    let upstream = Upstream::always(begun().done(false)).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let line = gateway.line(&gateway.chat("m", true).await).await;
    assert_eq!(
        (&line["outcome"], counts(&line).1, counts(&line).2),
        (&json!("ok"), Some(6), true),
        "{line}"
    );
}

#[tokio::test]
async fn what_was_counted_or_never_began_is_no_estimate() {
    let upstream = Upstream::says("Hi there").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let line = gateway.line(&gateway.chat("m", true).await).await;
    assert_eq!(counts(&line), (Some(7), Some(2), false), "{line}");
    assert!(line.get("usage_estimated").is_none(), "{line}");

    let silent = Upstream::always(Reply::sse().stall()).await;
    let gateway = Gateway::with_model(&silent, "").await;
    drop(gateway.open_chat("m", true).await);
    eventually("the line", async || !gateway.log.lines().is_empty()).await;
    assert_eq!(counts(&gateway.log.lines()[0]), (None, None, false));
}

#[tokio::test]
async fn a_picture_is_not_text() {
    let upstream = Upstream::always(Reply::sse().event(chunk("A cat", None)).stall()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let url = format!("data:image/png;base64,{}", "A".repeat(400_000));
    let mut body = chat_body("m", true);
    body["messages"][0]["content"] = json!([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]);
    let line = left_at(&gateway, &body, "cat").await;
    assert!(line["tokens_in"].as_u64().is_some_and(|tokens| tokens < 100), "{line}");
}
