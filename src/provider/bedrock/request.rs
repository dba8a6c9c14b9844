//! `Generation` → the body of `POST /model/{id}/converse` and `/converse-stream`.

use serde_json::{Map, Value, json};

use crate::error::GatewayError;
use crate::generation::{Format, Generation, Image, Part, Sampling, ToolChoice};
use crate::model::Guardrail;
use crate::provider::claude_models::{accepts_temperature, thinking};
use crate::provider::tool_names::{ToolNames, safe_id};
use crate::provider::turns::{
    Conversation, JSON_OBJECT, TurnBlock, parameters_schema, parse_arguments, tool_result_text,
};
use crate::provider::{refuse_raw_text, unsupported_field};

const WHO: &str = "Amazon Bedrock";

/// Builds the body of `POST /model/{id}/count-tokens`: the parts of a conversation that a model
/// reads.
pub(super) fn count_body(generation: &Generation, id: &str) -> Result<bytes::Bytes, GatewayError> {
    let mut converse = converse_body(generation, id, None)?;
    converse.retain(|key, _| {
        matches!(
            key.as_str(),
            "messages" | "system" | "toolConfig" | "additionalModelRequestFields"
        )
    });
    Ok(json!({"input": {"converse": converse}}).to_string().into())
}

/// Builds the body. `id` is the model's, for the differences between models. Fails when the request
/// has a field that Bedrock does not support.
pub(super) fn converse_body(
    generation: &Generation,
    id: &str,
    guardrail: Option<&Guardrail>,
) -> Result<Map<String, Value>, GatewayError> {
    refuse_raw_text(generation, WHO)?;
    let names = ToolNames::of(generation);
    let conversation = Conversation::of(generation);
    let mut body = Map::new();
    let mut messages = Vec::with_capacity(conversation.turns.len());
    for turn in &conversation.turns {
        let content: Vec<Value> = turn
            .blocks
            .iter()
            .map(|b| block(b, &names))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        messages.push(
            json!({"role": if turn.is_assistant { "assistant" } else { "user" }, "content": content}),
        );
    }
    body.insert("messages".into(), Value::Array(messages));
    if !conversation.system.is_empty() || generation.format == Format::JsonObject {
        let mut system = Vec::with_capacity(conversation.system.len());
        for part in &conversation.system {
            system.extend(block(&TurnBlock::Part(part), &names)?);
        }
        if generation.format == Format::JsonObject {
            system.push(json!({ "text": JSON_OBJECT }));
        }
        body.insert("system".into(), Value::Array(system));
    }
    let inference = inference_config(&generation.sampling, id);
    if !inference.is_empty() {
        body.insert("inferenceConfig".into(), Value::Object(inference));
    }
    if let Some(tools) = tool_config(generation, &conversation, &names)? {
        body.insert("toolConfig".into(), tools);
    }
    let output = output_config(generation);
    if !output.is_empty() {
        body.insert("outputConfig".into(), Value::Object(output));
    }
    if let Some(settings) = &generation.thinking {
        // an ARN does not reveal the model: then Bedrock decides
        if !id.contains("claude") && !id.starts_with("arn:") {
            return Err(unsupported_field("thinking", WHO, "supports it for Claude models only"));
        }
        body.insert(
            "additionalModelRequestFields".into(),
            json!({ "thinking": thinking(settings) }),
        );
    }
    if let Some(guardrail) = guardrail {
        let mut config = json!({"guardrailIdentifier": guardrail.identifier});
        if let Some(version) = &guardrail.version {
            config["guardrailVersion"] = json!(version);
        }
        if let Some(trace) = &guardrail.trace {
            config["trace"] = json!(trace);
        }
        body.insert("guardrailConfig".into(), config);
    }
    Ok(body)
}

