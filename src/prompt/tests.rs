//! The rules of files and of the registry.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{DefinitionError, LookupError, PromptRegistry, RenderError};
use crate::generation::{Message, Role};
use crate::model::Family;

const BASE: &str = r#"description = "d"
versions = ["1.0.0", "1.1.0-dev"]
feature = "duo_chat"
unit_primitives = ["duo_chat"]
inputs = ["a"]
optional = ["b"]
stop = ["END"]

[[messages]]
role = "system"
text = "Be brief."

[[messages]]
role = "user"
text = '''
{{ a }}
{% if b %}
and {{ b }}
{% endif %}
'''
"#;

fn load(files: &[(&str, &str)]) -> Result<PromptRegistry, Vec<DefinitionError>> {
    PromptRegistry::load(files.iter().copied())
}

fn inputs(json: Value) -> Map<String, Value> {
    serde_json::from_value(json).unwrap()
}

/// Returns a family that searches these folders.
fn family(folders: &[&str]) -> Family {
    Family { prompts: folders.iter().map(|folder| (*folder).into()).collect(), ..Family::default() }
}

/// Returns the errors as `path: text of the span: message`.
fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let text_of = |path: &str| files.iter().find(|(name, _)| *name == path).unwrap().1;
    let line = |flaw: DefinitionError| {
        format!("{}: {}: {}", flaw.path, &text_of(&flaw.path)[flaw.span.clone()], flaw.message)
    };
    load(files).unwrap_err().into_iter().map(line).collect()
}

