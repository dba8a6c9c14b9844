//! Questions about GitLab (contract::gitlab_client §9.1, §8.2): the documentation is searched, the
//! model answers from what was found, and GitLab shows the pages that the answer came from.

use std::process::Command;

use serde_json::Value;

use super::{FAULTS, SCALED, Scene};
use crate::gitlab::Shown;
use crate::support::upstream::{Received, says};
use crate::support::{Folder, Reply};

const QUESTION: &str = "How do I protect a branch?";
const ANSWER: &str = "Choose **Settings > Repository**, then **Protected branches**.";
const PAGE: &str = "https://docs.gitlab.com/user/project/repository/branches/";

/// `[docs]` with an index of the pages in `tests/golden/docs`, made as the operator makes it.
fn index(folder: &Folder) -> String {
    let file = folder.path("docs.index");
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/docs");
    let made = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["docs", "index", pages, "-o"])
        .arg(&file)
        .output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    format!("{SCALED}[docs]\nindex = {file:?}\n")
}

/// The ids of the passages that the model is given.
fn passages(request: &Received) -> Vec<String> {
    let messages = request.json()["messages"].take();
    let texts =
        messages.as_array().unwrap().iter().filter_map(|message| message["content"].as_str());
    let ids = texts.flat_map(|text| text.split("<passage id=\"CNT-IDX-").skip(1));
    ids.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// The model answers from the first passage, by the grammar, and names one that it was not given.
fn from_the_first(request: &Received) -> Reply {
    match &passages(request)[..] {
        [first, ..] => {
            says(request, &format!("{ANSWER}\n\nATTRS:\nCNT-IDX-{first}\nCNT-IDX-0nothing"))
        }
        [] => says(request, "I don't know how to answer that from the documentation.\n\nATTRS:\n"),
    }
}

#[tokio::test]
async fn an_answer_comes_with_the_pages_it_is_from() {
    let folder = Folder::new("conformance-docs");
    let scene = Scene::with(from_the_first, "", &index(&folder)).await;
    let documents = scene.gitlab.search_docs(QUESTION).await.unwrap();
    assert!((2..=4).contains(&documents.len()), "{documents:?}");
    for document in &documents {
        let id = document["id"].as_str().unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
        assert!(
            document["content"].is_string() && document["metadata"]["filename"].is_string(),
            "{document}"
        );
    }
    assert_eq!(scene.received(), 0, "the model does not search");
    let found = scene.gitlab.documentation(QUESTION).await.unwrap();
    assert_eq!((found.text.as_str(), &found.sources[..]), (ANSWER, &[PAGE.to_owned()][..]));
    let sent = scene.upstream.only_request();
    let given: Vec<Value> = passages(&sent).into_iter().map(Value::from).collect();
    let ids: Vec<Value> = documents.iter().map(|document| document["id"].clone()).collect();
    assert_eq!(given, ids, "all that was found, in its order");
    assert!(
        sent.text().contains("such as `release-*`") && sent.text().contains(QUESTION),
        "{}",
        sent.text()
    );
}

#[tokio::test]
async fn an_answer_that_does_not_know_has_no_sources() {
    let lost = |request: &Received| {
        let ids = passages(request);
        says(request, &format!("I don't know how to answer that.\n\nATTRS:\nCNT-IDX-{}", ids[0]))
    };
    let folder = Folder::new("conformance-docs-lost");
    let scene = Scene::with(lost, "", &index(&folder)).await;
    let found = scene.gitlab.documentation(QUESTION).await.unwrap();
    assert_eq!((found.text.as_str(), found.sources.len()), ("I don't know how to answer that.", 0));
}

#[tokio::test]
async fn the_chat_looks_it_up() {
    let model = |request: &Received| match request.text() {
        reported if reported.contains("Protected branches") && passages(request).is_empty() => {
            says(request, "I know.\nFinal Answer: In the repository's settings.")
        }
        _ if !passages(request).is_empty() => from_the_first(request),
        _ => says(
            request,
            &format!("I must look.\nAction: gitlab_documentation\nAction Input: {QUESTION}"),
        ),
    };
    let folder = Folder::new("conformance-docs-chat");
    let tables = format!("[chat]\ntools = \"react\"\n{}", index(&folder));
    let scene = Scene::with(model, "", &tables).await;
    assert_eq!(scene.gitlab.chat(QUESTION).await, Shown::text("In the repository's settings."));
    assert_eq!(scene.received(), 3);
}

#[tokio::test]
async fn without_an_index_nothing_is_found_and_the_answer_has_no_sources() {
    let scene = Scene::new(from_the_first).await;
    assert_eq!(scene.gitlab.search_docs(QUESTION).await, Ok(Vec::new()));
    let found = scene.gitlab.documentation(QUESTION).await.unwrap();
    assert_eq!(found.text, "I don't know how to answer that from the documentation.");
    assert!(found.sources.is_empty(), "{found:?}");
    // a model that makes up an id all the same
    let scene = Scene::says("Press the green button.\nATTRS:\nCNT-IDX-abc123").await;
    let found = scene.gitlab.documentation(QUESTION).await.unwrap();
    assert_eq!((found.text.as_str(), found.sources.len()), ("Press the green button.", 0));
}

#[tokio::test]
async fn a_failed_model_is_an_apology_and_the_search_goes_on() {
    let folder = Folder::new("conformance-docs-faults");
    let tables = index(&folder);
    for fault in FAULTS {
        let scene = Scene::with(move |request| fault.reply(request), "", &tables).await;
        assert_eq!(scene.gitlab.documentation(QUESTION).await, Err("A9999"), "{fault:?}");
        assert!(
            scene.gitlab.search_docs(QUESTION).await.is_ok_and(|found| !found.is_empty()),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_disabled_chat_answers_nothing_from_the_documentation() {
    let scene = Scene::disabled("duo_chat").await;
    assert_eq!(scene.gitlab.documentation(QUESTION).await, Err("M3005"));
    assert_eq!(scene.received(), 0);
}
