//! A request in Anthropic's words → [`Generation`], for models whose server does not speak
//! Anthropic's API.
//!
//! Each field is translated, or says nothing about the answer and is left out, or is refused by
//! name. What a field's provider cannot do is the dialect's to refuse.

use serde_json::{Map, Value};

use super::translate_messages::{messages, system};
use crate::api::fields::{Fields, fault, of_body, refused};
use crate::error::{BodyFault, GatewayError};
use crate::generation::{CacheFor, Format, Generation, Part, Sampling, Thinking, Tool, ToolChoice};

/// Who asks and what it may cost: nothing about the answer itself.
const NOT_ABOUT_THE_ANSWER: [&str; 4] =
    ["metadata", "service_tier", "user_profile_id", "workspace_id"];

/// A request.
#[derive(Debug)]
pub(super) struct MessagesRequest {
    /// The model's name as the client knows it.
    pub(super) model: String,
    /// What is asked.
    pub(super) generation: Generation,
}

impl MessagesRequest {
    /// Reads the body of `POST /v1/messages`. Fails with the first fault and its place.
    pub(super) fn parse(body: &[u8]) -> Result<Self, GatewayError> {
        read(body).map_err(|fault| GatewayError::invalid(vec![fault]))
    }
}

fn read(body: &[u8]) -> Result<MessagesRequest, BodyFault> {
    let mut body = of_body(body)?;
    let model = body.required("model")?;
    let list = body
        .list("messages")?
        .ok_or_else(|| fault(&body.at("messages"), "missing", "Field required"))?;
    if list.is_empty() {
        return Err(fault(&body.at("messages"), "value_error", "expected at least one message"));
    }
    let mut said: Vec<_> = system(&mut body)?.into_iter().collect();
    said.extend(messages(list)?);
    // the whole conversation is worth keeping
    if let (Some(CacheFor(ttl)), Some(last)) = (body.cache_control()?, said.last_mut()) {
        last.parts.push(Part::CachePoint { ttl });
    }
    let (tools, tools_cached) = tools(&mut body)?;
    let (tool_choice, parallel_tools) = tool_choice(&mut body, &tools)?;
    let (format, effort) = output_config(&mut body)?;
    let generation = Generation {
        messages: said,
        tools,
        tools_cached,
        tool_choice,
        parallel_tools,
        format,
        effort,
        thinking: thinking(&mut body)?,
        sampling: sampling(&mut body)?,
        stream: body.get("stream", "true or false")?.unwrap_or(false),
        raw: None,
    };
    body.ignore(&NOT_ABOUT_THE_ANSWER);
    body.only("speed", |speed| speed == "standard")?;
    body.end()?;
    Ok(MessagesRequest { model, generation })
}

fn sampling(body: &mut Fields) -> Result<Sampling, BodyFault> {
    let max_tokens = body.get("max_tokens", "a number of tokens")?;
    if max_tokens == Some(0) {
        return Err(fault(&body.at("max_tokens"), "value_error", "expected at least 1"));
    }
    Ok(Sampling {
        max_tokens,
        temperature: body.get("temperature", "a number")?,
        top_p: body.get("top_p", "a number")?,
        stop: body.get("stop_sequences", "a list of strings")?.unwrap_or_default(),
        seed: None,
    })
}

fn thinking(body: &mut Fields) -> Result<Option<Thinking>, BodyFault> {
    let Some(mut thinking) = body.object("thinking")? else { return Ok(None) };
    let kind = thinking.required("type")?;
    let budget: Option<u32> = thinking.get("budget_tokens", "a number of tokens")?;
    let asked = match kind.as_str() {
        "enabled" if budget.is_none() => {
            return Err(fault(&thinking.at("budget_tokens"), "missing", "Field required"));
        }
        "enabled" => Some(Thinking { budget, display: thinking.text("display")? }),
        "adaptive" => Some(Thinking { budget: None, display: thinking.text("display")? }),
        "disabled" => None,
        _ => return Err(refused(&thinking.at("type"), &kind)),
    };
    thinking.end()?;
    Ok(asked)
}

fn output_config(body: &mut Fields) -> Result<(Format, Option<String>), BodyFault> {
    let Some(mut config) = body.object("output_config")? else { return Ok((Format::Text, None)) };
    let effort = config.text("effort")?;
    let format = match config.object("format")? {
        None => Format::Text,
        Some(mut format) => {
            let kind = format.required("type")?;
            if kind != "json_schema" {
                return Err(refused(&format.at("type"), &kind));
            }
            let schema: Map<String, Value> = format
                .get("schema", "an object")?
                .ok_or_else(|| fault(&format.at("schema"), "missing", "Field required"))?;
            format.end()?;
            // OpenAI's API wants a name; Anthropic enforces every schema
            let (name, schema) = ("answer".into(), Value::Object(schema));
            Format::JsonSchema { name, description: None, schema, strict: Some(true) }
        }
    };
    config.end()?;
    Ok((format, effort))
}

fn tools(body: &mut Fields) -> Result<(Vec<Tool>, Option<CacheFor>), BodyFault> {
    let (mut tools, mut kept) = (Vec::new(), None);
    for (value, place) in body.list("tools")?.unwrap_or_default() {
        let mut tool = Fields::of(value, place)?;
        // tools that Anthropic's servers run themselves have a type of their own
        let kind = tool.text("type")?.unwrap_or_else(|| "custom".into());
        if kind != "custom" {
            return Err(refused(&tool.at("type"), &kind));
        }
        tools.push(Tool {
            name: tool.required("name")?,
            description: tool.text("description")?.unwrap_or_default(),
            parameters: tool
                .take("input_schema")
                .ok_or_else(|| fault(&tool.at("input_schema"), "missing", "Field required"))?,
            strict: tool.get("strict", "true or false")?,
        });
        kept = tool.cache_control()?.or(kept);
        // how the arguments arrive, not what they are
        tool.ignore(&["eager_input_streaming"]);
        tool.only("defer_loading", |value| *value == false)?;
        tool.only("allowed_callers", |value| *value == serde_json::json!(["direct"]))?;
        tool.end()?;
    }
    Ok((tools, kept))
}

/// The choice, and whether several calls at once are forbidden.
fn tool_choice(body: &mut Fields, tools: &[Tool]) -> Result<(ToolChoice, Option<bool>), BodyFault> {
    let place = body.at("tool_choice");
    let Some(mut choice) = body.object("tool_choice")? else { return Ok((ToolChoice::Auto, None)) };
    let kind = choice.required("type")?;
    let one_at_a_time: Option<bool> = choice.get("disable_parallel_tool_use", "true or false")?;
    let chosen = match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(choice.required("name")?),
        _ => {
            return Err(fault(
                &choice.at("type"),
                "value_error",
                "expected auto, any, tool or none",
            ));
        }
    };
    choice.end()?;
    match &chosen {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            return Err(fault(&place, "value_error", "names a tool that `tools` does not offer"));
        }
        ToolChoice::Required if tools.is_empty() => {
            return Err(fault(
                &place,
                "value_error",
                "asks for a call, but `tools` offers no tool",
            ));
        }
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_) => {}
    }
    // to allow what is allowed anyway says nothing
    let parallel = one_at_a_time.filter(|one| *one).map(|_| false);
    Ok((chosen, parallel))
}

#[cfg(test)]
mod tests;
