//! Function names and call ids for providers that accept fewer characters than OpenAI's clients
//! send (contract::providers §d1.19): names are mapped in requests and restored in responses.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::generation::{Generation, Part, ToolChoice};

/// Maximum length that Bedrock and Anthropic both accept.
const MAX_LENGTH: usize = 64;

/// Mapping of the names of one request that had to be changed; usually empty.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolNames {
    safe: HashMap<String, String>,
    original: HashMap<String, String>,
}

impl ToolNames {
    /// Chooses a safe, distinct name for every name that needs one. The result depends on the
    /// request alone, so the decoder of a response gets the same names as the encoder of the
    /// request.
    pub(super) fn of(generation: &Generation) -> Self {
        let in_history =
            generation.messages.iter().flat_map(|message| &message.parts).filter_map(|part| {
                match part {
                    Part::ToolCall(call) => Some(call.name.as_str()),
                    Part::Text(_)
                    | Part::Image(_)
                    | Part::Reasoning { .. }
                    | Part::CachePoint { .. }
                    | Part::ToolResult { .. } => None,
                }
            });
        let chosen = match &generation.tool_choice {
            ToolChoice::Named(name) => Some(name.as_str()),
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => None,
        };
        let offered = generation.tools.iter().map(|tool| tool.name.as_str());
        let all: Vec<&str> = offered.chain(in_history).chain(chosen).collect();
        let mut taken: HashSet<String> =
            all.iter().filter(|name| is_safe(name)).map(|name| (*name).into()).collect();
        let mut names = Self::default();
        for name in all {
            if is_safe(name) || names.safe.contains_key(name) {
                continue;
            }
            let safe = distinct(name, &taken);
            taken.insert(safe.clone());
            names.original.insert(safe.clone(), name.to_owned());
            names.safe.insert(name.to_owned(), safe);
        }
        names
    }

    /// Returns the name to send.
    pub(super) fn safe<'a>(&'a self, name: &'a str) -> &'a str {
        self.safe.get(name).map_or(name, String::as_str)
    }

    /// Returns the client's name.
    pub(super) fn restore(&self, name: String) -> String {
        self.original.get(&name).cloned().unwrap_or(name)
    }
}

fn is_safe(name: &str) -> bool {
    (1..=MAX_LENGTH).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn distinct(name: &str, taken: &HashSet<String>) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let base: String = name.chars().map(keep).take(MAX_LENGTH).collect();
    let base = if base.is_empty() { "_".to_owned() } else { base };
    if !taken.contains(&base) {
        return base;
    }
    // One of the first `taken + 1` numbers is free.
    let numbered = (2..=taken.len() + 2).map(|n| {
        let suffix = format!("_{n}");
        format!("{}{suffix}", &base[..base.len().min(MAX_LENGTH - suffix.len())])
    });
    numbered.into_iter().find(|candidate| !taken.contains(candidate)).unwrap_or(base)
}

/// Returns a call's id in the characters that Bedrock and Anthropic accept. Responses do not repeat
/// the ids of requests, so they are not restored.
pub(super) fn safe_id(id: &str) -> Cow<'_, str> {
    let is_safe_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if (1..=MAX_LENGTH).contains(&id.len()) && id.chars().all(is_safe_char) {
        return Cow::Borrowed(id);
    }
    let id: String = id.chars().map(|c| if is_safe_char(c) { c } else { '_' }).collect();
    // long ids differ at their end
    let end = &id[id.len().saturating_sub(MAX_LENGTH)..];
    Cow::Owned(if end.is_empty() { "_".to_owned() } else { end.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ToolNames, safe_id};
    use crate::generation::{Generation, Tool};

    fn names(all: &[&str]) -> ToolNames {
        let tool = |name: &&str| Tool {
            name: (*name).to_owned(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        };
        ToolNames::of(&Generation {
            tools: all.iter().map(tool).collect(),
            ..Generation::default()
        })
    }

    #[test]
    fn safe_names_stay_and_others_are_restored() {
        let long = "x".repeat(80);
        let n = names(&["get_weather", "files.read", "files/read", "files_read", &long, "é", ""]);
        assert_eq!(n.safe("get_weather"), "get_weather");
        assert_eq!(n.safe("files_read"), "files_read");
        let mut sent = std::collections::HashSet::new();
        for name in ["get_weather", "files.read", "files/read", "files_read", &long, "é", ""] {
            let safe = n.safe(name);
            assert!(super::is_safe(safe), "{safe}");
            assert!(sent.insert(safe.to_owned()), "{safe} twice");
            assert_eq!(n.restore(safe.to_owned()), name);
        }
    }

    #[test]
    fn ids_are_safe_and_equal_for_the_same_id() {
        assert_eq!(safe_id("call_1-A"), "call_1-A");
        assert_eq!(safe_id("a b"), "a_b");
        assert_eq!(safe_id(""), "_");
        assert_eq!(safe_id(&format!("{}-end", "x".repeat(100))).len(), 64);
    }
}
