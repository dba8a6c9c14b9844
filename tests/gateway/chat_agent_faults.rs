//! Duo Chat when something fails: what the user of a simulated GitLab sees, what the operator sees,
//! and that no failure is a hang, a cut stream or an empty one (contract::gitlab_client §11.1).

use serde_json::{Value, json};

use crate::support::{
    Client, Deaf, DuoChat, End, Gateway, Reply, Shown, Upstream, eventually, one_model,
};

const PATH: &str = "/v2/chat/agent";

/// Starts a gateway whose chat uses ReAct text, with short timeouts and heartbeats.
async fn gateway(upstream: &Upstream, timeouts: &str) -> Gateway {
    let chat = "[chat]\ntools = \"react\"\nheartbeat = \"20ms\"\n";
    Gateway::with_model(upstream, &format!("{chat}[timeouts]\n{timeouts}\n")).await
}

fn fault(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message}}))
}

/// Checks one failure: how often the model is called, what the user sees, the operator's code.
/// Returns the message.
async fn check(reply: Reply, received: usize, shown: &'static str, code: Option<&str>) -> Value {
    let upstream = Upstream::always(reply).await;
    let gateway = gateway(&upstream, "first_byte = \"150ms\"\nidle = \"150ms\"").await;
    let mut chat = DuoChat::asks(&gateway, "Hi");
    assert_eq!(chat.shown().await, Shown::Code(shown));
    let answer = chat.answers.last().unwrap();
    assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
    assert_eq!(upstream.requests().len(), received, "{}", answer.text());
    let line = gateway.line(answer).await;
    assert_eq!(line.get("error_code").and_then(Value::as_str), code, "{line}");
    if let Some(code) = code {
        let labels = [("code", code), ("feature", "duo_chat")];
        assert_eq!(gateway.metrics().await.sum("weir_errors_total", &labels), received as f64);
    }
    let last = chat.events().pop().unwrap();
    assert_eq!(last["type"], "error");
    last["data"]["message"].clone()
}

#[tokio::test]
async fn a_failed_model_is_an_event() {
    let stated = check(fault(500, "boom"), 1, "A1004", Some("upstream_status")).await;
    assert_eq!(stated, "The model server answered 500 Internal Server Error");
    let stated = check(fault(401, "bad key sk-secret"), 1, "A1004", Some("upstream_status")).await;
    assert!(!stated.as_str().unwrap().contains("secret"), "{stated}");
    check(Reply::closed(), 1, "A1004", Some("upstream_broken")).await;
    check(Reply::raw("rubbish\r\n\r\n"), 1, "A1004", Some("upstream_broken")).await;
    check(Reply::sse().event("not json").end(), 1, "A1004", Some("upstream_broken")).await;
}

#[tokio::test]
async fn only_overload_is_tried_again() {
    check(fault(429, "slow down"), 3, "A1004", Some("upstream_status")).await;
    check(fault(503, "busy"), 3, "A1004", Some("upstream_status")).await;
    check(fault(529, "overloaded"), 3, "A1004", Some("upstream_status")).await;
}

#[tokio::test]
async fn a_full_context_tells_the_user_to_start_anew() {
    let stated =
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens";
    check(fault(400, stated), 1, "A1005", Some("upstream_status")).await;
}

