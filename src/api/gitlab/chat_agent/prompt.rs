//! What the model is asked: the registry's prompt, GitLab's own instructions, the conversation, and
//! the tools. What changes least stands first, so that model servers find it in their caches.

use serde_json::{Value, json};

use super::conversation::{self, Way};
use super::react::STOP;
use super::request::Request;
use super::tools::Tool;
use crate::error::{GatewayError, Kind};
use crate::generation::{Generation, Part, Role};
use crate::model::Model;
use crate::prompt::Registry;

/// What a prompt depends on besides the request.
pub(super) struct Setting<'a> {
    pub(super) prompts: &'a Registry,
    pub(super) model: &'a Model,
    /// `YYYY-MM-DD`: with a time of day no two prompts would be the same.
    pub(super) date: &'a str,
}

impl Way {
    /// The prompt's id.
    const fn prompt(self) -> &'static str {
        match self {
            Self::Native => "chat/agent",
            Self::React => "chat/react",
        }
    }
}

impl Setting<'_> {
    /// The request to the model.
    pub(super) fn generation(
        &self,
        request: &Request<'_>,
        way: Way,
        offered: &[&'static Tool],
    ) -> Result<Generation, GatewayError> {
        let family = &self.model.family;
        let prompt =
            self.prompts.get(way.prompt(), family, None).map_err(|error| broken(&error))?;
        let tools: Vec<Value> = offered.iter().map(|tool| tool.described()).collect();
        let inputs =
            json!({"tools": tools, "unavailable": request.unavailable(), "date": self.date});
        let Value::Object(inputs) = inputs else { return Err(broken(&"no inputs")) };
        let rendered = prompt.render(&inputs).map_err(|error| broken(&error))?;
        let mut generation = rendered.into_generation(family, true);
        instruct(&mut generation, conversation::instructions(request));
        generation.messages.extend(conversation::messages(request, way));
        match way {
            Way::Native => generation.tools = offered.iter().map(|tool| tool.function()).collect(),
            // OpenAI's reasoning models refuse `stop`; what they say after it is cut off anyway
            Way::React if &*family.name == "gpt" => {}
            Way::React => generation.sampling.stop.push(STOP.to_owned()),
        }
        Ok(generation)
    }
}

/// Adds to the one system message: not every model's template takes a second.
fn instruct<'a>(generation: &mut Generation, instructions: impl Iterator<Item = &'a str>) {
    let system = generation.messages.iter_mut().find(|message| message.role == Role::System);
    let Some(system) = system else { return };
    system.parts.extend(instructions.map(|text| Part::Text(text.to_owned())));
}

fn broken(why: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::new(Kind::Internal, "The prompt could not be made").internal(why.to_string())
}
