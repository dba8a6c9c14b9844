//! A client that leaves: the model server is told at once, streamed or not, before the head and after it.

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Gateway, Reply, Upstream, chat_body, eventually};

/// The bound of the issue. One of three tries must hold it, so that a busy machine does not fail the test;
/// without cancellation not even the 10 s that every try has would do.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Leaves after `until` was read (nothing: before the head), and says how soon the upstream connection closed.
async fn leave(gateway: &Gateway, upstream: &Upstream, path: &str, body: &str, until: &str, id: &str) -> Duration {
    let before = upstream.requests().len();
    let mut client = Client::connect(gateway.public).await;
    client.send("POST", path, &[("x-request-id", id)], body.as_bytes()).await;
    upstream.received(before + 1).await;
    if !until.is_empty() {
        client.head().await;
        client.read_until(until).await;
    }
    let left = std::time::Instant::now();
    drop(client);
    let connection = upstream.requests()[before].connection;
    upstream.closed(connection).await.saturating_duration_since(left)
}

async fn check(reply: Reply, path: &str, body: &str, until: &str, surface: &str) {
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let mut best = Duration::MAX;
    for id in ["one", "two", "three"] {
        best = best.min(leave(&gateway, &upstream, path, body, until, id).await);
        let line = gateway.log.line(id).await;
        assert_eq!((&line["outcome"], &line["surface"]), (&json!("cancelled"), &json!(surface)), "{line}");
        assert!(line.get("error_code").is_none(), "{line}");
    }
    assert!(best < AT_ONCE, "{best:?}");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_client_disconnects_total", &[("surface", surface)]), 3.0);
    assert_eq!(metrics.sum("weir_requests_total", &[("outcome", "cancelled")]), 3.0);
    eventually("nothing in flight", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("weir_inflight", &[]) + metrics.sum("weir_upstream_inflight", &[]) == 0.0
    })
    .await;
    assert_eq!(upstream.requests().len(), 3, "a cancelled request is not sent again");
}

fn chat(stream: bool) -> String {
    chat_body("m", stream).to_string()
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn before_the_head_of_a_stream() {
    check(Reply::stalled(), CHAT, &chat(true), "", "openai_chat").await;
}

#[tokio::test]
async fn after_the_upstreams_head_and_before_its_first_token() {
    check(Reply::sse().stall(), CHAT, &chat(true), "", "openai_chat").await;
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    check(Reply::sse().text("one").stall(), CHAT, &chat(true), "one", "openai_chat").await;
}

#[tokio::test]
async fn while_a_whole_answer_is_made() {
    check(Reply::stalled(), CHAT, &chat(false), "", "openai_chat").await;
}

#[tokio::test]
async fn in_the_middle_of_a_whole_answer() {
    let head = Reply::head(200, &[("content-type", "application/json")]);
    check(head.clone().bytes("{\"choices\":[").stall(), CHAT, &chat(false), "", "openai_chat").await;
    // longer than what is held back
    let long = format!("{{\"choices\":[{}", "x".repeat(80_000));
    check(head.bytes(long).stall(), CHAT, &chat(false), "choices", "openai_chat").await;
}

#[tokio::test]
async fn on_gitlabs_chat_streamed_and_not() {
    let body =
        |stream: bool| json!({"prompt_components": [{"payload": {"content": "Hello"}}], "stream": stream}).to_string();
    check(Reply::stalled(), "/v1/chat/agent", &body(false), "", "gitlab_chat").await;
    check(Reply::sse().text("one").stall(), "/v1/chat/agent", &body(true), "one", "gitlab_chat").await;
}

#[tokio::test]
async fn on_test_connection() {
    let path = "/v1/prompts/model_configuration%2Fcheck";
    check(Reply::stalled(), path, "{\"inputs\":{}}", "", "gitlab_model_check").await;
}

#[tokio::test]
async fn a_stream_that_is_read_faster_than_it_is_left_still_ends_everything() {
    let upstream =
        Upstream::always(Reply::sse().forever(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n")).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for id in ["a", "b", "c"] {
        leave(&gateway, &upstream, CHAT, &chat(true), "x", id).await;
        assert_eq!(gateway.log.line(id).await["outcome"], "cancelled");
    }
}
