//! `Generation` → the body of `POST /chat/completions`.

use serde_json::{Map, Value, json};

use crate::generation::{Generation, Message, Part, Sampling};

/// The body. `model` is the name at the server.
pub(super) fn chat_body(generation: &Generation, model: &str) -> bytes::Bytes {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), generation.messages.iter().map(message).collect());
    sampling(&generation.sampling, model, &mut body);
    if !generation.tools.is_empty() {
        let tools = generation.tools.iter().map(|tool| {
            json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}})
        });
        body.insert("tools".into(), tools.collect());
    }
    if generation.stream {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Value::Object(body).to_string().into()
}

fn sampling(sampling: &Sampling, model: &str, body: &mut Map<String, Value>) {
    if let Some(n) = sampling.max_tokens {
        // ai-gateway-server.md §2.4: these models refuse `max_tokens`
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
    let mut calls = Vec::new();
    let mut answers = None;
    for part in &message.parts {
        match part {
            Part::Text(t) => text.push_str(t),
            Part::ToolCall(call) => calls.push(json!({
                "id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments},
            })),
            Part::ToolResult { id, content } => {
                text.push_str(content);
                answers = Some(id);
            }
        }
    }
    let mut value = json!({"role": message.role.name(), "content": text});
    if !calls.is_empty() {
        value["tool_calls"] = Value::Array(calls);
    }
    if let Some(id) = answers {
        value["tool_call_id"] = json!(id);
    }
    value
}
