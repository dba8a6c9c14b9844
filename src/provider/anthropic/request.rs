//! `Generation` → the body of `POST /v1/messages`.

use serde_json::{Map, Value, json};

use crate::error::GatewayError;
use crate::generation::{Format, Generation, Image, Part, Sampling, ToolChoice};
use crate::provider::claude_models::{accepts_temperature, thinking};
use crate::provider::tool_names::{ToolNames, safe_id};
use crate::provider::turns::{
    Conversation, JSON_OBJECT, TurnBlock, parameters_schema, parse_arguments, tool_result_text,
};
use crate::provider::{refuse_raw_text, unsupported_field};

const WHO: &str = "Anthropic";
/// Default of `max_tokens`, which the API requires: a limit that every Claude model accepts.
const MAX_TOKENS: u32 = 4096;

/// Builds the body. `model` is the name at the server. Fails when the request has a field that
/// Anthropic does not support.
pub(super) fn messages_body(
    generation: &Generation,
    model: &str,
) -> Result<bytes::Bytes, GatewayError> {
    refuse_raw_text(generation, WHO)?;
    let names = ToolNames::of(generation);
    let conversation = Conversation::of(generation);
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    let mut messages = Vec::with_capacity(conversation.turns.len());
    for turn in &conversation.turns {
        let mut content = Vec::with_capacity(turn.blocks.len());
        for block in &turn.blocks {
            push(block, &names, &mut content)?;
        }
        messages.push(
            json!({"role": if turn.is_assistant { "assistant" } else { "user" }, "content": content}),
        );
    }
    body.insert("messages".into(), Value::Array(messages));
    if !conversation.system.is_empty() || generation.format == Format::JsonObject {
        let mut system = Vec::with_capacity(conversation.system.len());
        for part in &conversation.system {
            push(&TurnBlock::Part(part), &names, &mut system)?;
        }
        if generation.format == Format::JsonObject {
            system.push(json!({"type": "text", "text": JSON_OBJECT}));
        }
        body.insert("system".into(), Value::Array(system));
    }
    sampling(&generation.sampling, model, &mut body);
    tools(generation, &conversation, &names, &mut body);
    let output = output_config(generation);
    if !output.is_empty() {
        body.insert("output_config".into(), Value::Object(output));
    }
    if let Some(settings) = &generation.thinking {
        body.insert("thinking".into(), thinking(settings));
    }
    if generation.stream {
        body.insert("stream".into(), json!(true));
    }
    Ok(Value::Object(body).to_string().into())
}

/// Appends a content block, or marks the last one as the end of a cached prefix.
fn push(
    block: &TurnBlock<'_>,
    names: &ToolNames,
    content: &mut Vec<Value>,
) -> Result<(), GatewayError> {
    content.push(match block {
        TurnBlock::Text(text) => json!({"type": "text", "text": text}),
        TurnBlock::Part(Part::Text(text)) => json!({"type": "text", "text": text}),
        TurnBlock::Part(Part::Image(image)) => json!({"type": "image", "source": source(image)?}),
        TurnBlock::Part(Part::Reasoning { text, signature: Some(signature) }) => {
            json!({"type": "thinking", "thinking": text, "signature": signature})
        }
        // no model accepts thinking without its signature
        TurnBlock::Part(Part::Reasoning { signature: None, .. }) => return Ok(()),
        TurnBlock::Part(Part::CachePoint { ttl }) => {
            // thinking cannot be marked; it is cached with what follows it
            let markable = |last: &&mut Value| last["type"] != "thinking";
            if let Some(last) = content.last_mut().filter(markable) {
                last["cache_control"] = cache_control(ttl.as_deref());
            }
            return Ok(());
        }
        TurnBlock::Part(Part::ToolCall(call)) => json!({
            "type": "tool_use", "id": safe_id(&call.id), "name": names.safe(&call.name),
            "input": parse_arguments(&call.arguments, WHO)?,
        }),
        TurnBlock::Part(Part::ToolResult { id, content, is_error }) => {
            let text = tool_result_text(content);
            let mut result =
                json!({"type": "tool_result", "tool_use_id": safe_id(id), "content": text});
            if *is_error {
                result["is_error"] = json!(true);
            }
            result
        }
    });
    Ok(())
}

fn cache_control(ttl: Option<&str>) -> Value {
    let mut cache = json!({"type": "ephemeral"});
    if let Some(ttl) = ttl {
        cache["ttl"] = json!(ttl);
    }
    cache
}

