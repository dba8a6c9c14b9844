//! `config/reference.toml`, written from the tables of keys and variables: it cannot lag behind them.

use std::fmt::Write as _;

use super::environ::VARIABLES;
use super::keys::{Acts, KEYS, Key, Preset};
use crate::route::Feature;

const HEAD: &str = "\
# Every key of Weir's configuration, its default and what it is for. Generated from src/config/keys.rs
# by `weir check --reference`; a test keeps the two the same.
#
# Durations: \"250ms\", \"60s\", \"5m\", \"1h\". Sizes: \"512B\", \"32KiB\", \"16MiB\" (also KB, MB, GB).
# Secrets: { env = \"NAME\" } or { file = \"/run/secrets/name\" }. Paths are relative to this file.
# Lines that begin with # are examples of keys that have no fixed default.
";

/// The text of `config/reference.toml`.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut table = String::new();
    for key in KEYS {
        let (of, name) = split(key);
        if of != table {
            let comment = if of.contains('{') { "# " } else { "" };
            let _ = writeln!(text, "\n{comment}[{}]", of.replace("{name}", "codestral"));
            table = of;
        }
        if key.path == "features.{feature}" {
            features(&mut text);
            continue;
        }
        line(&mut text, key, &name);
    }
    environment(&mut text);
    text
}

/// The table a key is shown in, and its name there.
fn split(key: &Key) -> (String, String) {
    let parts: Vec<&str> = key.path.split('.').collect();
    let depth = if parts[0] == "models" { 2 } else { 1 };
    let name = parts[depth..].join(".").replace("{feature}", "code_generations");
    (parts[..depth].join("."), name)
}

fn line(text: &mut String, key: &Key, name: &str) {
    let (comment, value, without) = match (key.preset, key.acts) {
        (Preset::Is(value), Acts::Yes) => ("", value, None),
        (Preset::Is(value), _) => ("# ", value, None),
        (Preset::Example(value, without), _) => ("# ", value, Some(without)),
    };
    let mut remarks: Vec<String> = Vec::new();
    remarks.extend((!key.doc.is_empty()).then(|| key.doc.to_owned()));
    remarks.extend(without.map(|without| format!("default: {without}")));
    remarks.extend(bounds(key));
    remarks.extend(match key.acts {
        Acts::NotYet => Some("not acted on in this version".to_owned()),
        Acts::Refused(_) => Some("not in this version".to_owned()),
        Acts::Yes | Acts::Only(_) => None,
    });
    let said = format!("{comment}{name} = {value}");
    let _ = writeln!(text, "{said:<40} # {}", remarks.join("; "));
}

fn bounds(key: &Key) -> Option<String> {
    use super::keys::Takes;
    match key.takes {
        Takes::Duration(min, max) | Takes::Size(min, max) => Some(format!("{min} to {max}")),
        Takes::Integer(min, max) => Some(format!("{min} to {max}")),
        Takes::Word(words) => Some(words.join(", ")),
        _ => None,
    }
}

fn features(text: &mut String) {
    text.push_str(
        "# Each is a model's name, \"disabled\", or a table (below). default: requests that name no model.\n",
    );
    let said = "# default = \"codestral\"";
    let _ = writeln!(text, "{said:<52} # every feature without a line of its own");
    for feature in Feature::all() {
        let said = format!("# {} = \"codestral\"", feature.name());
        let parent = feature.parent().map(|parent| format!("; default: {}", parent.name())).unwrap_or_default();
        let _ = writeln!(text, "{said:<52} # {}{parent}", feature.title());
    }
}

fn environment(text: &mut String) {
    text.push_str("\n# Environment variables of GitLab's container that Weir knows. What this file says wins.\n");
    for variable in VARIABLES {
        let remark = match variable.does {
            super::environ::Does::Nothing => "; not acted on in this version",
            super::environ::Does::Refused(_) => "; not in this version",
            _ => "",
        };
        let _ = writeln!(text, "#   {:<46} {}{remark}", variable.name, variable.doc);
    }
}
