//! A request of Anthropic's API → [`Generation`], for models whose server has another API.
//!
//! Each field is translated, or does not affect the response and is dropped, or is refused by name.
//! What a provider cannot do is refused by its dialect.

use serde_json::{Map, Value};

use super::translate_messages::{messages, system};
use crate::api::fields::{Fields, fault, parse_body, unsupported};
use crate::error::{BodyFault, GatewayError};
use crate::generation::{CacheTtl, Format, Generation, Part, Sampling, Thinking, Tool, ToolChoice};

/// Fields about the caller and the billing, which do not affect the response.
const IGNORED: [&str; 4] = ["metadata", "service_tier", "user_profile_id", "workspace_id"];

/// A parsed request.
#[derive(Debug)]
pub(super) struct MessagesRequest {
    /// The model's name as the client sent it.
    pub(super) model: String,
    /// The request in the common form that dialects encode.
    pub(super) generation: Generation,
}

impl MessagesRequest {
    /// Parses the body of `POST /v1/messages`. Fails with the first fault and its path.
    pub(super) fn parse(body: &[u8]) -> Result<Self, GatewayError> {
        translate(body).map_err(|fault| GatewayError::invalid(vec![fault]))
    }
}

fn translate(body: &[u8]) -> Result<MessagesRequest, BodyFault> {
    let mut body = parse_body(body)?;
    let model = body.required("model")?;
    let list = body
        .list("messages")?
        .ok_or_else(|| fault(&body.path_of("messages"), "missing", "Field required"))?;
    if list.is_empty() {
        return Err(fault(
            &body.path_of("messages"),
            "value_error",
            "expected at least one message",
        ));
    }
    let mut translated: Vec<_> = system(&mut body)?.into_iter().collect();
    translated.extend(messages(list)?);
    // at the top level it marks the whole conversation for the cache
    if let (Some(CacheTtl(ttl)), Some(last)) = (body.cache_control()?, translated.last_mut()) {
        last.parts.push(Part::CachePoint { ttl });
    }
    let (tools, tools_cached) = tools(&mut body)?;
    let (tool_choice, parallel_tools) = tool_choice(&mut body, &tools)?;
    let (format, effort) = output_config(&mut body)?;
    let generation = Generation {
        messages: translated,
        tools,
        tools_cache_ttl: tools_cached,
        tool_choice,
        parallel_tool_calls: parallel_tools,
        format,
        effort,
        thinking: thinking(&mut body)?,
        sampling: sampling(&mut body)?,
        stream: body.get("stream", "true or false")?.unwrap_or(false),
        raw_prompt: None,
    };
    body.ignore(&IGNORED);
    body.accept_only("speed", |speed| speed == "standard")?;
    body.finish()?;
    Ok(MessagesRequest { model, generation })
}

fn sampling(body: &mut Fields) -> Result<Sampling, BodyFault> {
    let max_tokens = body.get("max_tokens", "a number of tokens")?;
    if max_tokens == Some(0) {
        return Err(fault(&body.path_of("max_tokens"), "value_error", "expected at least 1"));
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
    let parsed = match kind.as_str() {
        "enabled" if budget.is_none() => {
            return Err(fault(&thinking.path_of("budget_tokens"), "missing", "Field required"));
        }
        "enabled" => Some(Thinking { budget, display: thinking.text("display")? }),
        "adaptive" => Some(Thinking { budget: None, display: thinking.text("display")? }),
        "disabled" => None,
        _ => return Err(unsupported(&thinking.path_of("type"), &kind)),
    };
    thinking.finish()?;
    Ok(parsed)
}

fn output_config(body: &mut Fields) -> Result<(Format, Option<String>), BodyFault> {
    let Some(mut config) = body.object("output_config")? else { return Ok((Format::Text, None)) };
    let effort = config.text("effort")?;
    let format = match config.object("format")? {
        None => Format::Text,
        Some(mut format) => {
            let kind = format.required("type")?;
            if kind != "json_schema" {
                return Err(unsupported(&format.path_of("type"), &kind));
            }
            let schema: Map<String, Value> = format
                .get("schema", "an object")?
                .ok_or_else(|| fault(&format.path_of("schema"), "missing", "Field required"))?;
            format.finish()?;
            // OpenAI's API requires a name; Anthropic enforces every schema
            let (name, schema) = ("answer".into(), Value::Object(schema));
            Format::JsonSchema { name, description: None, schema, strict: Some(true) }
        }
    };
    config.finish()?;
    Ok((format, effort))
}

fn tools(body: &mut Fields) -> Result<(Vec<Tool>, Option<CacheTtl>), BodyFault> {
    let (mut tools, mut cache_point) = (Vec::new(), None);
    for (value, path) in body.list("tools")?.unwrap_or_default() {
        let mut tool = Fields::from_value(value, path)?;
        // tools that Anthropic's servers run themselves have a type of their own
        let kind = tool.text("type")?.unwrap_or_else(|| "custom".into());
        if kind != "custom" {
            return Err(unsupported(&tool.path_of("type"), &kind));
        }
        tools.push(Tool {
            name: tool.required("name")?,
            description: tool.text("description")?.unwrap_or_default(),
            parameters: tool
                .take("input_schema")
                .ok_or_else(|| fault(&tool.path_of("input_schema"), "missing", "Field required"))?,
            strict: tool.get("strict", "true or false")?,
        });
        cache_point = tool.cache_control()?.or(cache_point);
        // affects how the arguments arrive, not what they are
        tool.ignore(&["eager_input_streaming"]);
        tool.accept_only("defer_loading", |value| *value == false)?;
        tool.accept_only("allowed_callers", |value| *value == serde_json::json!(["direct"]))?;
        tool.finish()?;
    }
    Ok((tools, cache_point))
}

/// Returns the choice, and `Some(false)` if parallel calls are forbidden.
fn tool_choice(body: &mut Fields, tools: &[Tool]) -> Result<(ToolChoice, Option<bool>), BodyFault> {
    let path = body.path_of("tool_choice");
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
                &choice.path_of("type"),
                "value_error",
                "expected auto, any, tool or none",
            ));
        }
    };
    choice.finish()?;
    match &chosen {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            return Err(fault(&path, "value_error", "names a tool that `tools` does not offer"));
        }
        ToolChoice::Required if tools.is_empty() => {
            return Err(fault(&path, "value_error", "requires a call, but `tools` offers no tool"));
        }
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_) => {}
    }
    // allowing parallel calls is the default and needs no field
    let parallel = one_at_a_time.filter(|one| *one).map(|_| false);
    Ok((chosen, parallel))
}

#[cfg(test)]
mod tests;
