//! `POST /v2/chat/agent`: a simulated GitLab sends a question, runs the tools that the model names,
//! and reads the answer, whether the model calls functions or writes ReAct text.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{
    Answer, Client, DuoChat, End, Gateway, Reply, Shown, Upstream, events, one_model,
};

const PATH: &str = "/v2/chat/agent";
const REACT: &str = "[chat]\ntools = \"react\"\n";
const NATIVE: &str = "[chat]\ntools = \"native\"\n";

/// Returns a whole turn of text, in pieces.
fn says(text: &str) -> Reply {
    let pieces: Vec<char> = text.chars().collect();
    let reply = pieces
        .chunks(7)
        .fold(Reply::sse(), |reply, piece| reply.text(&piece.iter().collect::<String>()));
    reply.done(true)
}

/// Returns a turn that calls a function, its arguments in two pieces.
fn calls(phrase: &str, name: &str, input: &str) -> Reply {
    let arguments = json!({ "input": input }).to_string();
    let (first, second) = arguments.split_at(5);
    let piece = |delta: Value| {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
    };
    let call = |call: Value| piece(json!({ "tool_calls": [call] }));
    let begin = json!({"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": first}});
    let go_on = json!({"index": 0, "function": {"arguments": second}});
    let reply = Reply::sse().text(phrase).event(call(begin)).event(call(go_on));
    reply
        .event(
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
                .to_string(),
        )
        .event("[DONE]")
        .end()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Returns what the tools of the simulated GitLab find.
fn found(name: &str, input: &str) -> String {
    format!("{name} found {input}")
}

/// Runs three tools and an answer, checked from both sides.
async fn loop_of_three(gateway: &Gateway, upstream: &Upstream) -> Vec<Value> {
    let mut chat = DuoChat::asks(gateway, "Wie geht es #1?");
    assert_eq!(chat.run(found).await, Shown::Answer("Gut – es ist\n\nfertig.".into()));
    assert!(
        types(&chat.events()).iter().all(|kind| matches!(*kind, "final_answer_delta" | "usage"))
    );
    let actions: Vec<Value> =
        chat.answers[..3].iter().map(|answer| events(answer)[0]["data"].clone()).collect();
    assert_eq!(
        actions,
        [
            json!({"thought": "I look.", "tool": "issue_reader", "tool_input": "#1"}),
            json!({"thought": "And there.", "tool": "epic_reader", "tool_input": "&2 \"both\""}),
            json!({"thought": "", "tool": "gitlab_documentation", "tool_input": "What is an epic?"}),
        ]
    );
    for answer in &chat.answers {
        check_framing(answer);
    }
    upstream.requests().iter().map(|request| request.json()).collect()
}

