//! Duo Chat: what the user reads, or which code is under GitLab's apology
//! (contract::gitlab_client §11.1).

use serde_json::{Value, json};

use super::{FAULTS, Fault, SCALED, Scene};
use crate::gitlab::Shown;
use crate::gitlab::http::seconds;
use crate::support::Reply;
use crate::support::upstream::{Received, says};

/// How models call tools: as functions, or by a grammar in their text. GitLab's user must not
/// notice.
const WAYS: [&str; 2] = ["[chat]\ntools = \"native\"\n", "[chat]\ntools = \"react\"\n"];

/// The model answers, in the protocol of the request.
fn answers(request: &Received, text: &str) -> Reply {
    if request.json()["tools"].is_array() {
        says(request, text)
    } else {
        says(request, &format!("I know.\nFinal Answer: {text}"))
    }
}

/// The model calls a tool, in the protocol of the request.
fn calls(request: &Received, tool: &str, input: &str) -> Reply {
    let received = request.json();
    let Some(offered) = received["tools"].as_array() else {
        return says(request, &format!("I must look.\nAction: {tool}\nAction Input: {input}"));
    };
    let properties = offered[0]["function"]["parameters"]["properties"].as_object().unwrap();
    let arguments = json!({properties.keys().next().unwrap(): input}).to_string();
    let call = json!({"index": 0, "id": "1", "type": "function", "function": {"name": tool, "arguments": arguments}});
    let delta = json!({"role": "assistant", "content": "I must look.", "tool_calls": [call]});
    let choice = |delta: Value, reason: Value| json!({"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
    let end = choice(json!({}), json!("tool_calls")).to_string();
    Reply::sse().event(choice(delta, Value::Null).to_string()).event(end).event("[DONE]").end()
}

#[tokio::test]
async fn an_answer_is_read_as_the_model_wrote_it() {
    for direction in WAYS {
        let scene =
            Scene::with(|request| answers(request, "Press the green button."), "", direction).await;
        assert_eq!(
            scene.gitlab.chat("How do I merge?").await,
            Shown::text("Press the green button.")
        );
        let sent = scene.upstream.only_request();
        for text in ["Hello!", "How do I merge?", "A slow page", "puts 1", "Be brief.", "Pipelines"]
        {
            assert!(sent.text().contains(text), "{direction} {text}: {}", sent.text());
        }
    }
    for family in ["mistral", "llama3", "codellama", "qwen", "claude_3", "a_new_one"] {
        let scene =
            Scene::of_gitlab(family, |request| answers(request, "Press the green button.")).await;
        assert_eq!(
            scene.gitlab.chat("How do I merge?").await,
            Shown::text("Press the green button."),
            "{family}"
        );
    }
}

#[tokio::test]
async fn letters_of_every_script_survive_every_cut() {
    let text = "Grüße 🦀\n```rust\nlet b = \"{}\";\n```";
    for direction in WAYS {
        let scene = Scene::with(move |request| answers(request, text), "", direction).await;
        assert_eq!(scene.gitlab.chat("Greet me").await, Shown::text(text), "{direction}");
    }
}

#[tokio::test]
async fn a_tool_is_run_and_its_result_reported_to_the_model() {
    let model = |request: &Received| match request.text() {
        reported if reported.contains("it is open") => answers(request, "Issue 123 is open."),
        reader if reader.contains("ResourceIdentifierType") => {
            says(request, r#"{"ResourceIdentifierType": "iid", "ResourceIdentifier": 123}"#)
        }
        _ => calls(request, "issue_reader", "#123"),
    };
    for direction in WAYS {
        let scene = Scene::with(model, "", direction).await;
        assert_eq!(
            scene.gitlab.chat("What about #123?").await,
            Shown::text("Issue 123 is open."),
            "{direction}"
        );
        assert_eq!(scene.received(), 3);
    }
}

#[tokio::test]
async fn a_failed_model_is_an_apology_and_never_a_hang_or_half_an_answer() {
    for fault in FAULTS {
        let scene = Scene::new(move |request| fault.reply(request)).await;
        assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("A1004"), "{fault:?}");
        let most = if fault == Fault::IsBusy { 3 } else { 1 };
        assert!(
            (1..=most).contains(&scene.received()),
            "{fault:?}: asked {} times",
            scene.received()
        );
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_gets_an_error() {
    let error = json!({"error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}});
    let scene = Scene::new(move |_| Reply::json(400, &error)).await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("A1005"));
}

#[tokio::test]
async fn a_tool_that_the_user_may_not_use_is_a_matter_of_the_subscription() {
    // GitLab says that merge requests are not available to this user; a tool that the model made up
    // is to nobody
    for (tool, code) in [("merge_request_reader", "G3001"), ("launch_rocket", "A1004")] {
        for direction in WAYS {
            let scene = Scene::with(move |request| calls(request, tool, "!1"), "", direction).await;
            assert_eq!(
                scene.gitlab.chat("Is it merged?").await,
                Shown::Code(code),
                "{direction} {tool}"
            );
        }
    }
}

#[tokio::test]
async fn a_model_that_thinks_for_longer_than_gitlab_waits_is_waited_for() {
    let slow = |_: &Received| {
        Reply::sse().wait(seconds(70)).text("Final Answer: Yes.").wait(seconds(65)).done(false)
    };
    let scene = Scene::with(slow, "", &format!("{}heartbeat = \"300ms\"\n", WAYS[1])).await;
    assert_eq!(scene.gitlab.chat("Is it?").await, Shown::text("Yes."));
}

#[tokio::test]
async fn an_expired_limit_can_be_sent_as_an_answer() {
    let scene =
        Scene::with(|_| Reply::stalled(), "", &format!("{SCALED}chat_surface = \"answer\"\n"))
            .await;
    let shown = scene.gitlab.chat("Hi").await;
    assert!(matches!(&shown, Shown::Text(text) if text.contains("A1000")), "{shown:?}");
}

#[tokio::test]
async fn text_outside_the_grammar_are_an_answer() {
    let scene = Scene::says("Just press the green button.").await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::text("Just press the green button."));
    let scene = Scene::says("").await;
    assert_ne!(scene.gitlab.chat("Hi").await, Shown::Code("A1002"));
}

#[tokio::test]
async fn a_disabled_chat_sends_the_user_to_the_administrator() {
    let scene = Scene::disabled("duo_chat").await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("M3006"));
    assert_eq!(scene.received(), 0);
}