#[test]
fn every_file_of_the_directory_is_embedded() {
    fn walk(dir: &Path, below: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{below}{}", path.file_name().unwrap().to_string_lossy());
            if path.is_dir() { walk(&path, &format!("{name}/"), found) } else { found.push(name) }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prompts"), "", &mut found);
    found.sort();
    let listed: Vec<&str> =
        PromptRegistry::embedded_files().iter().map(|(path, _)| *path).collect();
    assert_eq!(listed, found, "src/prompt/embedded.rs lists config/prompts/, in order");
    PromptRegistry::embedded().unwrap();
}

#[test]
fn inputs_are_rendered_and_optional_ones_may_be_absent() {
    let registry = load(&[("x/y/base.toml", BASE)]).unwrap();
    let prompt = registry.get("x/y", &Family::default(), None).unwrap();
    let rendered = prompt.render(&inputs(json!({"a": "{{ b }}", "other": 1}))).unwrap();
    assert_eq!(
        rendered.messages,
        [Message::text(Role::System, "Be brief."), Message::text(Role::User, "{{ b }}\n")]
    );
    assert_eq!(
        (rendered.sampling.stop.as_slice(), rendered.prefill),
        (&["END".to_owned()][..], false)
    );
    let with = prompt.render(&inputs(json!({"a": "1", "b": "2"}))).unwrap();
    assert_eq!(with.messages[1], Message::text(Role::User, "1\nand 2\n"));
    let missing = prompt.render(&inputs(json!({"b": 1}))).unwrap_err();
    assert_eq!((missing.to_string().as_str(), missing), ("'a'", RenderError::Missing("a".into())));
}

#[test]
fn a_familys_file_overrides_its_base() {
    let mistral = "temperature = 0.7\n[[messages]]\nrole = \"user\"\ntext = \"M {{ a }}{{ b }}\"\n";
    let registry = load(&[
        ("p/base.toml", BASE),
        ("p/mistral.toml", mistral),
        ("p/gpt.toml", "versions = [\"2.0.0\"]\n"),
    ])
    .unwrap();
    let text = |folders: &[&str], version| {
        let rendered = registry
            .get("p", &family(folders), version)
            .unwrap()
            .render(&inputs(json!({"a": "1"})))
            .unwrap();
        (rendered.messages.len(), rendered.sampling.temperature)
    };
    assert_eq!(text(&["mistral"], None), (1, Some(0.7)));
    assert_eq!(text(&["codestral", "mistral"], None), (1, Some(0.7)), "mistral's relative");
    assert_eq!(text(&["llama3"], None), (2, None));
    assert_eq!(text(&["gpt"], Some("2.0.0")), (2, None));
    assert_eq!(
        registry.get("p", &family(&["gpt"]), Some("^1.0.0")).unwrap().family,
        None,
        "its own versions do not fit"
    );
    assert_eq!(registry.iter().filter(|prompt| &*prompt.id == "p").count(), 3);
}

#[test]
fn lookup_errors_have_the_text_of_the_contract() {
    let registry = load(&[("p/base.toml", BASE)]).unwrap();
    let missing =
        |id, version| registry.get(id, &Family::default(), version).unwrap_err().to_string();
    assert_eq!(missing("q", None), "Prompt 'q' not found");
    assert_eq!(
        missing("p", Some("^9.0.0")),
        "No version matching '^9.0.0' (available: ['1.0.0', '1.1.0-dev'])"
    );
    assert_eq!(
        registry.get("p", &Family::default(), Some("what?")).unwrap_err(),
        LookupError::Constraint
    );
    assert!(registry.get("p", &Family::default(), Some("1.1.0-dev")).is_ok());
}

#[test]
fn every_error_has_its_span() {
    let broken = BASE
        .replace("\"1.1.0-dev\"", "\"1.1\"")
        .replace("\"duo_chat\"\nunit", "\"chitchat\"\nunit")
        .replace("\"system\"", "\"sytem\"");
    let found = errors(&[("p/base.toml", &broken)]).join("\n");
    for expected in [
        "p/base.toml: \"1.1\": expected a version",
        "p/base.toml: \"chitchat\": expected the key of one",
        "p/base.toml: \"sytem\": expected \"system\"",
    ] {
        assert!(found.contains(expected), "{found}");
    }
    let of_templates = BASE.replace("{{ a }}", "first\n{{ a | upcase }}{{ c }}");
    assert_eq!(
        errors(&[("p/base.toml", &of_templates)]),
        ["p/base.toml: c: c is neither in `inputs` nor in `optional`"]
    );
    let of_syntax = BASE.replace("{{ a }}", "first\n  {% iff a %}");
    assert!(
        errors(&[("p/base.toml", &of_syntax)])[0]
            .starts_with("p/base.toml: {% iff a %}: syntax error: unknown statement")
    );
    let unused = BASE.replace("optional = [\"b\"]", "optional = [\"b\", \"d\"]");
    assert_eq!(
        errors(&[("p/base.toml", &unused)]),
        ["p/base.toml: \"d\": the input d is used by no message"]
    );
}

#[test]
fn rendering_the_example_finds_what_static_checks_do_not() {
    let with = |filter: &str, example: &str| {
        format!(
            "{}\n[example]\n{example}\n",
            BASE.replace("{{ a }}", &format!("{{{{ a | {filter} }}}}"))
        )
    };
    assert!(load(&[("p/base.toml", &with("upper", "a = \"x\""))]).is_ok());
    let found = errors(&[("p/base.toml", &with("upcase", "a = \"x\""))]);
    assert!(
        found[0].starts_with(
            "p/base.toml: {{ a | upcase }}: with the inputs of [example]: unknown filter"
        ),
        "{found:?}"
    );
    let found = errors(&[("p/base.toml", &with("upper", "b = \"x\""))]);
    assert_eq!(found, ["p/base.toml: [example]: the input a is missing here"]);
}

#[test]
fn files_must_be_where_they_belong() {
    let found = errors(&[
        ("p/gpt.toml", "temperature = 1.0\n"),
        ("stray.toml", ""),
        ("q/llama4.toml", ""),
        ("shared/x.txt", "{{ a }}"),
        ("r/base.toml", "descrption = \"d\"\n"),
    ]);
    let starts = [
        "stray.toml: : expected <prompt id>/base.toml",
        "shared/x.txt: a: a: shared texts have no inputs",
        "r/base.toml: descrption: unknown field `descrption`",
        "p/gpt.toml: : there is no p/base.toml",
        "q/llama4.toml: : there is no q/base.toml",
    ];
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
    assert_eq!(found.len(), starts.len(), "{found:?}");
}
