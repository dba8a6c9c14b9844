//! The client in front of a gateway that breaks the rules: each of them bites, so a feature that
//! passes has kept them.

use serde_json::{Value, json};

use super::actions::UNEXPECTED;
use super::http::{Broken, Http, Request, seconds};
use super::ide::{Form, Suggested};
use super::tools::Failed;
use super::{GitLab, Shown};
use crate::support::{Reply, Upstream};

const NDJSON: &[(&str, &str)] = &[("content-type", "application/x-ndjson; charset=utf-8")];

fn event(kind: &str, data: &Value) -> String {
    format!("{}\n", json!({"type": kind, "data": data}))
}

fn stream(pieces: &[&str]) -> Reply {
    pieces.iter().fold(Reply::head(200, NDJSON), |reply, piece| reply.bytes(*piece)).end()
}

/// What the user of the chat sees when the gateway does this.
async fn chat(reply: Reply) -> Shown {
    let gateway = Upstream::always(reply).await;
    GitLab::new(gateway.address).chat("Hi").await
}

#[tokio::test]
async fn the_chats_codes() {
    let delta = event("final_answer_delta", &json!({"text": "Hi"}));
    let (first, second) = delta.split_at(20);
    assert_eq!(chat(stream(&[first, second, &delta])).await, Shown::text("HiHi"));
    assert_eq!(chat(stream(&["\n", &delta, "\n"])).await, Shown::text("Hi"), "heartbeats");
    assert_eq!(chat(stream(&[delta.trim_end()])).await, Shown::Code("A1002"), "no last newline");
    assert_eq!(
        chat(stream(&[&event("usage", &json!({}))])).await,
        Shown::Code("A1002"),
        "no known type"
    );
    assert_eq!(chat(stream(&[])).await, Shown::Code("A1002"));
    assert_eq!(
        chat(Reply::head(200, NDJSON).bytes(delta.clone()).then_close()).await,
        Shown::Code("A1003")
    );
    assert_eq!(
        chat(Reply::head(200, NDJSON).bytes(delta.clone()).stall()).await,
        Shown::Code("A1000")
    );
    assert_eq!(chat(Reply::stalled()).await, Shown::Code("A1000"));
    assert_eq!(chat(Reply::closed()).await, Shown::Code("A1003"));
    for (status, code) in [(403, "M3006"), (401, "A9999"), (422, "A9999"), (500, "A9999")] {
        assert_eq!(chat(Reply::json(status, &json!({}))).await, Shown::Code(code), "{status}");
    }
    let unknown = event("unknown", &json!({"text": "Hm"}));
    assert_eq!(chat(stream(&[&unknown])).await, Shown::text("Hm"));
    let action = event("action", &json!({"tool": "launch", "tool_input": "", "thought": ""}));
    assert_eq!(chat(stream(&[&action])).await, Shown::Code("A9999"), "a tool that Rails has not");
    assert_eq!(chat(stream(&[&action, &delta])).await, Shown::text("Hi"), "an answer wins");
}

#[tokio::test]
async fn error_events_and_their_repetition() {
    for (message, code) in
        [("boom", "A1004"), ("prompt is too long: 9", "A1005"), ("tool not available", "G3001")]
    {
        let error = event("error", &json!({"message": message, "retryable": false}));
        assert_eq!(
            chat(Reply::head(200, NDJSON).bytes(error).then_close()).await,
            Shown::Code(code)
        );
    }
    let gateway = Upstream::always(stream(&[&event(
        "error",
        &json!({"message": "busy", "retryable": true}),
    )]))
    .await;
    assert_eq!(GitLab::new(gateway.address).chat("Hi").await, Shown::Code("A1004"));
    assert_eq!(gateway.requests().len(), 3);
}

#[tokio::test]
async fn ten_steps_are_enough() {
    let action =
        event("action", &json!({"tool": "issue_reader", "tool_input": "#1", "thought": ""}));
    let resource = r#"{"ResourceIdentifierType": "iid", "ResourceIdentifier": 1}"#;
    let gateway = Upstream::start(move |request| {
        if request.path == "/v2/chat/agent" {
            stream(&[&action])
        } else {
            Reply::whole(200, &[], resource)
        }
    })
    .await;
    assert_eq!(GitLab::new(gateway.address).chat("Hi").await, Shown::Code("A1006"));
    assert_eq!(gateway.requests().len(), 20);
}