/// Returns a content block, or `None` for thinking without a signature, which no model accepts.
fn block(block: &TurnBlock<'_>, names: &ToolNames) -> Result<Option<Value>, GatewayError> {
    Ok(Some(match block {
        TurnBlock::Text(text) => json!({"text": text}),
        TurnBlock::Part(Part::Text(text)) => json!({"text": text}),
        TurnBlock::Part(Part::Image(image)) => self::image(image)?,
        TurnBlock::Part(Part::Reasoning { text, signature: Some(signature) }) => {
            json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
        }
        TurnBlock::Part(Part::Reasoning { signature: None, .. }) => return Ok(None),
        TurnBlock::Part(Part::CachePoint { ttl }) => cache_point(ttl.as_deref()),
        TurnBlock::Part(Part::ToolCall(call)) => json!({"toolUse": {
            "toolUseId": safe_id(&call.id), "name": names.safe(&call.name), "input": parse_arguments(&call.arguments, WHO)?,
        }}),
        TurnBlock::Part(Part::ToolResult { id, content, is_error }) => {
            let mut result =
                json!({"toolUseId": safe_id(id), "content": [{"text": tool_result_text(content)}]});
            if *is_error {
                result["status"] = json!("error");
            }
            json!({ "toolResult": result })
        }
    }))
}

fn cache_point(ttl: Option<&str>) -> Value {
    let mut point = json!({"type": "default"});
    if let Some(ttl) = ttl {
        point["ttl"] = json!(ttl);
    }
    json!({ "cachePoint": point })
}

fn image(image: &Image) -> Result<Value, GatewayError> {
    let Image::Inline { media_type, base64 } = image else {
        return Err(unsupported_field("messages", WHO, "takes images as data: URLs only"));
    };
    let format = match media_type.as_str() {
        "image/png" => "png",
        "image/jpeg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => {
            return Err(unsupported_field(
                "messages",
                WHO,
                "takes images as PNG, JPEG, GIF or WebP only",
            ));
        }
    };
    Ok(json!({"image": {"format": format, "source": {"bytes": base64}}}))
}

fn inference_config(sampling: &Sampling, id: &str) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(n) = sampling.max_tokens {
        config.insert("maxTokens".into(), json!(n));
    }
    if let Some(t) = sampling.temperature.filter(|_| accepts_temperature(id)) {
        config.insert("temperature".into(), json!(t));
    }
    if let Some(p) = sampling.top_p {
        config.insert("topP".into(), json!(p));
    }
    if !sampling.stop.is_empty() {
        config.insert("stopSequences".into(), json!(sampling.stop));
    }
    config
}

/// Returns `toolConfig`. It is required whenever the history has calls, even if the request defines
/// no tools (contract::providers §d1.19); then it has the names of the functions that were called.
fn tool_config(
    generation: &Generation,
    conversation: &Conversation<'_>,
    names: &ToolNames,
) -> Result<Option<Value>, GatewayError> {
    let has_history = conversation.has_tool_history();
    if generation.tool_choice == ToolChoice::None && has_history {
        return Err(unsupported_field(
            "tool_choice",
            WHO,
            "cannot forbid calls in a conversation that has some",
        ));
    }
    if generation.parallel_tool_calls == Some(false) && !generation.tools.is_empty() {
        return Err(unsupported_field("parallel_tool_calls", WHO, "cannot forbid parallel calls"));
    }
    if generation.tools.is_empty() || generation.tool_choice == ToolChoice::None {
        return Ok(has_history.then(|| called_functions(conversation, names)));
    }
    let mut tools: Vec<Value> = generation
        .tools
        .iter()
        .map(|tool| {
            let mut spec = json!({"name": names.safe(&tool.name), "inputSchema": {"json": parameters_schema(&tool.parameters)}});
            if !tool.description.is_empty() {
                spec["description"] = json!(tool.description);
            }
            if let Some(strict) = tool.strict {
                spec["strict"] = json!(strict);
            }
            json!({"toolSpec": spec})
        })
        .collect();
    tools.extend(generation.tools_cache_ttl.as_ref().map(|cache| cache_point(cache.0.as_deref())));
    let mut config = json!({ "tools": tools });
    match &generation.tool_choice {
        ToolChoice::Auto | ToolChoice::None => {}
        ToolChoice::Required => config["toolChoice"] = json!({"any": {}}),
        ToolChoice::Named(name) => {
            config["toolChoice"] = json!({"tool": {"name": names.safe(name)}})
        }
    }
    Ok(Some(config))
}

fn called_functions(conversation: &Conversation<'_>, names: &ToolNames) -> Value {
    let called = conversation.called_functions().into_iter();
    let specs =
        called.map(|name| json!({"toolSpec": {"name": names.safe(name), "inputSchema": {"json": {"type": "object"}}}}));
    json!({"tools": specs.collect::<Vec<Value>>()})
}

