//! What the model is asked.

use super::conversation::{self, Way};
use super::react::STOP;
use super::request::Request;
use super::tools::Tool;
use crate::api::Context;
use crate::error::GatewayError;
use crate::generation::{Generation, Message, Role, Sampling};
use crate::route::{Family, Model};

/// The request to this model.
pub(super) fn generation(
    _context: &Context<'_>,
    request: &Request<'_>,
    model: &Model,
    way: Way,
    offered: &[&'static Tool],
) -> Result<Generation, GatewayError> {
    let system: Vec<&str> =
        std::iter::once("You are GitLab Duo Chat.").chain(conversation::instructions(request)).collect();
    let mut messages = vec![Message::text(Role::System, system.join("\n\n"))];
    messages.extend(conversation::messages(request, way));
    let mut generation = Generation { messages, stream: true, ..Generation::default() };
    match way {
        Way::Native => generation.tools = offered.iter().map(|tool| tool.function()).collect(),
        // OpenAI's reasoning models refuse `stop`; what they say after it is cut off anyway
        Way::React if model.family == Family::Gpt => {}
        Way::React => generation.sampling.stop.push(STOP.to_owned()),
    }
    generation.sampling = Sampling { max_tokens: Some(4096), temperature: Some(0.1), ..generation.sampling };
    Ok(generation)
}