#[tokio::test]
async fn time() {
    let call = |reply: Reply| async {
        let gateway = Upstream::always(reply).await;
        Http::rails(gateway.address).whole(Request::post("/", "{}")).await.map(|(_, body)| body)
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n";
    // a head that is not there whole after 20 s
    let drips = Reply::raw(&head[..9])
        .wait(seconds(15))
        .bytes(&head[9..12])
        .wait(seconds(15))
        .bytes(&head[12..14]);
    assert_eq!(call(drips.stall()).await, Err(Broken::ReadTimeout));
    // silence of less than 60 s, again and again, is fine on a stream and too long for a whole body
    let slow =
        (0..3).fold(Reply::head(200, &[]), |reply, _| reply.bytes("x").wait(seconds(25))).end();
    assert_eq!(call(slow.clone()).await, Err(Broken::ReadTimeout));
    let gateway = Upstream::always(slow).await;
    let read = Http::rails(gateway.address).stream(Request::post("/", "{}"), |_, _| true).await;
    assert_eq!(read.map(|head| head.status), Ok(200));
    assert_eq!(call(Reply::raw(format!("{head}\r\nx"))).await, Err(Broken::EndOfFile));
    assert_eq!(call(Reply::whole(200, &[], "ok")).await, Ok("ok".to_owned()));
}

#[tokio::test]
async fn actions_retry_429_and_break_the_circuit_on_5xx() {
    let gateway = Upstream::always(Reply::json(429, &json!({}))).await;
    let gitlab = GitLab::new(gateway.address);
    assert_eq!(gitlab.action("summarize_review", &json!({})).await, UNEXPECTED);
    assert_eq!(gateway.requests().len(), 3);
    let gateway = Upstream::always(Reply::json(500, &json!({}))).await;
    let gitlab = GitLab::new(gateway.address);
    for _ in 0..12 {
        assert_eq!(gitlab.action("summarize_review", &json!({})).await, UNEXPECTED);
    }
    assert!(gitlab.breaker_is_open());
    assert_eq!(gateway.requests().len(), 10);
    let gateway =
        Upstream::always(Reply::whole(200, &[("content-type", "text/plain")], "\"words\"")).await;
    assert_eq!(
        GitLab::new(gateway.address).action("summarize_review", &json!({})).await,
        UNEXPECTED
    );
}

#[tokio::test]
async fn streamed_prompts_and_code_suggestions() {
    let gateway = Upstream::always(Reply::json(500, &json!({"detail": "x"}))).await;
    let streamed = GitLab::new(gateway.address).stream("chat/explain_code", &json!({})).await;
    assert_eq!(
        (streamed.seen.as_str(), streamed.ended),
        ("{\"detail\":\"x\"}", Err(Failed::Status(500)))
    );
    assert_eq!(gateway.only_request().path, "/v1/prompts/chat%2Fexplain_code");
    let suggested = |reply: Reply| async {
        let gateway = Upstream::always(reply).await;
        GitLab::new(gateway.address).complete(Form::Stream).await
    };
    assert_eq!(
        suggested(Reply::stalled()).await,
        Suggested::Refused { status: 500, retry_after: None }
    );
    let sse = [("content-type", "text/event-stream"), ("x-streaming-format", "sse")];
    let start = "event: stream_start\ndata: {}\n\n";
    let cut = Reply::head(200, &sse).bytes(start);
    assert_eq!(
        suggested(cut.clone().end()).await,
        Suggested::Broken(start.to_owned()),
        "no stream_end"
    );
    assert_eq!(suggested(cut.clone().then_close()).await, Suggested::Broken(start.to_owned()));
    assert_eq!(
        suggested(cut.bytes("event: stream_end\ndata: null\n\n").end()).await,
        Suggested::Code(String::new())
    );
}