fn source(image: &Image) -> Result<Value, GatewayError> {
    match image {
        Image::Url(url) => Ok(json!({"type": "url", "url": url})),
        Image::Inline { media_type, base64 } => match media_type.as_str() {
            "image/png" | "image/jpeg" | "image/gif" | "image/webp" => {
                Ok(json!({"type": "base64", "media_type": media_type, "data": base64}))
            }
            _ => Err(unsupported_field(
                "messages",
                WHO,
                "takes images as PNG, JPEG, GIF or WebP only",
            )),
        },
    }
}

fn sampling(sampling: &Sampling, model: &str, body: &mut Map<String, Value>) {
    body.insert("max_tokens".into(), json!(sampling.max_tokens.unwrap_or(MAX_TOKENS)));
    if let Some(t) = sampling.temperature.filter(|_| accepts_temperature(model)) {
        body.insert("temperature".into(), json!(t));
    }
    if let Some(p) = sampling.top_p {
        body.insert("top_p".into(), json!(p));
    }
    if !sampling.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(sampling.stop));
    }
}

fn tools(
    generation: &Generation,
    conversation: &Conversation<'_>,
    names: &ToolNames,
    body: &mut Map<String, Value>,
) {
    if generation.tools.is_empty() {
        if conversation.has_tool_history() {
            let called = conversation.called_functions().into_iter();
            let tools = called
                .map(|name| json!({"name": names.safe(name), "input_schema": {"type": "object"}}));
            body.insert("tools".into(), tools.collect());
            body.insert("tool_choice".into(), json!({"type": "none"}));
        }
        return;
    }
    let tools = generation.tools.iter().map(|tool| {
        let mut value =
            json!({"name": names.safe(&tool.name), "input_schema": parameters_schema(&tool.parameters)});
        if !tool.description.is_empty() {
            value["description"] = json!(tool.description);
        }
        if let Some(strict) = tool.strict {
            value["strict"] = json!(strict);
        }
        value
    });
    let mut tools: Vec<Value> = tools.collect();
    if let (Some(cache), Some(last)) = (&generation.tools_cache_ttl, tools.last_mut()) {
        last["cache_control"] = cache_control(cache.0.as_deref());
    }
    body.insert("tools".into(), Value::Array(tools));
    let mut choice = match &generation.tool_choice {
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": names.safe(name)}),
    };
    if generation.parallel_tool_calls == Some(false) && generation.tool_choice != ToolChoice::None {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    body.insert("tool_choice".into(), choice);
}

fn output_config(generation: &Generation) -> Map<String, Value> {
    let mut config = Map::new();
    match &generation.format {
        Format::Text | Format::JsonObject => {}
        Format::JsonSchema { schema, .. } => {
            config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
        }
    }
    if let Some(effort) = &generation.effort {
        config.insert("effort".into(), json!(effort));
    }
    config
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::messages_body;
    use crate::generation::{
        CacheTtl, Format, Generation, Image, Message, Part, Role, Sampling, Thinking, Tool,
        ToolCall, ToolChoice,
    };

    fn user(text: &str) -> Generation {
        Generation { messages: vec![Message::text(Role::User, text)], ..Generation::default() }
    }

    fn body(generation: &Generation) -> Value {
        serde_json::from_slice(&messages_body(generation, "claude-sonnet-4").unwrap()).unwrap()
    }

    #[test]
    fn the_plain_request() {
        let mut request = user("hi");
        request.messages.insert(0, Message::text(Role::System, "be brief"));
        request.stream = true;
        let text = |text| json!({"type": "text", "text": text});
        assert_eq!(
            body(&request),
            json!({
                "model": "claude-sonnet-4", "max_tokens": 4096, "stream": true, "system": [text("be brief")],
                "messages": [{"role": "user", "content": [text("hi")]}],
            })
        );
        request.sampling = Sampling {
            max_tokens: Some(5),
            temperature: Some(0.5),
            top_p: Some(0.9),
            stop: vec!["END".into()],
            seed: None,
        };
        let sent = body(&request);
        assert_eq!(
            (&sent["max_tokens"], &sent["temperature"], &sent["stop_sequences"]),
            (&json!(5), &json!(0.5), &json!(["END"]))
        );
        let newer = messages_body(&request, "claude-opus-4-7").unwrap();
        assert!(!String::from_utf8_lossy(&newer).contains("temperature"));
    }

    #[test]
    fn tools_choices_and_their_history() {
        let call = Part::ToolCall(ToolCall {
            id: "c 1".into(),
            name: "a.b".into(),
            arguments: "{\"x\":1}".into(),
        });
        let mut request = user("go");
        request.messages.push(Message { role: Role::Assistant, parts: vec![call] });
        request.messages.push(Message {
            role: Role::Tool,
            parts: vec![Part::ToolResult {
                id: "c 1".into(),
                content: "ok".into(),
                is_error: true,
            }],
        });
        let sent = body(&request);
        assert_eq!(
            (&sent["messages"][1]["content"][0], &sent["messages"][2]["content"][0]),
            (
                &json!({"type": "tool_use", "id": "c_1", "name": "a_b", "input": {"x": 1}}),
                &json!({"type": "tool_result", "tool_use_id": "c_1", "content": "ok", "is_error": true})
            )
        );
        assert_eq!(
            (&sent["tools"], &sent["tool_choice"]),
            (
                &json!([{"name": "a_b", "input_schema": {"type": "object"}}]),
                &json!({"type": "none"})
            )
        );
        request.tools = vec![Tool {
            name: "a.b".into(),
            description: "d".into(),
            parameters: json!({"type": "object", "properties": {}}),
            strict: Some(true),
        }];
        for (choice, expected) in [
            (ToolChoice::Auto, json!({"type": "auto", "disable_parallel_tool_use": true})),
            (ToolChoice::None, json!({"type": "none"})),
            (ToolChoice::Required, json!({"type": "any", "disable_parallel_tool_use": true})),
            (
                ToolChoice::Named("a.b".into()),
                json!({"type": "tool", "name": "a_b", "disable_parallel_tool_use": true}),
            ),
        ] {
            (request.tool_choice, request.parallel_tool_calls) = (choice, Some(false));
            let sent = body(&request);
            assert_eq!(sent["tool_choice"], expected);
            assert_eq!(
                sent["tools"][0],
                json!({"name": "a_b", "description": "d", "input_schema": {"type": "object", "properties": {}}, "strict": true})
            );
        }
    }

    #[test]
    fn pictures_thinking_schema_and_effort() {
        let mut request = user("what is this");
        request.messages[0].parts.push(Part::Image(Image::Url("https://h/x.png".into())));
        request.messages[0].parts.push(Part::Image(Image::Inline {
            media_type: "image/png".into(),
            base64: "AAAA".into(),
        }));
        let thought = |signature: Option<&str>| Part::Reasoning {
            text: "hm".into(),
            signature: signature.map(Into::into),
        };
        request.messages.push(Message {
            role: Role::Assistant,
            parts: vec![thought(Some("sig")), thought(None)],
        });
        let schema = json!({"type": "object"});
        request.format =
            Format::JsonSchema { name: "n".into(), description: None, schema, strict: None };
        request.effort = Some("low".into());
        let sent = body(&request);
        assert_eq!(
            sent["messages"][0]["content"][1]["source"],
            json!({"type": "url", "url": "https://h/x.png"})
        );
        assert_eq!(
            sent["messages"][0]["content"][2]["source"],
            json!({"type": "base64", "media_type": "image/png", "data": "AAAA"})
        );
        assert_eq!(
            sent["messages"][1]["content"],
            json!([{"type": "thinking", "thinking": "hm", "signature": "sig"}])
        );
        assert_eq!(
            sent["output_config"],
            json!({"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}})
        );
    }

    #[test]
    fn cache_points_mark_the_block_before() {
        let mut request = user("hi");
        request.messages.insert(0, Message::text(Role::System, "brief"));
        request.messages[0].parts.push(Part::CachePoint { ttl: None });
        request.messages[1].parts.push(Part::CachePoint { ttl: Some("1h".into()) });
        let sent = body(&request);
        assert_eq!(
            (&sent["system"], &sent["messages"][0]["content"]),
            (
                &json!([{"type": "text", "text": "brief", "cache_control": {"type": "ephemeral"}}]),
                &json!([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
            )
        );
    }

    #[test]
    fn json_and_a_seed_are_not_refused() {
        let mut request = user("hi");
        (request.sampling.seed, request.format) = (Some(1), Format::JsonObject);
        let sent = body(&request);
        assert!(sent["system"][0]["text"].as_str().unwrap().contains("JSON"), "{sent}");
        assert!(sent.get("output_config").is_none() && sent.get("seed").is_none(), "{sent}");
    }

    #[test]
    fn cached_tools_and_thinking() {
        let mut request = user("hi");
        let tool = |name: &str| Tool {
            name: name.into(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        };
        (request.tools, request.tools_cache_ttl) =
            (vec![tool("f"), tool("g")], Some(CacheTtl(Some("1h".into()))));
        request.thinking = Some(Thinking::default());
        let sent = body(&request);
        assert!(sent["tools"][0].get("cache_control").is_none(), "{sent}");
        assert_eq!(sent["tools"][1]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
        assert_eq!(sent["thinking"], json!({"type": "adaptive"}));
    }
}
