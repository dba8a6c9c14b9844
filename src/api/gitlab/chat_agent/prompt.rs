//! Builds the request to the model: the registry's prompt, GitLab's own instructions, the
//! conversation, and the tools. What changes least comes first, so that model servers find the
//! prefix in their caches.

use serde_json::{Value, json};

use super::conversation::{self, ToolProtocol};
use super::react::STOP;
use super::request::ChatRequest;
use super::tools::Tool;
use crate::error::{GatewayError, Kind};
use crate::generation::{Generation, Part, Role};
use crate::model::Model;
use crate::prompt::PromptRegistry;

/// What a prompt is built from in addition to the request.
pub(super) struct ChatPromptBuilder<'a> {
    pub(super) registry: &'a PromptRegistry,
    pub(super) model: &'a Model,
    /// `YYYY-MM-DD`, without the time of day: with it no two prompts would be equal, and no cache
    /// would hit.
    pub(super) date: &'a str,
}

impl ToolProtocol {
    /// Returns the prompt's id.
    const fn prompt_id(self) -> &'static str {
        match self {
            Self::Native => "chat/agent",
            Self::React => "chat/react",
        }
    }
}

impl ChatPromptBuilder<'_> {
    /// Builds the request to the model. Fails if the registry's prompt is missing or cannot be
    /// rendered.
    pub(super) fn build(
        &self,
        request: &ChatRequest<'_>,
        protocol: ToolProtocol,
        tools: &[&'static Tool],
    ) -> Result<Generation, GatewayError> {
        let family = &self.model.family;
        let prompt = self
            .registry
            .get(protocol.prompt_id(), family, None)
            .map_err(|error| prompt_error(&error))?;
        let entries: Vec<Value> = tools.iter().map(|tool| tool.prompt_entry()).collect();
        let inputs = json!({
            "tools": entries,
            "unavailable": request.unavailable_resources(),
            "date": self.date,
        });
        let Value::Object(inputs) = inputs else { return Err(prompt_error(&"no inputs")) };
        let rendered = prompt.render(&inputs).map_err(|error| prompt_error(&error))?;
        let mut generation = rendered.into_generation(family, true);
        extend_system(&mut generation, conversation::instructions(request));
        generation.messages.extend(conversation::messages(request, protocol));
        match protocol {
            ToolProtocol::Native => {
                generation.tools = tools.iter().map(|tool| tool.function()).collect();
            }
            // OpenAI's reasoning models reject `stop`; the text after it is cut off anyway
            ToolProtocol::React if &*family.name == "gpt" => {}
            ToolProtocol::React => generation.sampling.stop.push(STOP.to_owned()),
        }
        Ok(generation)
    }
}

/// Appends instructions to the one system message: not every model's template accepts a second.
fn extend_system<'a>(generation: &mut Generation, instructions: impl Iterator<Item = &'a str>) {
    let system = generation.messages.iter_mut().find(|message| message.role == Role::System);
    let Some(system) = system else { return };
    system.parts.extend(instructions.map(|text| Part::Text(text.to_owned())));
}

/// Returns the error for a prompt that could not be built.
fn prompt_error(why: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::new(Kind::Internal, "The prompt could not be built").internal(why.to_string())
}
