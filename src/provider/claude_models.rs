//! What Claude models have in common wherever they are served.

use serde_json::{Value, json};

use crate::generation::Thinking;

/// Newer Claude models that refuse `temperature` (ai-gateway-server.md §2.4). GitLab's prompts set
/// it for every model, so it is left out for these, as GitLab's own gateway does.
const WITHOUT_TEMPERATURE: [&str; 5] = ["opus-4-7", "opus-4-8", "sonnet-5", "fable-5", "mythos-5"];

/// Whether a model takes `temperature`. An ARN hides the model: then it is sent.
pub(super) fn takes_temperature(model: &str) -> bool {
    !(model.contains("claude") && WITHOUT_TEMPERATURE.iter().any(|name| model.contains(name)))
}

/// The model's own `thinking` field.
pub(super) fn thinking(asked: &Thinking) -> Value {
    let mut value = match asked.budget {
        Some(budget) => json!({"type": "enabled", "budget_tokens": budget}),
        None => json!({"type": "adaptive"}),
    };
    if let Some(display) = &asked.display {
        value["display"] = json!(display);
    }
    value
}

/// Whether a refusal is the content filter's. Neither Anthropic nor Bedrock has a type for it: it
/// is a 400, or an `error` event, like a wrong request's, and only its words tell
/// (`Output blocked by content filtering policy`; Nova and Titan say
/// `blocked by our content filters`).
pub(super) fn says_filtered(said: &str) -> bool {
    said.contains("content filtering policy") || said.contains("blocked by our content filters")
}

#[cfg(test)]
mod tests {
    use super::takes_temperature;

    #[test]
    fn only_the_newer_claudes_go_without() {
        assert!(takes_temperature("eu.anthropic.claude-sonnet-4-20250514-v1:0"));
        assert!(!takes_temperature("global.anthropic.claude-opus-4-7-v1:0"));
        assert!(takes_temperature("acme.opus-4-7"));
    }
}
