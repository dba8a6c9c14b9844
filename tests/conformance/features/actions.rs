//! The AI actions: commit messages, summaries, reviews, fixes (contract::gitlab_client §8.3,
//! §11.3).

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{FAULTS, Fault, Scene};
use crate::gitlab::Shown;
use crate::gitlab::actions::UNEXPECTED;
use crate::support::upstream::{Received, says};

/// Every action with what Rails gives it.
fn actions() -> Vec<(&'static str, Value)> {
    vec![
        ("generate_commit_message", json!({"diff": "+ x = 1"})),
        ("summarize_new_merge_request", json!({"extracted_diff": "+ x = 1"})),
        ("summarize_review", json!({"draft_notes_content": "Comment: Use a set."})),
        ("generate_description", json!({"content": "Cache it", "template": null})),
        ("measure_comment_temperature", json!({"content": "This is bad."})),
        ("categorize_question", json!({"question": "How?", "previous_answer": null})),
        ("glab_ask_git_command", json!({"prompt": "undo my last commit"})),
        ("generate_session_title", json!({"context": "a bug", "definition": "chat"})),
        ("summarize_duo_workflow", json!({"logs": "did it"})),
        ("classify_code_review_mention_intent", json!({"message": "please review"})),
        (
            "feature_discovery_search",
            json!({"query": "faster pipelines", "features": [{"id": "a", "name": "Cache"}]}),
        ),
    ]
}

#[tokio::test]
async fn actions_show_the_models_text_whichever_form_answers_have() {
    let scene = Scene::says("Cache the list").await;
    for (id, inputs) in actions() {
        assert_eq!(scene.gitlab.action(id, &inputs).await, Shown::text("Cache the list"), "{id}");
    }
    let scene = Scene::says("Cache the list").await;
    let gitlab = scene.gitlab.prompts_v2();
    for (id, inputs) in actions() {
        assert_eq!(gitlab.action(id, &inputs).await, Shown::text("Cache the list"), "{id}");
    }
}

#[tokio::test]
async fn a_failed_model_is_reported_and_opens_no_breaker() {
    for fault in FAULTS {
        let well = std::sync::Arc::new(AtomicBool::new(false));
        let is_well = std::sync::Arc::clone(&well);
        let model = move |request: &Received| match is_well.load(Ordering::SeqCst) {
            true => says(request, "Cache the list"),
            false => fault.reply(request),
        };
        let scene = Scene::new(model).await;
        let (id, inputs) = actions().remove(0);
        let calls = if fault == Fault::IsSilent { 1 } else { 12 };
        for _ in 0..calls {
            assert_eq!(scene.gitlab.action(id, &inputs).await, UNEXPECTED, "{fault:?}");
        }
        assert!(!scene.gitlab.breaker_is_open(), "{fault:?}");
        well.store(true, Ordering::SeqCst);
        assert_eq!(
            scene.gitlab.action(id, &inputs).await,
            Shown::text("Cache the list"),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_review_becomes_comments_on_lines() {
    let scene = Scene::says(
        "<review>\n<comment file=\"a.rb\" old_line=\"\" new_line=\"2\">\nUse a set.\n<from>\nx = []\n</from>\n<to>\nx = Set.new\n</to>\n</comment>\n</review>",
    )
    .await;
    let diff = "<file_diff filename=\"a.rb\"><line type=\"added\" old_line=\"\" new_line=\"2\">x = []</line></file_diff>";
    let comments = scene.gitlab.review(diff).await.unwrap();
    assert_eq!(comments.len(), 1);
    assert_eq!(
        (comments[0].file.as_str(), comments[0].new_line, comments[0].body.as_str()),
        ("a.rb", Some(2), "Use a set.")
    );
    assert!(scene.upstream.only_request().text().contains("x = []"));
}

#[tokio::test]
async fn a_review_that_fails_is_requested_once_more_without_the_files() {
    let model = |request: &Received| {
        let has_files = request.text().contains("The files in full");
        if has_files { Fault::Breaks.reply(request) } else { says(request, "<review>\n</review>") }
    };
    let scene = Scene::new(model).await;
    assert_eq!(
        scene.gitlab.review("<file_diff filename=\"a.rb\"></file_diff>").await,
        Some(Vec::new())
    );
}

#[tokio::test]
async fn a_fix_is_code_or_a_false_positive() {
    let scene = Scene::says(
        "<analysis>\nNot escaped.\n</analysis>\n<summary>\nEscape it.\n</summary>\n<is_false_positive>\nfalse\n</is_false_positive>\n<fixed_code>\nh(x)\n</fixed_code>",
    )
    .await;
    let fix = scene.gitlab.fix("raw(x)").await.unwrap();
    assert_eq!((fix.code.as_deref(), fix.is_false_positive), (Some("h(x)\n"), false));
    assert_eq!(
        (fix.analysis.as_deref(), fix.summary.as_deref()),
        (Some("Not escaped.\n"), Some("Escape it.\n"))
    );
}

#[tokio::test]
async fn thinking_is_nobodys_business() {
    let thinking = "<think>Which list? Final Answer: no.</think>Cache the list";
    let scene = Scene::of_gitlab("qwen", move |request| says(request, thinking)).await;
    let (id, inputs) = actions().remove(0);
    assert_eq!(scene.gitlab.action(id, &inputs).await, Shown::text("Cache the list"));
}

#[tokio::test]
async fn disabled_actions_are_refused_and_nothing_is_sent() {
    let scene = Scene::disabled("generate_commit_message").await;
    let (id, inputs) = actions().remove(0);
    assert_eq!(scene.gitlab.action(id, &inputs).await, UNEXPECTED);
    assert_eq!(scene.received(), 0);
}
