//! Semantic code search: vectors for the code and for the question (contract::gitlab_client §9.4).

use serde_json::json;

use super::{FAULTS, Fault, Scene};
use crate::gitlab::embeddings::DIMENSIONS;
use crate::support::Reply;
use crate::support::upstream::Received;

const CODE: [&str; 2] = ["def add(a, b): return a + b", "class Ü"];

/// A model whose vector begins with the length of the text; the last text's comes first.
fn vectors(request: &Received) -> Reply {
    let received = request.json();
    let texts = received["input"].as_array().unwrap();
    let vector = |at: usize| {
        let length = texts[at].as_str().unwrap().len();
        json!({"object": "embedding", "index": at, "embedding": [length, 0.5, -0.125]})
    };
    let data: Vec<_> = (0..texts.len()).rev().map(vector).collect();
    Reply::json(
        200,
        &json!({"object": "list", "data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}),
    )
}

#[tokio::test]
async fn code_and_questions_become_vectors_whoever_names_the_model() {
    for scene in [Scene::of_gitlab("embedding", vectors).await, Scene::new(vectors).await] {
        let indexed = scene.gitlab.index_code(&CODE).await.unwrap();
        assert_eq!(indexed, [vec![27.0, 0.5, -0.125], vec![8.0, 0.5, -0.125]]);
        assert_eq!(scene.gitlab.search_code("sum").await.unwrap(), [vec![3.0, 0.5, -0.125]]);
        let sent = scene.upstream.requests();
        assert_eq!(
            (&sent[0].json()["input"], &sent[1].json()["input"]),
            (&json!(CODE), &json!(["sum"]))
        );
        for request in sent {
            assert_eq!(
                (&request.json()["model"], &request.json()["dimensions"]),
                (&json!("up"), &json!(DIMENSIONS))
            );
        }
    }
}

#[tokio::test]
async fn a_failed_model_is_reported_in_a_sentence() {
    for fault in FAULTS {
        let (status, detail) = match fault {
            Fault::Refuses => (401, "The model server answered 401 Unauthorized"),
            Fault::Breaks => (502, "The model server answered 500 Internal Server Error"),
            Fault::IsBusy => (429, "The model server answered 429 Too Many Requests"),
            Fault::IsSilent => (504, "m did not answer within 0.6 s"),
            Fault::IsCut => (502, "The model server"),
            Fault::TalksGarbage => (502, "The model server's answer could not be read"),
        };
        let scene = Scene::new(move |request| fault.reply(request)).await;
        for answer in [scene.gitlab.index_code(&CODE).await, scene.gitlab.search_code("sum").await]
        {
            let (reported, text) = answer.unwrap_err();
            assert!(reported == status && text.contains(detail), "{fault:?}: {reported} {text}");
            assert!(!text.contains("127.0.0.1") && !text.contains("<html>"), "{fault:?}: {text}");
        }
        assert_eq!(scene.received(), 2, "{fault:?}: no hidden retries");
    }
}

#[tokio::test]
async fn a_model_of_another_kind_is_refused_and_nothing_is_sent() {
    let scene = Scene::of_gitlab("mistral", vectors).await;
    let stated = "Model `name` must be 'embedding' when using `litellm` provider.";
    for answer in [scene.gitlab.index_code(&CODE).await, scene.gitlab.search_code("sum").await] {
        assert_eq!(answer, Err((422, stated.to_owned())));
    }
    assert_eq!(scene.received(), 0);
}

#[tokio::test]
async fn a_disabled_search_is_refused_and_nothing_is_sent() {
    let scene = Scene::disabled("embeddings_code").await;
    for answer in [scene.gitlab.index_code(&CODE).await, scene.gitlab.search_code("sum").await] {
        let (status, text) = answer.unwrap_err();
        assert!(status == 403 && text.contains("features.embeddings_code"), "{status} {text}");
    }
    assert_eq!(scene.received(), 0);
}
