//! Code suggestions: what the editor is given (contract::gitlab_client §6, §11.4, §13).

use super::{FAULTS, Fault, Scene};
use crate::gitlab::ide::{Form, Suggested};
use crate::support::upstream::says;

const GENERATE: [&str; 2] = ["/v3/code/completions", "/v4/code/suggestions"];
pub(super) const FORMS: [Form; 2] = [Form::Whole, Form::Stream];

fn code(text: &str) -> Suggested {
    Suggested::Code(text.to_owned())
}

#[tokio::test]
async fn code_is_completed_with_the_models_of_every_family() {
    let families = [
        "codegemma",
        "codellama",
        "codestral",
        "deepseekcoder",
        "mistral",
        "mixtral",
        "llama3",
        "claude_3",
        "gpt",
        "general",
        "gemini",
        "qwen",
        "a_new_one",
    ];
    for family in families {
        let scene = Scene::of_gitlab(family, |request| says(request, "return a + b")).await;
        for form in FORMS {
            assert_eq!(
                scene.gitlab.complete(form).await,
                code("return a + b"),
                "{family} {form:?}"
            );
            assert_eq!(
                scene.gitlab.complete_v4(form).await,
                code("return a + b"),
                "{family} {form:?}"
            );
        }
        for request in scene.upstream.requests() {
            assert!(request.text().contains("def add(a, b)"), "{family}: {}", request.text());
        }
    }
}

#[tokio::test]
async fn code_is_generated_without_its_wrapping() {
    let wrapped = "<new_code>\ndef add(a, b):\n    return a + b\n</new_code>";
    let scene = Scene::of_gitlab("mistral", move |request| says(request, wrapped)).await;
    for path in GENERATE {
        for form in FORMS {
            let Suggested::Code(text) = scene.gitlab.generate(path, form).await else {
                panic!("{path} {form:?}")
            };
            assert_eq!(text.trim(), "def add(a, b):\n    return a + b", "{path} {form:?}");
        }
    }
}

#[tokio::test]
async fn the_operators_model_answers_where_gitlab_names_none() {
    let scene = Scene::says("return a + b").await;
    assert_eq!(scene.gitlab.complete(Form::Whole).await, code("return a + b"));
    for form in FORMS {
        assert_eq!(scene.gitlab.generate(GENERATE[1], form).await, code("return a + b"));
    }
}

/// Returns whether the editor shows the fault as it should.
pub(super) fn is_reported(fault: Fault, form: Form, suggested: &Suggested) -> bool {
    match (fault, suggested) {
        // what was already sent cannot be taken back
        (Fault::IsCut, Suggested::Broken(_)) => form == Form::Stream,
        (Fault::IsBusy, Suggested::Refused { status: 429, retry_after: Some(1) })
        | (Fault::IsSilent, Suggested::Refused { status: 504, .. }) => true,
        (Fault::IsBusy | Fault::IsSilent, _) => false,
        (_, suggested) => matches!(suggested, Suggested::Refused { status: 421, .. }),
    }
}

#[tokio::test]
async fn a_failed_model_is_a_status_before_workhorse_gives_up() {
    for fault in FAULTS {
        let scene = Scene::new(move |request| fault.reply(request)).await;
        for form in FORMS {
            let mut shown =
                vec![scene.gitlab.complete(form).await, scene.gitlab.complete_v4(form).await];
            for path in GENERATE {
                shown.push(scene.gitlab.generate(path, form).await);
            }
            for suggested in shown {
                assert!(is_reported(fault, form, &suggested), "{fault:?} {form:?}: {suggested:?}");
            }
        }
        assert!(scene.received() <= 16, "{fault:?}: asked {} times", scene.received());
    }
}

#[tokio::test]
async fn disabled_completion_is_403_and_nothing_is_sent() {
    let scene = Scene::disabled("code_completions").await;
    let refused = Suggested::Refused { status: 403, retry_after: None };
    assert_eq!(scene.gitlab.complete(Form::Whole).await, refused);
    assert_eq!(scene.gitlab.complete_v4(Form::Stream).await, refused);
    assert_eq!(scene.received(), 0);
}
