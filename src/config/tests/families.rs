//! `[families]`: built-in ones changed, new ones, and what is wrong with them.

use super::{good, wrong};
use crate::model::{Completion, CompletionEndpoint, Families, Family, ToolStyle};

const FIM: &str = "[families.mine]\ncompletion = \"fim\"\nfim.template = \"<P>{prefix}<S>{suffix}<M>\"\nfim.stop = [\"<P>\"]\n";

/// Returns the family of the model `m`, whose other keys are `model`.
fn of_model(families: &str, model: &str) -> Family {
    let config = good(&format!("[models.m]\nendpoint = \"http://gpu:8000/v1\"\n{model}{families}"));
    (*config.models[0].family).clone()
}

#[test]
fn a_built_in_family_is_changed_line_by_line() {
    let before = of_model("", "family = \"codestral\"\n");
    let after = of_model(
        "[families.codestral]\ncontext_tokens = 8192\ntools = \"react\"\n",
        "family = \"codestral\"\n",
    );
    assert_eq!(after, Family { context_tokens: 8192, tools: ToolStyle::React, ..before.clone() });
    let prose =
        of_model("[families.codestral]\ncompletion = \"chat\"\n", "family = \"codestral\"\n");
    assert_eq!(prose, Family { completion: Completion::Chat, ..before });
}

#[test]
fn a_family_of_ones_own_is_like_another() {
    let own = of_model(FIM, "family = \"mine\"\n");
    let Completion::Fim(fim) = &own.completion else { panic!("{own:?}") };
    assert_eq!(
        (fim.template.render("a", "b").as_str(), fim.stop.as_slice()),
        ("<P>a<S>b<M>", &["<P>".to_owned()][..])
    );
    let general = Families::default().get("general");
    assert_eq!(
        own,
        Family { name: "mine".into(), completion: own.completion.clone(), ..(*general).clone() }
    );
    let like =
        of_model("[families.mine]\nlike = \"mixtral\"\ntemperature = 0.5\n", "family = \"mine\"\n");
    assert!(
        like.unescape_underscores && like.temperature == Some(0.5) && like.context_tokens == 32_000,
        "{like:?}"
    );
    let integer = of_model("[families.mine]\ntemperature = 1\n", "family = \"mine\"\n");
    assert_eq!(integer.temperature, Some(1.0));
}

#[test]
fn a_models_own_keys_win() {
    let own = of_model(
        "",
        "family = \"codestral\"\ncontext_tokens = 4096\ncompletion_endpoint = \"chat\"\n",
    );
    assert_eq!(
        (own.context_tokens, own.completion_endpoint),
        (4096, Some(CompletionEndpoint::Chat))
    );
    assert_eq!(&*own.name, "codestral");
}

#[test]
fn faults_name_what_is_missing() {
    wrong(
        "[families.mine]\ncompletion = \"fim\"\n",
        "2:14: error: families.mine.completion: expected fim.template as well",
        "fim.template = \"<PRE>{prefix}<SUF>{suffix}<MID>\", with your model's own FIM tokens",
    );
    wrong(
        "[families.mine]\nfim.template = \"<P>{prefix}\"\n",
        "2:16: error: families.mine.fim.template: found \"<P>{prefix}\", expected {prefix} and {suffix}, each once",
        "",
    );
    wrong(
        "[families.mine]\ntemperature = 3\n",
        "2:15: error: families.mine.temperature: found 3, expected a number from 0 to 2",
        "",
    );
    let (headline, hint) = super::one("[families.mine]\nlike = \"codestal\"\n");
    assert!(
        headline.starts_with("2:8: error: families.mine.like: found \"codestal\", expected one of"),
        "{headline}"
    );
    assert_eq!(hint, "did you mean \"codestral\"?");
}

#[test]
fn a_faulty_family_is_reported_once() {
    let text = "[models.m]\nendpoint = \"http://gpu:8000/v1\"\nfamily = \"mine\"\n[families.mine]\ncompletion = \"fim\"\n";
    let (headline, _) = super::one(text);
    assert!(headline.contains("families.mine.completion"), "{headline}");
}

#[test]
fn more_stop_texts_than_servers_take_are_a_fault() {
    wrong(
        "[families.mine]\nlike = \"codestral\"\nfim.stop = [\"a\", \"b\", \"c\", \"d\", \"e\"]\n",
        "3:33: error: families.mine.fim.stop: expected at most 4 texts",
        "OpenAI's API and vLLM refuse a request with more: keep those that end a middle",
    );
}