fn output_config(generation: &Generation) -> Map<String, Value> {
    let mut config = Map::new();
    match &generation.format {
        Format::Text | Format::JsonObject => {}
        Format::JsonSchema { name, description, schema, strict: _ } => {
            let mut json_schema = json!({"schema": schema.to_string(), "name": name});
            if let Some(description) = description {
                json_schema["description"] = json!(description);
            }
            let format = json!({"type": "json_schema", "structure": {"jsonSchema": json_schema}});
            config.insert("textFormat".into(), format);
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

    use super::converse_body;
    use crate::generation::{
        CacheTtl, Format, Generation, Image, Message, Part, Role, Sampling, Thinking, Tool,
        ToolCall, ToolChoice,
    };
    use crate::model::Guardrail;

    const NOVA: &str = "eu.amazon.nova-micro-v1:0";

    fn user(text: &str) -> Generation {
        Generation { messages: vec![Message::text(Role::User, text)], ..Generation::default() }
    }

    fn body(generation: &Generation) -> Value {
        Value::Object(converse_body(generation, NOVA, None).unwrap())
    }

    fn refusal(generation: &Generation) -> String {
        converse_body(generation, NOVA, None).unwrap_err().public().to_owned()
    }

    fn tool(name: &str) -> Tool {
        Tool {
            name: name.into(),
            description: String::new(),
            parameters: Value::Null,
            strict: None,
        }
    }

    #[test]
    fn the_plain_request() {
        let mut request = user("hi");
        request.messages.insert(0, Message::text(Role::System, "be brief"));
        request.sampling = Sampling {
            max_tokens: Some(5),
            temperature: Some(0.5),
            top_p: Some(0.9),
            stop: vec!["END".into()],
            seed: None,
        };
        assert_eq!(
            body(&request),
            json!({
                "messages": [{"role": "user", "content": [{"text": "hi"}]}], "system": [{"text": "be brief"}],
                "inferenceConfig": {"maxTokens": 5, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
            })
        );
        let newer = converse_body(&request, "us.anthropic.claude-opus-4-7-v1:0", None).unwrap();
        assert!(newer["inferenceConfig"].get("temperature").is_none());
    }

    #[test]
    fn tools_are_offered_chosen_and_renamed() {
        let mut request = user("hi");
        request.tools = vec![
            Tool {
                name: "files.read".into(),
                description: "Reads".into(),
                parameters: json!({"type": "object", "x": 1}),
                strict: None,
            },
            tool("plain"),
        ];
        request.tool_choice = ToolChoice::Named("files.read".into());
        request.parallel_tool_calls = Some(true);
        assert_eq!(
            body(&request)["toolConfig"],
            json!({
                "tools": [
                    {"toolSpec": {"name": "files_read", "description": "Reads", "inputSchema": {"json": {"type": "object", "x": 1}}}},
                    {"toolSpec": {"name": "plain", "inputSchema": {"json": {"type": "object"}}}},
                ],
                "toolChoice": {"tool": {"name": "files_read"}},
            })
        );
        request.tool_choice = ToolChoice::Required;
        assert_eq!(body(&request)["toolConfig"]["toolChoice"], json!({"any": {}}));
        request.tool_choice = ToolChoice::None;
        assert_eq!(body(&request)["toolConfig"], Value::Null);
        (request.tool_choice, request.parallel_tool_calls) = (ToolChoice::Auto, Some(false));
        assert!(refusal(&request).contains("`parallel_tool_calls`"));
        request.tools.clear();
        assert_eq!(body(&request)["toolConfig"], Value::Null);
    }

    #[test]
    fn a_history_of_calls_wants_tools() {
        let call = Part::ToolCall(ToolCall {
            id: "c 1".into(),
            name: "f".into(),
            arguments: String::new(),
        });
        let mut request = user("go");
        request.messages.push(Message { role: Role::Assistant, parts: vec![call] });
        request.messages.push(Message {
            role: Role::Tool,
            parts: vec![Part::ToolResult {
                id: "c 1".into(),
                content: String::new(),
                is_error: true,
            }],
        });
        let sent = body(&request);
        assert_eq!(
            sent["messages"][1]["content"],
            json!([{"toolUse": {"toolUseId": "c_1", "name": "f", "input": {}}}])
        );
        assert_eq!(
            sent["messages"][2],
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": "c_1", "content": [{"text": "(no output)"}], "status": "error"}}]})
        );
        assert_eq!(sent["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
        request.tool_choice = ToolChoice::None;
        assert!(refusal(&request).contains("`tool_choice`"));
    }

    #[test]
    fn pictures_thinking_schema_effort_and_guardrail() {
        let mut request = user("what is this");
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
        request.format = Format::JsonSchema {
            name: "n".into(),
            description: None,
            // a model generates the properties in this order: first the reasons, then the answer
            schema: json!({"properties": {"reasons": {}, "answer": {}}}),
            strict: Some(true),
        };
        request.effort = Some("low".into());
        let guardrail = Guardrail {
            identifier: "gr1".into(),
            version: Some("1".into()),
            trace: Some("enabled".into()),
        };
        let sent = Value::Object(converse_body(&request, NOVA, Some(&guardrail)).unwrap());
        assert_eq!(
            sent["messages"][0]["content"][1],
            json!({"image": {"format": "png", "source": {"bytes": "AAAA"}}})
        );
        assert_eq!(
            sent["messages"][1]["content"],
            json!([{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}}])
        );
        assert_eq!(
            sent["outputConfig"],
            json!({"effort": "low", "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "n", "schema": "{\"properties\":{\"reasons\":{},\"answer\":{}}}"}}}})
        );
        assert_eq!(
            sent["guardrailConfig"],
            json!({"guardrailIdentifier": "gr1", "guardrailVersion": "1", "trace": "enabled"})
        );
    }

    #[test]
    fn cache_points() {
        let mut request = user("hi");
        request.messages.insert(0, Message::text(Role::System, "brief"));
        request.messages[0].parts.push(Part::CachePoint { ttl: None });
        request.messages[1].parts.push(Part::CachePoint { ttl: Some("1h".into()) });
        (request.tools, request.tools_cache_ttl) = (vec![tool("f")], Some(CacheTtl(None)));
        let sent = body(&request);
        assert_eq!(sent["toolConfig"]["tools"][1], json!({"cachePoint": {"type": "default"}}));
        assert_eq!(sent["system"], json!([{"text": "brief"}, {"cachePoint": {"type": "default"}}]));
        assert_eq!(
            sent["messages"][0]["content"][1],
            json!({"cachePoint": {"type": "default", "ttl": "1h"}})
        );
    }

    #[test]
    fn a_count_has_the_parts_that_a_model_reads() {
        let mut request = user("hi");
        request.messages.insert(0, Message::text(Role::System, "brief"));
        (request.sampling.max_tokens, request.effort) = (Some(5), Some("low".into()));
        let sent: Value =
            serde_json::from_slice(&super::count_body(&request, NOVA).unwrap()).unwrap();
        let converse = json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}], "system": [{"text": "brief"}]});
        assert_eq!(sent, json!({"input": {"converse": converse}}));
    }

    #[test]
    fn thinking_has_claudes_own_fields() {
        let mut request = user("hi");
        request.thinking = Some(Thinking { budget: Some(2048), display: Some("omitted".into()) });
        let sent = converse_body(&request, "eu.anthropic.claude-sonnet-4-v1:0", None).unwrap();
        assert_eq!(
            sent["additionalModelRequestFields"],
            json!({"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}})
        );
    }

    #[test]
    fn json_and_a_seed_are_not_refused() {
        let mut request = user("hi");
        (request.sampling.seed, request.format) = (Some(1), Format::JsonObject);
        let sent = body(&request);
        assert!(sent["system"][0]["text"].as_str().unwrap().contains("JSON"), "{sent}");
        assert!(
            sent.get("outputConfig").is_none() && sent.get("inferenceConfig").is_none(),
            "{sent}"
        );
    }

    #[test]
    fn unsupported_fields_are_refused_by_name() {
        let mut request = user("hi");
        request.thinking = Some(Thinking { budget: Some(2048), display: None });
        assert!(refusal(&request).contains("`thinking`"));
        let mut request = user("hi");
        request.messages[0].parts.push(Part::Image(Image::Url("http://10.0.0.1/x.png".into())));
        assert!(refusal(&request).contains("data: URLs"));
    }
}
