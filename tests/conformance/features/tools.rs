//! Chat's slash commands and readers (contract::gitlab_client §8.2, §11.2).

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{FAULTS, Scene};
use crate::gitlab::Shown;
use crate::support::upstream::{Received, says};

/// The slash commands' prompts and what Rails gives them.
fn commands() -> Vec<(&'static str, Value)> {
    let code = json!({"input": "Explain the code the user selected.", "suggestions": null, "selected_text": "x = 1",
        "file_content": "x = 1\ny = 2", "language_info": "The code is Python.", "libraries": ["os"],
        "file_content_reuse": "The file is given above."});
    let with = |more: Value| {
        let mut inputs = code.clone();
        inputs.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        inputs
    };
    vec![
        ("chat/explain_code", code.clone()),
        ("chat/write_tests", code.clone()),
        ("chat/refactor_code", code.clone()),
        ("chat/fix_code", code.clone()),
        (
            "chat/troubleshoot_job",
            json!({"input": "Why?", "suggestions": null, "selected_text": "exit 1", "language_info": ""}),
        ),
        (
            "chat/summarize_comments",
            with(json!({"notes_content": "<comment>Looks good.</comment>"})),
        ),
        (
            "chat/explain_vulnerability",
            with(json!({"title": "XSS", "identifiers": "CWE-79", "vulnerability_info": "high",
                "vulnerability_description": "Output is not escaped."})),
        ),
    ]
}

#[tokio::test]
async fn slash_commands_show_the_models_text() {
    let scene = Scene::says("It **adds** one.\n\n```python\nx += 1\n```").await;
    for (id, inputs) in commands() {
        let shown = scene.gitlab.slash_command(id, &inputs).await;
        assert_eq!(shown, Shown::text("It **adds** one.\n\n```python\nx += 1\n```"), "{id}");
    }
    for request in scene.upstream.requests() {
        assert_eq!(request.json()["stream"], true);
    }
}

#[tokio::test]
async fn a_failed_model_is_m4000_and_what_flashes_by_is_fit_to_read() {
    for fault in FAULTS {
        let scene = Scene::new(move |request| fault.reply(request)).await;
        let (id, inputs) = commands().remove(0);
        let streamed = scene.gitlab.stream(id, &inputs).await;
        assert!(streamed.ended.is_err(), "{fault:?}: {}", streamed.seen);
        let internals = ["{", "127.0.0.1", "scripted fault", "<html>"];
        assert!(
            internals.iter().all(|text| !streamed.seen.contains(text)),
            "{fault:?}: {}",
            streamed.seen
        );
        assert!(streamed.seen.len() < 200, "{fault:?}: {}", streamed.seen);
        assert_eq!(
            scene.gitlab.slash_command(id, &inputs).await,
            Shown::Code("M4000"),
            "{fault:?}"
        );
    }
}

const READERS: [&str; 6] = [
    "build_reader",
    "issue_reader",
    "epic_reader",
    "merge_request_reader",
    "commit_reader",
    "work_item_reader",
];

#[tokio::test]
async fn readers_name_a_resource_in_each_form_a_model_may_say_it() {
    for text in [
        "```json\n{\"ResourceIdentifierType\": \"iid\", \"ResourceIdentifier\": 123}\n```",
        "{\"ResourceIdentifierType\": \"iid\", \"ResourceIdentifier\": 123}",
        "iid\", \"ResourceIdentifier\": 123}",
    ] {
        let scene = Scene::says(text).await;
        for reader in READERS {
            let resource = scene.gitlab.read_resource(reader, "the issue 123").await;
            assert_eq!(resource.unwrap()["ResourceIdentifier"], 123, "{reader}: {text}");
        }
        assert_eq!(scene.received(), READERS.len());
    }
}

#[tokio::test]
async fn a_reader_that_rambles_is_called_three_times() {
    let scene = Scene::says("You probably mean the issue about the login page.").await;
    assert_eq!(scene.gitlab.read_resource("issue_reader", "that issue").await, Err("M3003"));
    assert_eq!(scene.received(), 3);
    let received = AtomicUsize::new(0);
    let model = move |request: &Received| match received.fetch_add(1, Ordering::SeqCst) {
        0 => says(request, "The one on the page."),
        _ => says(request, "current\", \"ResourceIdentifier\": \"current\"}"),
    };
    let scene = Scene::new(model).await;
    let resource = scene.gitlab.read_resource("issue_reader", "this issue").await.unwrap();
    assert_eq!(resource["ResourceIdentifierType"], "current");
}

#[tokio::test]
async fn a_failed_model_is_m4001_for_a_reader() {
    for fault in FAULTS {
        let scene = Scene::new(move |request| fault.reply(request)).await;
        assert_eq!(
            scene.gitlab.read_resource("epic_reader", "&1").await,
            Err("M4001"),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn disabled_commands_are_refused_and_nothing_is_sent() {
    let scene = Scene::disabled("duo_chat_explain_code").await;
    let (id, inputs) = commands().remove(0);
    assert_eq!(scene.gitlab.slash_command(id, &inputs).await, Shown::Code("M4000"));
    assert_eq!(scene.received(), 0);
}
