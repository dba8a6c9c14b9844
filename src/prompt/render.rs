//! Prompt × inputs → messages and sampling.

use std::collections::BTreeMap;

use minijinja::Value;

use super::Prompt;
use super::template::{self, TemplateError};
use crate::generation::{Generation, Message, Role, Sampling};
use crate::model::Family;

/// A prompt with its inputs in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What is said; messages that came out empty are left out.
    pub messages: Vec<Message>,
    /// What the prompt's file says, and nothing of the family's.
    pub sampling: Sampling,
    /// Whether the last message is the beginning of the answer, which the model is to continue.
    pub prefill: bool,
}

/// Why a prompt could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The request lacks this input: 422. `Display` is the answer's `detail` (gitlab-client.md
    /// §8.4).
    #[error("'{0}'")]
    Missing(String),
    /// A template failed on these inputs; for the operator.
    #[error("{0}")]
    Failed(TemplateError),
}

impl Prompt {
    /// Renders. Inputs that the prompt does not know are not looked at.
    pub fn render(
        &self,
        inputs: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Rendered, RenderError> {
        let mut context = BTreeMap::new();
        for name in &self.inputs {
            let input = inputs.get(name).ok_or_else(|| RenderError::Missing(name.clone()))?;
            context.insert(name.as_str(), template::value(input));
        }
        for name in &self.optional {
            context
                .insert(name.as_str(), inputs.get(name).map_or(Value::from(()), template::value));
        }
        let mut messages = Vec::with_capacity(self.messages.len());
        for (role, name) in &self.messages {
            let text = self.engine.render(name, &context).map_err(RenderError::Failed)?;
            if !text.trim().is_empty() {
                messages.push(Message::text(*role, text));
            }
        }
        let prefill = messages.last().is_some_and(|message| message.role == Role::Assistant);
        Ok(Rendered { messages, sampling: self.sampling.clone(), prefill })
    }
}

impl Rendered {
    /// The request to a model of this family, which fills in what the prompt leaves open.
    pub fn into_generation(self, family: &Family, stream: bool) -> Generation {
        let Self { messages, mut sampling, .. } = self;
        // a family without one refuses any
        sampling.temperature = family.temperature.and(sampling.temperature.or(family.temperature));
        // half of a small window is the question's: servers refuse what cannot fit together
        let room = (family.context_tokens / 2).max(1);
        sampling.max_tokens = sampling.max_tokens.or(family.max_tokens).map(|most| most.min(room));
        Generation {
            messages: family.arranged(messages),
            sampling,
            stream,
            ..Generation::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rendered;
    use crate::generation::Sampling;
    use crate::model::Family;

    #[test]
    fn an_answer_leaves_half_of_a_small_window_to_the_question() {
        let asked = |max_tokens, context_tokens| {
            let sampling = Sampling { max_tokens, ..Sampling::default() };
            let rendered = Rendered { messages: Vec::new(), sampling, prefill: false };
            let family = Family { context_tokens, ..Family::default() };
            rendered.into_generation(&family, false).sampling.max_tokens
        };
        assert_eq!(asked(Some(8192), 4096), Some(2048));
        assert_eq!(asked(Some(512), 4096), Some(512));
        assert_eq!(asked(None, 4096), Some(2048));
        assert_eq!(asked(None, 200_000), Some(4096));
    }
}
