//! The composer of merge request descriptions (contract::gitlab_client §9.2): a call in Anthropic's
//! words, whatever the model speaks.

use super::{FAULTS, Fault, Scene};

#[tokio::test]
async fn a_description_is_what_the_operators_model_wrote() {
    let scene = Scene::says("Caches the list, so that pages are **fast**.").await;
    let composed = scene.gitlab.compose_description("+ x = 1").await;
    assert_eq!(composed.as_deref(), Ok("Caches the list, so that pages are **fast**."));
    let sent = scene.upstream.only_request();
    assert_eq!((sent.path.as_str(), &sent.json()["model"]), ("/v1/chat/completions", &"up".into()));
    let messages = &sent.json()["messages"];
    assert_eq!(
        (&messages[0]["role"], &messages[1]["role"]),
        (&"system".into(), &"user".into()),
        "{messages}"
    );
    for text in ["You write descriptions", "+ x = 1"] {
        assert!(sent.text().contains(text), "{text}: {}", sent.text());
    }
}

#[tokio::test]
async fn a_failed_model_is_a_status_and_never_an_empty_description() {
    for fault in FAULTS {
        let scene = Scene::new(move |request| fault.reply(request)).await;
        let expected = match fault {
            Fault::IsBusy => 429,
            Fault::IsSilent => 504,
            Fault::Refuses | Fault::Breaks | Fault::IsCut | Fault::TalksGarbage => 502,
        };
        assert_eq!(scene.gitlab.compose_description("+ x = 1").await, Err(expected), "{fault:?}");
        assert_eq!(scene.received(), 1, "{fault:?}: no hidden retries");
    }
}

#[tokio::test]
async fn without_a_model_for_it_nothing_is_sent() {
    // it is no feature of GitLab's screens: what `features.default` says holds
    let scene = Scene::all_disabled().await;
    assert_eq!(scene.gitlab.compose_description("+ x = 1").await, Err(403));
    assert_eq!(scene.received(), 0);
}
