//! Common properties of Claude models, wherever they are served.

use serde_json::{Value, json};

use crate::generation::Thinking;

/// Newer Claude models that refuse `temperature` (contract::ai_gateway_server §2.4). GitLab's
/// prompts set it for every model, so it is omitted for these, as in GitLab's own gateway.
const WITHOUT_TEMPERATURE: [&str; 5] = ["opus-4-7", "opus-4-8", "sonnet-5", "fable-5", "mythos-5"];

/// Returns whether a model accepts `temperature`. An ARN does not reveal the model: then it is
/// sent.
pub(super) fn accepts_temperature(model: &str) -> bool {
    !(model.contains("claude") && WITHOUT_TEMPERATURE.iter().any(|name| model.contains(name)))
}

/// Returns the value of the model's own `thinking` field.
pub(super) fn thinking(settings: &Thinking) -> Value {
    let mut value = match settings.budget {
        Some(budget) => json!({"type": "enabled", "budget_tokens": budget}),
        None => json!({"type": "adaptive"}),
    };
    if let Some(display) = &settings.display {
        value["display"] = json!(display);
    }
    value
}

/// Returns whether the message of a refusal is the content filter's. Neither Anthropic nor Bedrock
/// has an error type for it: it is a 400, or an `error` event, like that of a malformed request,
/// and only the message differs (`Output blocked by content filtering policy`; for Nova and Titan
/// `blocked by our content filters`).
pub(super) fn is_filter_message(message: &str) -> bool {
    message.contains("content filtering policy")
        || message.contains("blocked by our content filters")
}

#[cfg(test)]
mod tests {
    use super::accepts_temperature;

    #[test]
    fn only_the_newer_claudes_refuse_temperature() {
        assert!(accepts_temperature("eu.anthropic.claude-sonnet-4-20250514-v1:0"));
        assert!(!accepts_temperature("global.anthropic.claude-opus-4-7-v1:0"));
        assert!(accepts_temperature("acme.opus-4-7"));
    }
}