fn check_framing(answer: &Answer) {
    assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson; charset=utf-8"));
    assert!(answer.header("x-request-id").is_some() && answer.header("content-encoding").is_none());
    for line in answer.text().split_inclusive('\n') {
        assert!(
            line == "\n" || (line.starts_with("{\"type\":") && line.ends_with("}\n")),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn a_model_that_writes_react_goes_through_three_tools() {
    let upstream = Upstream::script([
        says("Thought: I look.\nAction: issue_reader\nAction Input: #1\n"),
        says("Thought: And there.\nAction: EpicReader\nAction Input: &2 \"both\"\nObservation: made up\nFinal Answer: no"),
        says("Action: gitlab\\_documentation\nAction Input: What is an epic?"),
        says("<think>\nFinal Answer: not yet\n</think>\nThought: I know.\nFinal Answer: Gut – es ist\n\nfertig.\n"),
    ])
    .await;
    let gateway = Gateway::with_model(&upstream, REACT).await;
    let received = loop_of_three(&gateway, &upstream).await;
    let system = received[0]["messages"][0]["content"].as_str().unwrap();
    assert!(system.contains("Final Answer:") && system.contains("- issue_reader:"), "{system}");
    assert!(system.contains("No tool can read Pipelines, Vulnerabilities."), "{system}");
    assert_eq!(
        (&received[0]["stop"], &received[0]["stream"]),
        (&json!(["\nObservation:"]), &json!(true))
    );
    assert_eq!(received[0]["messages"][1], json!({"role": "user", "content": "Wie geht es #1?"}));
    assert!(received[0].get("tools").is_none(), "{}", received[0]);
    let reported: Vec<&str> = received[3]["messages"].as_array().unwrap()[1..]
        .iter()
        .map(|m| m["content"].as_str().unwrap())
        .collect();
    assert_eq!(
        reported[1..3],
        [
            "Thought: I look.\nAction: issue_reader\nAction Input: #1",
            "Observation: issue_reader found #1"
        ]
    );
    assert_eq!(reported.len(), 7);
    // the earlier messages are unchanged: the model server's prefix cache holds them
    let before = received[2]["messages"].as_array().unwrap();
    assert_eq!(received[3]["messages"].as_array().unwrap()[..before.len()], before[..]);
}

#[tokio::test]
async fn a_model_that_calls_functions_goes_through_the_same_three() {
    let upstream = Upstream::script([
        calls("I look.", "issue_reader", "#1"),
        calls("And there.", "epic_reader", "&2 \"both\""),
        calls("", "gitlab_documentation", "What is an epic?"),
        says("Gut – es ist\n\nfertig.\n"),
    ])
    .await;
    let gateway = Gateway::with_model(&upstream, NATIVE).await;
    let received = loop_of_three(&gateway, &upstream).await;
    let names: Vec<&str> = received[0]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["function"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 7);
    assert_eq!(received[0]["tools"][0]["function"]["parameters"]["required"], json!(["input"]));
    assert!(
        received[0].get("stop").is_none()
            && !received[0]["messages"][0]["content"].as_str().unwrap().contains("Final Answer")
    );
    let messages = received[3]["messages"].as_array().unwrap();
    let roles: Vec<&str> =
        messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(
        roles,
        ["system", "user", "assistant", "tool", "assistant", "tool", "assistant", "tool"]
    );
    assert_eq!(messages[2]["tool_calls"][0]["id"], messages[3]["tool_call_id"]);
    assert_eq!(messages[3]["content"], "issue_reader found #1");
}

#[tokio::test]
async fn an_answer_is_streamed_as_it_is_made() {
    let gate = Arc::new(Notify::new());
    let reply =
        Reply::sse().text("Thought: easy\nFinal Answer: One").gate(&gate).text(", two.").done(true);
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, REACT).await;
    let mut client = Client::connect(gateway.public).await;
    let body = json!({"messages": [{"role": "user", "content": "Count"}]}).to_string();
    client.send("POST", PATH, &[], body.as_bytes()).await;
    let head = client.head().await;
    let first = client.read_until("\n").await;
    assert_eq!(
        first,
        "{\"type\":\"final_answer_delta\",\"data\":{\"text\":\"One\",\"finish_reason\":null}}\n"
    );
    gate.notify_one();
    let answer = client.body(head, false).await;
    check_framing(&answer);
    assert_eq!(
        events(&answer),
        [
            json!({"type": "final_answer_delta", "data": {"text": ", two.", "finish_reason": null}}),
            json!({"type": "final_answer_delta", "data": {"text": "", "finish_reason": "stop"}}),
            json!({"type": "usage", "data": {"usage": {"up": {"input_tokens": 7, "output_tokens": 2}}}}),
        ]
    );
    let line = gateway.line(&answer).await;
    for (key, value) in [
        ("surface", json!("gitlab_chat_agent")),
        ("feature", json!("duo_chat")),
        ("tokens_in", json!(7)),
        ("stream", json!(true)),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
}

#[tokio::test]
async fn a_silence_is_broken_by_blank_lines_before_the_first_word_and_after_it() {
    let pause = Duration::from_millis(150);
    let reply =
        Reply::sse().wait(pause).text("Final Answer: One").wait(pause).text(" two").done(false);
    let upstream = Upstream::always(reply).await;
    let gateway =
        Gateway::with_model(&upstream, "[chat]\ntools = \"react\"\nheartbeat = \"20ms\"\n").await;
    let mut chat = DuoChat::asks(&gateway, "Count");
    assert_eq!(chat.shown().await, Shown::Answer("One two".into()));
    let answer = &chat.answers[0];
    check_framing(answer);
    let text = answer.text();
    let (before, after) = text.split_once("One").unwrap();
    assert!(before.starts_with("\n\n") && after.contains("\n\n\n"), "{text:?}");
    let line = gateway.line(answer).await;
    assert_eq!(
        (&line["status"], &line["bytes_out"]),
        (&json!(200), &json!(answer.body.len())),
        "{line}"
    );
}

#[tokio::test]
async fn a_server_without_functions_is_called_in_text() {
    let upstream = Upstream::start(|request| {
        if request.json().get("tools").is_some() {
            let stated = "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set";
            return Reply::json(400, &json!({"object": "error", "message": stated, "code": 400}));
        }
        says("Final Answer: fine")
    })
    .await;
    let file = one_model(&upstream.url()).replace("\"general\"", "\"qwen\"");
    let gateway = Gateway::start(&file).await;
    let mut chat = DuoChat::asks(&gateway, "Hi");
    assert_eq!(chat.shown().await, Shown::Answer("fine".into()));
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(gateway.line(&chat.answers[0]).await["retries"], 1);
    // an operator who forces functions wants to see the refusal
    gateway.reload(&format!("{file}{NATIVE}"));
    let mut chat = DuoChat::asks(&gateway, "Hi");
    assert_eq!(chat.shown().await, Shown::Code("A1004"));
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn the_curl_of_the_troubleshooting_page_goes_on_from_its_steps() {
    let upstream = Upstream::always(says("Final Answer: It is open.")).await;
    let gateway = Gateway::with_model(&upstream, REACT).await;
    let steps = json!([{"thought": "t", "tool": "issue_reader", "tool_input": "#1", "observation": "open"}]);
    let body = json!({
        "messages": [{"role": "user", "content": "How is #1?"}],
        "options": {"agent_scratchpad": {"agent_type": "react", "steps": steps}},
    });
    let answer = gateway.post(PATH, &body).await;
    check_framing(&answer);
    let reported = upstream.only_request().json()["messages"].clone();
    assert_eq!(reported[3], json!({"role": "user", "content": "Observation: open"}));
}

#[tokio::test]
async fn everything_the_user_added_reaches_the_model() {
    let upstream = Upstream::always(says("Final Answer: ok")).await;
    let gateway = Gateway::with_model(&upstream, REACT).await;
    let categories = [
        "file",
        "snippet",
        "merge_request",
        "issue",
        "dependency",
        "local_git",
        "terminal",
        "user_rule",
        "repository",
        "directory",
        "os_information",
        "agent_user_environment",
        "not_yet_invented",
    ];
    let items: Vec<Value> = categories
        .iter()
        .map(
            |c| json!({"category": c, "id": c, "content": format!("of {c}"), "metadata": {"k": c}}),
        )
        .collect();
    let body = json!({"messages": [
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2", "context": {"type": "issue", "title": "Broken"},
         "current_file": {"file_path": "main.py", "data": "print(1)", "selected_code": true}, "additional_context": items},
    ]});
    assert_eq!(gateway.post(PATH, &body).await.status(), 200);
    let reported = upstream.only_request().json()["messages"].clone();
    assert_eq!((&reported[1]["content"], &reported[2]["content"]), (&json!("Q1"), &json!("A1")));
    let question = reported[3]["content"].as_str().unwrap();
    let added = categories.iter().all(|category| question.contains(&format!("of {category}")));
    assert!(
        added
            && question.contains("\"Broken\"")
            && question.contains("print(1)")
            && question.ends_with("Q2"),
        "{question}"
    );
}

#[tokio::test]
async fn a_connection_serves_on_after_a_head_that_went_first() {
    let reply = Reply::sse().wait(Duration::from_millis(100)).text("Final Answer: ok").done(true);
    let upstream = Upstream::always(reply).await;
    let gateway =
        Gateway::with_model(&upstream, "[chat]\ntools = \"react\"\nheartbeat = \"20ms\"\n").await;
    let mut client = Client::connect(gateway.public).await;
    let body = json!({"messages": [{"role": "user", "content": "Hi"}]}).to_string();
    for _ in 0..2 {
        let answer = client.call("POST", PATH, &[], body.as_bytes()).await;
        check_framing(&answer);
        assert!(
            answer.text().starts_with('\n') && types(&events(&answer)).ends_with(&["usage"]),
            "{answer:?}"
        );
    }
    assert_eq!(client.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
}

#[tokio::test]
async fn a_model_that_was_given_functions_and_writes_react_shows_no_markers() {
    let upstream =
        Upstream::always(says("Thought: I know this.\nFinal Answer: It is a fake answer.")).await;
    let gateway = Gateway::with_model(&upstream, NATIVE).await;
    let mut chat = DuoChat::asks(&gateway, "Hi");
    assert_eq!(chat.shown().await, Shown::Answer("It is a fake answer.".into()));
}