#[tokio::test]
async fn a_cut_stream_does_not_look_complete() {
    for reply in [
        Reply::sse().text("Thought: I know this.").then_close(),
        Reply::sse().text("Final Answer: half").then_close(),
        Reply::sse().text("Final Answer: half").reset(),
        Reply::sse().text("Final Answer: half").end(),
        Reply::sse().text("Final Answer: half").event(r#"{"error":{"message":"boom"}}"#).end(),
    ] {
        check(reply, 1, "A1004", Some("upstream_broken")).await;
    }
}

#[tokio::test]
async fn an_empty_answer_is_not_an_empty_stream() {
    for reply in [
        Reply::sse().done(true),
        Reply::sse().text(" \n").done(true),
        Reply::sse().text("Final Answer:").done(true),
    ] {
        assert_eq!(
            check(reply, 1, "A1004", Some("no_answer")).await,
            "The model's answer was empty"
        );
    }
    let unfinished = Reply::sse().text("<think>for ever").done(true);
    assert_eq!(
        check(unfinished, 1, "A1004", Some("no_answer")).await,
        "The model's answer was empty"
    );
}

#[tokio::test]
async fn a_tool_that_the_user_may_not_use_is_a_matter_of_subscription() {
    let reply = Reply::sse().text("Action: issue_reader\nAction Input: #1").done(true);
    let upstream = Upstream::always(reply).await;
    let gateway = gateway(&upstream, "").await;
    let mut chat = DuoChat::asks(&gateway, "Hi");
    chat.body["unavailable_resources"] = json!(["Issues"]);
    assert_eq!(chat.shown().await, Shown::Code("G3001"));
}

#[tokio::test]
async fn silence_is_heartbeats_and_then_a1000() {
    let cases = [
        (Reply::stalled(), "first_byte"),
        (Reply::sse().stall(), "first_byte"),
        (Reply::sse().text("Thought: hm").stall(), "idle"),
        (Reply::sse().text("Final Answer: One").stall(), "idle"),
    ];
    for (reply, phase) in cases {
        let upstream = Upstream::always(reply).await;
        let gateway = gateway(&upstream, "first_byte = \"150ms\"\nidle = \"150ms\"").await;
        let mut chat = DuoChat::asks(&gateway, "Hi");
        assert_eq!(chat.shown().await, Shown::Code("A1004"));
        let answer = &chat.answers[0];
        assert!(answer.text().contains("\n\n") && answer.end == End::Proper, "{:?}", answer.text());
        let data = chat.events().pop().unwrap()["data"].clone();
        let stated = format!("A1000: m did not answer within 0.15 s ({phase})");
        assert_eq!(data, json!({"message": stated, "retryable": false}));
        let line = gateway.line(answer).await;
        assert_eq!(
            (&line["error_code"], &line["phase"]),
            (&json!("A1000"), &json!(phase)),
            "{line}"
        );
        let labels = [("code", "A1000"), ("phase", phase), ("feature", "duo_chat"), ("model", "m")];
        assert_eq!(gateway.metrics().await.sum("weir_errors_total", &labels), 1.0);
        upstream.closed(0).await;
        assert_eq!(upstream.requests().len(), 1, "an expiry is not tried again");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_made_is_a1000_too() {
    let deaf = Deaf::start();
    let file = one_model(&format!("http://{}/v1", deaf.address));
    let gateway = Gateway::start(&format!("{file}[timeouts]\nconnect = \"100ms\"\n")).await;
    let mut chat = DuoChat::asks(&gateway, "Hi");
    assert_eq!(chat.shown().await, Shown::Code("A1004"));
    let stated = chat.events()[0]["data"]["message"].clone();
    assert!(
        stated.as_str().unwrap().starts_with("A1000: m did not answer within 0.1 s (connect)"),
        "{stated}"
    );
}

#[tokio::test]
async fn an_expiry_may_be_reported_as_an_answer() {
    let upstream =
        Upstream::script([Reply::stalled(), Reply::sse().text("Final Answer: One").stall()]).await;
    let gateway =
        gateway(&upstream, "first_byte = \"100ms\"\nidle = \"100ms\"\nchat_surface = \"answer\"")
            .await;
    let sentence = "\n\nI'm sorry, I couldn't respond in time. Please try again. (A1000)";
    for before in ["", "One"] {
        let mut chat = DuoChat::asks(&gateway, "Hi");
        assert_eq!(chat.shown().await, Shown::Answer(format!("{before}{sentence}")));
        assert_eq!(gateway.line(&chat.answers[0]).await["error_code"], "A1000");
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_model_in_every_phase() {
    let replies = [
        (Reply::stalled(), ""),
        (Reply::stalled(), "\n"),
        (Reply::sse().text("Thought: hm").stall(), "\n"),
        (Reply::sse().text("Final Answer: One").stall(), "One"),
    ];
    for (reply, until) in replies {
        let upstream = Upstream::always(reply).await;
        let gateway = gateway(&upstream, "").await;
        let mut client = Client::connect(gateway.public).await;
        let body = json!({"messages": [{"role": "user", "content": "Hi"}]}).to_string();
        client.send("POST", PATH, &[("x-request-id", "left")], body.as_bytes()).await;
        upstream.received(1).await;
        if !until.is_empty() {
            client.head().await;
            client.read_until(until).await;
        }
        drop(client);
        upstream.closed(0).await;
        assert_eq!(gateway.log.line("left").await["outcome"], "cancelled");
        eventually("nothing in flight", async || {
            let metrics = gateway.metrics().await;
            metrics.sum("weir_inflight", &[]) + metrics.sum("weir_upstream_inflight", &[]) == 0.0
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_status() {
    let upstream = Upstream::says("Final Answer: ok").await;
    let gateway = gateway(&upstream, "").await;
    let answer = gateway
        .post(
            PATH,
            &json!({"messages": [{"role": "user", "content": "Q", "agent_scratchpad": []}]}),
        )
        .await;
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.json(),
        json!({"detail": "agent_scratchpad can only be present when role is ASSISTANT"})
    );
    for (body, index_path) in [
        (json!({}), json!(["body", "messages"])),
        (json!({"messages": []}), json!(["body", "messages"])),
        (
            json!({"messages": [{"role": "oracle", "content": "Q"}]}),
            json!(["body", "messages", 0, "role"]),
        ),
        (json!({"messages": [{"content": "Q"}]}), json!(["body", "messages", 0, "role"])),
    ] {
        let answer = gateway.post(PATH, &body).await;
        assert_eq!(
            (answer.status(), &answer.json()["detail"][0]["loc"]),
            (422, &index_path),
            "{}",
            answer.text()
        );
    }
    assert_eq!(gateway.call("POST", PATH, &[], b"{").await.status(), 422);
    assert_eq!(gateway.get(PATH).await.status(), 405);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_chat_that_is_switched_off_is_a_matter_of_the_administrator() {
    let upstream = Upstream::says("x").await;
    let gateway = Gateway::with_model(&upstream, "duo_chat = \"disabled\"\n").await;
    let mut chat = DuoChat::asks(&gateway, "Hi");
    assert_eq!(chat.shown().await, Shown::Code("M3006"));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_tool_that_does_not_exist_is_the_models_fault() {
    let reply = Reply::sse().text("Action: web_search\nAction Input: x").done(true);
    let stated = check(reply, 1, "A1004", Some("no_answer")).await;
    assert_eq!(stated, "The model called a tool that does not exist");
}
