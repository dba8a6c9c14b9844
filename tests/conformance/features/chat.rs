//! Duo Chat: what the user reads, or which code is under GitLab's apology (§11.1).

use serde_json::json;

use super::{FAULTS, Fault, SCALED, Scene};
use crate::gitlab::Shown;
use crate::gitlab::http::seconds;
use crate::support::Reply;
use crate::support::upstream::{Received, says};

fn final_answer(request: &Received) -> Reply {
    says(request, "I know this.\nFinal Answer: Press the green button.")
}

#[tokio::test]
async fn an_answer_is_read_as_the_model_wrote_it() {
    let scene = Scene::new(final_answer).await;
    assert_eq!(scene.gitlab.chat("How do I merge?").await, Shown::text("Press the green button."));
    let sent = scene.upstream.only_request();
    for text in ["Hello!", "How do I merge?", "A slow page", "puts 1", "Be brief.", "Pipelines"] {
        assert!(sent.text().contains(text), "{text}: {}", sent.text());
    }
    // a model that has functions is not told of a grammar
    let scene = Scene::of_gitlab("mistral", |request| says(request, "Press the green button.")).await;
    assert_eq!(scene.gitlab.chat("How do I merge?").await, Shown::text("Press the green button."));
}

#[tokio::test]
async fn letters_of_every_script_survive_every_cut() {
    let scene = Scene::says("Final Answer: Grüße 🦀\n```rust\nlet b = \"{}\";\n```").await;
    let text = "Grüße 🦀\n```rust\nlet b = \"{}\";\n```";
    assert_eq!(scene.gitlab.chat("Greet me").await, Shown::text(text));
}

#[tokio::test]
async fn a_tool_is_run_and_its_result_told_to_the_model() {
    let model = |request: &Received| match request.text() {
        told if told.contains("it is open") => says(request, "Final Answer: Issue 123 is open."),
        reader if reader.contains("ResourceIdentifierType") => {
            says(request, r#"{"ResourceIdentifierType": "iid", "ResourceIdentifier": 123}"#)
        }
        _ => says(request, "I must look.\nAction: issue_reader\nAction Input: #123"),
    };
    let scene = Scene::new(model).await;
    assert_eq!(scene.gitlab.chat("What about #123?").await, Shown::text("Issue 123 is open."));
    assert_eq!(scene.asked(), 3);
}

#[tokio::test]
async fn a_failed_model_is_an_apology_and_never_a_hang_or_half_an_answer() {
    for fault in FAULTS {
        let scene = Scene::new(move |request| fault.reply(request)).await;
        assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("A1004"), "{fault:?}");
        let most = if fault == Fault::IsBusy { 3 } else { 1 };
        assert!((1..=most).contains(&scene.asked()), "{fault:?}: asked {} times", scene.asked());
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_told_so() {
    let error = json!({"error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}});
    let scene = Scene::new(move |_| Reply::json(400, &error)).await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("A1005"));
}

#[tokio::test]
async fn a_tool_that_the_user_may_not_use_is_a_matter_of_the_subscription() {
    // GitLab says that merge requests are not available to this user
    let scene = Scene::says("Let me see.\nAction: merge_request_reader\nAction Input: !1").await;
    assert_eq!(scene.gitlab.chat("Is it merged?").await, Shown::Code("G3001"));
    // one that the model made up is not
    let scene = Scene::says("Let me see.\nAction: launch_rocket\nAction Input: now").await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("A1004"));
}

#[tokio::test]
async fn a_model_that_thinks_for_longer_than_gitlab_waits_is_waited_for() {
    let slow = |_: &Received| Reply::sse().wait(seconds(80)).text("Final Answer: Yes.").wait(seconds(80)).done(false);
    let scene = Scene::with(slow, "", "[chat]\nheartbeat = \"300ms\"\n").await;
    assert_eq!(scene.gitlab.chat("Is it?").await, Shown::text("Yes."));
}

#[tokio::test]
async fn an_expired_limit_can_be_said_as_an_answer() {
    let scene = Scene::with(|_| Reply::stalled(), "", &format!("{SCALED}chat_surface = \"answer\"\n")).await;
    let shown = scene.gitlab.chat("Hi").await;
    assert!(matches!(&shown, Shown::Text(text) if text.contains("A1000")), "{shown:?}");
}

#[tokio::test]
async fn words_outside_the_grammar_are_an_answer() {
    let scene = Scene::says("Just press the green button.").await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::text("Just press the green button."));
    let scene = Scene::says("").await;
    assert_ne!(scene.gitlab.chat("Hi").await, Shown::Code("A1002"));
}

#[tokio::test]
async fn a_disabled_chat_sends_the_user_to_the_administrator() {
    let scene = Scene::disabled("duo_chat").await;
    assert_eq!(scene.gitlab.chat("Hi").await, Shown::Code("M3006"));
    assert_eq!(scene.asked(), 0);
}
