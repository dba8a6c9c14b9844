//! Prompt × inputs → messages and sampling.

use std::collections::BTreeMap;

use minijinja::Value;

use super::Prompt;
use super::template::{self, TemplateError};
use crate::generation::{Generation, Message, Role, Sampling};
use crate::model::Family;

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedPrompt {
    /// The messages, without those that rendered to nothing.
    pub messages: Vec<Message>,
    /// The parameters of the prompt's file, without the family's.
    pub sampling: Sampling,
    /// Whether the last message is the beginning of the response, for the model to continue.
    pub prefill: bool,
}

/// Why a prompt could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The request lacks this input: 422. `Display` is the response's `detail`
    /// (contract::gitlab_client §8.4).
    #[error("'{0}'")]
    Missing(String),
    /// A template failed on these inputs; for the operator.
    #[error("{0}")]
    Failed(TemplateError),
}

impl Prompt {
    /// Renders the prompt. Ignores inputs that it does not declare.
    pub fn render(
        &self,
        inputs: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<RenderedPrompt, RenderError> {
        let mut context = BTreeMap::new();
        for name in &self.inputs {
            let input = inputs.get(name).ok_or_else(|| RenderError::Missing(name.clone()))?;
            context.insert(name.as_str(), template::to_value(input));
        }
        for name in &self.optional {
            context.insert(
                name.as_str(),
                inputs.get(name).map_or(Value::from(()), template::to_value),
            );
        }
        let mut messages = Vec::with_capacity(self.messages.len());
        for (role, name) in &self.messages {
            let text = self.engine.render(name, &context).map_err(RenderError::Failed)?;
            if !text.trim().is_empty() {
                messages.push(Message::text(*role, text));
            }
        }
        let prefill = messages.last().is_some_and(|message| message.role == Role::Assistant);
        Ok(RenderedPrompt { messages, sampling: self.sampling.clone(), prefill })
    }
}

impl RenderedPrompt {
    /// Builds the request to a model of this family, which fills in the parameters that the prompt
    /// leaves open.
    pub fn into_generation(self, family: &Family, stream: bool) -> Generation {
        let Self { messages, mut sampling, .. } = self;
        // a family without a temperature rejects any
        sampling.temperature = family.temperature.and(sampling.temperature.or(family.temperature));
        // half of a small window is for the question: servers reject a request whose parts cannot
        // fit
        let half_window = (family.context_tokens / 2).max(1);
        sampling.max_tokens =
            sampling.max_tokens.or(family.max_tokens).map(|limit| limit.min(half_window));
        Generation {
            messages: family.arrange_messages(messages),
            sampling,
            stream,
            ..Generation::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RenderedPrompt;
    use crate::generation::Sampling;
    use crate::model::Family;

    #[test]
    fn a_response_leaves_half_of_a_small_window_to_the_question() {
        let max_tokens = |max_tokens, context_tokens| {
            let sampling = Sampling { max_tokens, ..Sampling::default() };
            let rendered = RenderedPrompt { messages: Vec::new(), sampling, prefill: false };
            let family = Family { context_tokens, ..Family::default() };
            rendered.into_generation(&family, false).sampling.max_tokens
        };
        assert_eq!(max_tokens(Some(8192), 4096), Some(2048));
        assert_eq!(max_tokens(Some(512), 4096), Some(512));
        assert_eq!(max_tokens(None, 4096), Some(2048));
        assert_eq!(max_tokens(None, 200_000), Some(4096));
    }
}
