//! `config/reference.toml`, written from the tables of keys and variables: it cannot lag behind
//! them.

use std::fmt::Write as _;

use crate::config::toml::key::{DefaultValue, Key, Support, ValueType};
use crate::config::toml::keys;
use crate::config::toml::variables::{Effect, VARIABLES};
use crate::route::Feature;

/// The comment at the top of the file.
const HEAD: &str = "\
# Every key of Weir's configuration, its default and what it is for. Written by `weir check --reference`
# from src/config/toml/keys.rs; a test keeps the two the same.
#
# `key = value` is the default. `#key = value` is an example of a key without a fixed default.
# Durations: \"250ms\", \"60s\", \"5m\", \"1h\". Sizes: \"512B\", \"32KiB\", \"16MiB\", \"1GiB\" (also KB, MB, GB).
# Secrets: { env = \"NAME\" } or { file = \"/run/secrets/name\" }. Paths are relative to this file.
";

/// Returns the text of `config/reference.toml`.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut table = "";
    for key in keys::all() {
        let (of, name) = split(key.path);
        if of != table {
            let comment = if of.contains('{') { "#" } else { "" };
            let _ = writeln!(text, "\n{comment}[{}]", of.replace("{name}", "codestral"));
            table = of;
        }
        if name == "{feature}" {
            features(&mut text);
        } else {
            entry(&mut text, key, &name.replace("{feature}", "code_generations"));
        }
    }
    environment(&mut text);
    text
}

/// Splits a key's path into the table that it is shown in and its name there.
fn split(path: &str) -> (&str, &str) {
    let (table, name) = path.split_once('.').unwrap_or(("", path));
    match name.strip_prefix("{name}.") {
        Some(rest) => (&path[..table.len() + ".{name}".len()], rest),
        None => (table, name),
    }
}

/// Appends one key with its comment.
fn entry(text: &mut String, key: &Key, name: &str) {
    let (value, instead) = match key.default {
        DefaultValue::Fixed(value) => (value, None),
        DefaultValue::Example(value, instead) => (value, Some(instead)),
    };
    let is_default = instead.is_none() && matches!(key.support, Support::Full);
    let remarks = [
        (!key.doc.is_empty()).then(|| key.doc.to_owned()),
        range(key.value_type),
        instead.map(|instead| format!("Default: {instead}")),
        match key.support {
            Support::NotYet => Some("Accepted, not acted on in this version".to_owned()),
            Support::Full | Support::Only(_) => None,
        },
    ];
    let doc: Vec<String> = remarks.into_iter().flatten().map(|remark| sentence(&remark)).collect();
    let _ = writeln!(text, "# {}", doc.join(" "));
    let _ = writeln!(text, "{}{name} = {value}", if is_default { "" } else { "#" });
}

/// Returns a text with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// Returns the bounds of a type in words, if it has any.
fn range(value_type: ValueType) -> Option<String> {
    match value_type {
        ValueType::Duration(min, max) | ValueType::Size(min, max) => {
            Some(format!("{min} to {max}"))
        }
        ValueType::Integer(min, max) => Some(format!("{min} to {max}")),
        ValueType::Number(min, max) => Some(format!("{min} to {max}")),
        ValueType::Keyword(keywords) => Some(format!("One of {}", keywords.join(", "))),
        _ => None,
    }
}

/// Appends a line for each feature.
fn features(text: &mut String) {
    text.push_str(
        "# Each is a model's name, \"gitlab\" (GitLab's cloud: gitlab.cloud_url), \"disabled\", or a table as below.\n\
         # Default: that of the feature in the comment, else features.default, else 422 is returned.\n",
    );
    let mut line = |name: &str, doc: String| {
        let setting = format!("#{name} = \"codestral\"");
        let _ = writeln!(text, "{setting:<48} # {doc}");
    };
    line("default", "every feature without a key of its own".to_owned());
    for feature in Feature::all() {
        let parent = feature
            .parent()
            .map(|parent| format!("; default: {}", parent.name()))
            .unwrap_or_default();
        line(feature.name(), format!("{}{parent}", feature.title()));
    }
}

/// Appends the variables, as comments.
fn environment(text: &mut String) {
    text.push_str("\n# Environment variables of GitLab's own container that Weir reads. This file wins over them.\n");
    for variable in VARIABLES {
        let remark = match variable.effect {
            Effect::Ignored => "; not acted on in this version",
            Effect::Sets(..) | Effect::Host(_) | Effect::Port(_) | Effect::InSection => "",
        };
        let _ = writeln!(text, "# {:<46} {}{remark}", variable.name, variable.doc);
    }
}

#[cfg(test)]
mod tests {
    use super::reference;
    use crate::config::{Environment, Severity, from_str};

    #[test]
    fn the_file_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.toml");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == reference(),
            "config/reference.toml is stale: weir check --reference > {path}"
        );
    }

    #[test]
    fn the_reference_is_the_defaults() {
        let explicit = from_str(&reference(), "reference.toml", &Environment::default()).unwrap();
        let empty = from_str("", "empty.toml", &Environment::default()).unwrap();
        assert_eq!(explicit.warnings, []);
        assert_eq!(
            (explicit.server, explicit.limits, explicit.log),
            (empty.server, empty.limits, empty.log)
        );
    }

    #[test]
    fn every_example_is_a_key_that_is_known_and_well_formed() {
        let uncommented: String = reference()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                // two forms of one setting: only one of them may be set
                Some(rest)
                    if rest.starts_with("code_generations = ")
                        || rest.starts_with("endpoint = ") =>
                {
                    ""
                }
                Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let pem = include_str!("../../tests/golden/jwt/first.pem");
        let secrets = [
            ("VLLM_API_KEY", "k"),
            ("WEIR_CLIENT_KEY", "k"),
            ("SIGNING_KEY", pem),
            ("PREVIOUS_KEY", pem),
            ("PROXY_CREDENTIALS", "u:p"),
        ];
        let env = Environment::from_iter(secrets);
        let faults = from_str(&uncommented, "reference.toml", &env).unwrap_err();
        let unexpected: Vec<String> = faults
            .iter()
            .filter(|fault| fault.severity == Severity::Error)
            .map(|fault| fault.headline())
            .filter(|text| {
                let expected = [
                    "not in this version yet",
                    "only for",
                    "\"gpt\"",
                    "contradicts",
                    "cannot read prompts",
                    "cannot read gitlab-docs.index",
                    "cannot read tls.",
                    "cannot read clients.cr",
                    "cannot read client.",
                    "cannot read authority.crt",
                ];
                !expected.iter().any(|known| text.contains(known))
            })
            .collect();
        assert_eq!(unexpected, [] as [&str; 0]);
    }
}
