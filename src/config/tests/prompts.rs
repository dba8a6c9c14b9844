//! `[prompts]`: an operator's directory over the built-in prompts.

use std::path::PathBuf;

use super::{bad_with, good};
use crate::config::{Severity, from_str};
use crate::model::Family;
use crate::prompt::PromptRegistry;

const OWN: &str = "description = \"mine\"\nversions = [\"1.0.0\"]\nfeature = \"duo_chat\"\nunit_primitives = [\"duo_chat\"]\n\
                   inputs = [\"a\"]\n[[messages]]\nrole = \"user\"\ntext = \"{{ a }}\"\n";

/// Creates a directory with these prompt files for one test, and the path of a configuration in it.
fn directory(test: &str, files: &[(&str, &str)]) -> (PathBuf, String) {
    let dir = std::env::temp_dir().join(format!("weir-prompts-{test}-{}", std::process::id()));
    for (path, text) in files {
        let file = dir.join("own").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let name = dir.join("weir.toml").to_str().unwrap().to_owned();
    (dir, name)
}

const TEXT: &str = "[prompts]\ndir = \"own\"\n";

#[test]
fn without_a_directory_the_built_in_prompts_are_used() {
    let config = good("");
    assert!(std::sync::Arc::ptr_eq(&config.prompts, &PromptRegistry::embedded().unwrap()));
}

#[test]
fn files_replace_and_complement_the_built_in_ones() {
    let gpt = "temperature = 0.9\n";
    let (dir, name) = directory(
        "good",
        &[
            ("generate_commit_message/base.toml", OWN),
            ("generate_commit_message/.base.toml.swp", "rubbish"),
            ("generate_commit_message/base.toml~", "rubbish"),
            ("mine/base.toml", OWN),
            ("summarize_review/gpt.toml", gpt),
            ("README.md", "of the directory"),
        ],
    );
    let config = from_str(TEXT, &name, &super::env(&[])).unwrap();
    let described = |id: &str| config.prompts.base(id).unwrap().description.clone();
    assert_eq!(
        (described("generate_commit_message").as_str(), described("mine").as_str()),
        ("mine", "mine")
    );
    assert_ne!(described("summarize_review"), "mine");
    let of_gpt = Family { prompts: vec!["gpt".into()], ..Family::default() };
    assert_eq!(
        config.prompts.get("summarize_review", &of_gpt, None).unwrap().family.as_deref(),
        Some("gpt")
    );
    std::fs::write(&name, TEXT).unwrap();
    assert_eq!(crate::config::watched(name.as_ref(), &super::env(&[])).tree, Some(dir.join("own")));
    let warned: Vec<String> = config.warnings.iter().map(|warning| warning.headline()).collect();
    assert!(
        warned.len() == 1 && warned[0].contains("README.md: warning: not a prompt"),
        "{warned:?}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn every_fault_of_every_file_is_reported_with_its_line() {
    let files = [
        ("a/base.toml", OWN.replace("{{ a }}", "{{ a }}{{ b }}")),
        ("b/base.toml", OWN.replace("[\"duo_chat\"]", "7")),
        ("c/base.toml", OWN.replace("feature = \"duo_chat\"", "feature = \"chitchat\"")),
        ("d/gpt.toml", "temperature = 1.0\n".to_owned()),
        ("base.toml", OWN.to_owned()),
    ];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let (dir, name) = directory("bad", &files);
    let faults = from_str(TEXT, &name, &super::env(&[])).unwrap_err();
    let own = format!("{}/", dir.join("own").display());
    let printed = faults.to_string().replace(&own, "");
    for expected in [
        "a/base.toml:8:19: error: b is neither in `inputs` nor in `optional`\n 8 | text = \"{{ a }}{{ b }}\"\n   |                   ^\n",
        "b/base.toml:4:19: error: invalid type: integer `7`, expected a sequence\n",
        "c/base.toml:3:11: error: expected the key of one of GitLab's features, as in [features]\n",
        "d/gpt.toml:1:1: error: there is no d/base.toml",
        "base.toml:1:1: error: expected <prompt id>/base.toml",
    ] {
        assert!(printed.contains(expected), "{expected}\nin\n{printed}");
    }
    assert_eq!(faults.errors(), 5);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn prompts_that_nothing_uses_are_faults() {
    let stranger = OWN.replace("[\"duo_chat\"]", "[\"duo_chatt\"]");
    let (dir, name) =
        directory("serve", &[("a/base.toml", &stranger), ("a/llama9.toml", "temperature = 1.0\n")]);
    let faults = from_str(TEXT, &name, &super::env(&[])).unwrap_err();
    let headlines: Vec<String> = faults.iter().map(|fault| fault.headline()).collect();
    assert!(
        headlines.iter().any(|line| line.contains("\"duo_chatt\" is not one of GitLab's")),
        "{headlines:?}"
    );
    assert!(
        headlines.iter().any(|line| line.contains("no family looks for llama9.toml")),
        "{headlines:?}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_a_fault_of_its_line() {
    let faults = bad_with(TEXT, &[]);
    let fault = faults.iter().find(|fault| fault.severity == Severity::Error).unwrap();
    assert!(
        fault.headline().starts_with("weir.toml:2:7: error: prompts.dir: cannot read own: "),
        "{faults}"
    );
}
