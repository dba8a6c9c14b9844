//! `Generation` → the body of `POST /chat/completions`, or of `/completions` for a raw text.

use serde_json::{Map, Value, json};

use crate::generation::{Format, Generation, Image, Message, Part, Sampling, ToolChoice};

/// Builds the body of `/completions`.
pub(super) fn raw_body(text: &str, generation: &Generation, model: &str) -> bytes::Bytes {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("prompt".into(), json!(text));
    sampling(&generation.sampling, model, &mut body);
    stream(generation, &mut body);
    Value::Object(body).to_string().into()
}

/// Builds the body of `/chat/completions`. `model` is the name at the server.
pub(super) fn chat_body(generation: &Generation, model: &str) -> bytes::Bytes {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), generation.messages.iter().map(message).collect());
    sampling(&generation.sampling, model, &mut body);
    tools(generation, &mut body);
    match &generation.format {
        Format::Text => {}
        Format::JsonObject => {
            body.insert("response_format".into(), json!({"type": "json_object"}));
        }
        Format::JsonSchema { name, description, schema, strict } => {
            let mut inner = json!({"name": name, "schema": schema});
            if let Some(description) = description {
                inner["description"] = json!(description);
            }
            if let Some(strict) = strict {
                inner["strict"] = json!(strict);
            }
            body.insert(
                "response_format".into(),
                json!({"type": "json_schema", "json_schema": inner}),
            );
        }
    }
    let effort_by_budget = || generation.thinking.as_ref()?.budget.map(effort_of);
    if let Some(effort) = generation.effort.as_deref().or_else(effort_by_budget) {
        body.insert("reasoning_effort".into(), json!(effort));
    }
    stream(generation, &mut body);
    Value::Object(body).to_string().into()
}

fn stream(generation: &Generation, body: &mut Map<String, Value>) {
    if generation.stream {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
}

/// Returns the reasoning effort that corresponds to a budget of thinking tokens, which the API does
/// not have.
const fn effort_of(budget: u32) -> &'static str {
    match budget {
        0..4096 => "low",
        4096..16_384 => "medium",
        _ => "high",
    }
}

fn tools(generation: &Generation, body: &mut Map<String, Value>) {
    // without tools the API accepts neither a choice nor a rule about parallel calls
    if generation.tools.is_empty() {
        return;
    }
    let tools = generation.tools.iter().map(|tool| {
        let mut function = json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
        if let Some(strict) = tool.strict {
            function["strict"] = json!(strict);
        }
        json!({"type": "function", "function": function})
    });
    body.insert("tools".into(), tools.collect());
    let choice = match &generation.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(json!("none")),
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::Named(name) => Some(json!({"type": "function", "function": {"name": name}})),
    };
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = generation.parallel_tool_calls {
        body.insert("parallel_tool_calls".into(), json!(parallel));
    }
}

fn sampling(sampling: &Sampling, model: &str, body: &mut Map<String, Value>) {
    if let Some(n) = sampling.max_tokens {
        // contract::ai_gateway_server §2.4: these models refuse `max_tokens`
        let key = if model.starts_with("gpt-5") { "max_completion_tokens" } else { "max_tokens" };
        body.insert(key.into(), json!(n));
    }
    if let Some(t) = sampling.temperature {
        body.insert("temperature".into(), json!(t));
    }
    if let Some(p) = sampling.top_p {
        body.insert("top_p".into(), json!(p));
    }
    if !sampling.stop.is_empty() {
        body.insert("stop".into(), json!(sampling.stop));
    }
    if let Some(seed) = sampling.seed {
        body.insert("seed".into(), json!(seed));
    }
}

fn message(message: &Message) -> Value {
    let mut text = String::new();
    let mut images = false;
    let mut calls = Vec::new();
    let mut answered_call = None;
    for part in &message.parts {
        match part {
            // separate blocks stay separate
            Part::Text(t) if text.is_empty() => text.push_str(t),
            Part::Text(t) => {
                text.push_str("\n\n");
                text.push_str(t);
            }
            Part::Image(_) => images = true,
            // OpenAI's API has no field for earlier thinking, and caches by itself.
            Part::Reasoning { .. } | Part::CachePoint { .. } => {}
            Part::ToolCall(call) => {
                // templates and parsers expect an empty object for a call without arguments
                let arguments =
                    if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
                let function = json!({"name": call.name, "arguments": arguments});
                calls.push(json!({"id": call.id, "type": "function", "function": function}));
            }
            Part::ToolResult { id, content, is_error } => {
                // the API has no field for it
                text.push_str(if *is_error { "Error: " } else { "" });
                text.push_str(content);
                answered_call = Some(id);
            }
        }
    }
    let content =
        if images { message.parts.iter().filter_map(content_part).collect() } else { json!(text) };
    let mut value = json!({"role": message.role.name(), "content": content});
    if !calls.is_empty() {
        value["tool_calls"] = Value::Array(calls);
    }
    if let Some(id) = answered_call {
        value["tool_call_id"] = json!(id);
    }
    value
}

/// Returns a text or an image as a part of a message that has both; `None` for any other part.
fn content_part(part: &Part) -> Option<Value> {
    let url = match part {
        Part::Text(text) => return Some(json!({"type": "text", "text": text})),
        Part::Image(Image::Url(url)) => url.clone(),
        Part::Image(Image::Inline { media_type, base64 }) => {
            format!("data:{media_type};base64,{base64}")
        }
        Part::Reasoning { .. }
        | Part::CachePoint { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. } => {
            return None;
        }
    };
    Some(json!({"type": "image_url", "image_url": {"url": url}}))
}
