//! Test connection, health check, the rake task (contract::gitlab_client §10) and the editor's
//! token (contract::gitlab_client §3.4).

use super::{FAULTS, Fault, Scene};
use crate::gitlab::admin::Connection;
use crate::support::upstream::says;

#[tokio::test]
async fn the_buttons_say_that_all_is_well() {
    let scene = Scene::of_gitlab("mistral", |request| says(request, "OK")).await;
    assert_eq!(scene.gitlab.test_connection().await, Connection::Good);
    assert_eq!(scene.received(), 1);
    assert!(scene.gitlab.health_check().await);
    assert!(scene.gitlab.verify_setup().await);
}

#[tokio::test]
async fn test_connection_says_what_is_wrong_with_the_model() {
    for fault in FAULTS {
        let scene = Scene::of_gitlab("mistral", move |request| fault.reply(request)).await;
        let stated = scene.gitlab.test_connection().await;
        let expected = match fault {
            Fault::Refuses => "401: Unauthorized",
            Fault::Breaks => "500: Internal Server Error",
            Fault::IsBusy => "429: Too Many Requests",
            Fault::IsCut | Fault::TalksGarbage => "502: Bad Gateway",
            Fault::IsSilent => {
                assert!(matches!(&stated, Connection::Gateway(504, _)), "{stated:?}");
                continue;
            }
        };
        assert!(
            matches!(&stated, Connection::ModelServer(text) if text.starts_with(expected)),
            "{fault:?}: {stated:?}"
        );
    }
}

#[tokio::test]
async fn an_editor_gets_a_token_to_connect_by_itself() {
    let scene = Scene::says("return a + b").await;
    let token = scene.gitlab.user_token().await;
    assert!(token.is_ok_and(|token| !token.is_empty()));
}
