//! A chat request of OpenAI's API → [`Generation`], for models whose server has another API.
//!
//! Each field is translated, or does not affect the response and is dropped (the list is below), or
//! is refused by name with a 422. What a provider cannot do is refused by its dialect.

use serde_json::{Map, Value};

use super::translate_messages::messages;
use crate::api::fields::{Fields, fault, parse_body, unsupported};
use crate::error::{BodyFault, GatewayError};
use crate::generation::{CacheTtl, Format, Generation, Sampling, Tool, ToolChoice};

/// Fields about the caller and the storage of the response, which do not affect the response.
const IGNORED: [&str; 6] = [
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "stream_options",
];

/// A parsed chat request.
#[derive(Debug)]
pub(super) struct ChatRequest {
    /// The model's name as the client sent it.
    pub(super) model: String,
    /// The request in the common form that dialects encode.
    pub(super) generation: Generation,
    /// Whether a stream ends with a chunk of token counts (`stream_options.include_usage`).
    pub(super) include_usage: bool,
}

impl ChatRequest {
    /// Parses the body of `POST /v1/chat/completions`. Fails with the first fault and its path.
    pub(super) fn parse(body: &[u8]) -> Result<Self, GatewayError> {
        translate(body).map_err(|fault| GatewayError::invalid(vec![fault]))
    }
}

fn translate(body: &[u8]) -> Result<ChatRequest, BodyFault> {
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
    let options: Option<Map<String, Value>> = body.get("stream_options", "an object")?;
    let include_usage =
        options.is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true)));
    let (tools, tools_cached) = tools(&mut body)?;
    let generation = Generation {
        raw_prompt: None,
        messages: messages(list)?,
        tool_choice: tool_choice(&mut body, &tools)?,
        tools,
        tools_cache_ttl: tools_cached,
        thinking: None,
        parallel_tool_calls: body.get("parallel_tool_calls", "true or false")?,
        format: format(&mut body)?,
        effort: body.text("reasoning_effort")?,
        sampling: sampling(&mut body)?,
        stream: body.get("stream", "true or false")?.unwrap_or(false),
    };
    body.ignore(&IGNORED);
    drop_neutral(&mut body)?;
    body.finish()?;
    Ok(ChatRequest { model, generation, include_usage })
}

fn sampling(body: &mut Fields) -> Result<Sampling, BodyFault> {
    let older = body.get("max_tokens", "a number of tokens")?;
    let max_tokens = body.get("max_completion_tokens", "a number of tokens")?.or(older);
    if max_tokens == Some(0) {
        return Err(fault(&body.path_of("max_tokens"), "value_error", "expected at least 1"));
    }
    let stop = match body.take("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(list) => serde_json::from_value(list).map_err(|_| {
            fault(&body.path_of("stop"), "type_error", "expected a string or a list of strings")
        })?,
    };
    Ok(Sampling {
        max_tokens,
        temperature: body.get("temperature", "a number")?,
        top_p: body.get("top_p", "a number")?,
        stop,
        seed: body.get("seed", "an integer")?,
    })
}

/// Drops fields that no other provider has, if their value changes nothing. Fails on any other.
fn drop_neutral(body: &mut Fields) -> Result<(), BodyFault> {
    let zero = |value: &Value| value.as_f64() == Some(0.0);
    let no = |value: &Value| *value == Value::Bool(false);
    body.accept_only("n", |value| *value == 1)?;
    body.accept_only("frequency_penalty", zero)?;
    body.accept_only("presence_penalty", zero)?;
    body.accept_only("logprobs", no)?;
    body.accept_only("top_logprobs", zero)?;
    body.accept_only("logit_bias", |value| value.as_object().is_some_and(Map::is_empty))?;
    body.accept_only("store", no)?;
    body.accept_only("service_tier", |value| value == "auto" || value == "default")?;
    body.accept_only("verbosity", |value| value == "medium")?;
    body.accept_only("modalities", |value| {
        value.as_array().is_some_and(|list| list.iter().all(|kind| kind == "text"))
    })
}

fn tools(body: &mut Fields) -> Result<(Vec<Tool>, Option<CacheTtl>), BodyFault> {
    let (mut tools, mut cache_point) = (Vec::new(), None);
    for (value, path) in body.list("tools")?.unwrap_or_default() {
        let mut tool = Fields::from_value(value, path)?;
        let kind = tool.required("type")?;
        if kind != "function" {
            return Err(unsupported(&tool.path_of("type"), &kind));
        }
        let missing = fault(&tool.path_of("function"), "missing", "Field required");
        let mut function = tool.object("function")?.ok_or(missing)?;
        tools.push(Tool {
            name: function.required("name")?,
            description: function.text("description")?.unwrap_or_default(),
            parameters: function.take("parameters").unwrap_or(Value::Null),
            strict: function.get("strict", "true or false")?,
        });
        function.finish()?;
        cache_point = tool.cache_control()?.or(cache_point);
        tool.finish()?;
    }
    Ok((tools, cache_point))
}

fn tool_choice(body: &mut Fields, tools: &[Tool]) -> Result<ToolChoice, BodyFault> {
    let path = body.path_of("tool_choice");
    let choice = match body.take("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => return Ok(ToolChoice::Auto),
            "none" => return Ok(ToolChoice::None),
            "required" => ToolChoice::Required,
            _ => {
                return Err(fault(
                    &path,
                    "value_error",
                    "expected none, auto, required or a function",
                ));
            }
        },
        Some(value) => {
            let mut choice = Fields::from_value(value, path.clone())?;
            let kind = choice.required("type")?;
            if kind != "function" {
                return Err(unsupported(&choice.path_of("type"), &kind));
            }
            let missing = fault(&choice.path_of("function"), "missing", "Field required");
            let name = choice.object("function")?.ok_or(missing)?.required("name")?;
            if !tools.iter().any(|tool| tool.name == name) {
                return Err(fault(
                    &path,
                    "value_error",
                    "names a function that `tools` does not offer",
                ));
            }
            ToolChoice::Named(name)
        }
    };
    if tools.is_empty() {
        return Err(fault(&path, "value_error", "requires a call, but `tools` offers no function"));
    }
    Ok(choice)
}

fn format(body: &mut Fields) -> Result<Format, BodyFault> {
    let Some(mut format) = body.object("response_format")? else { return Ok(Format::Text) };
    let kind = format.required("type")?;
    let parsed = match kind.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => {
            let missing = fault(&format.path_of("json_schema"), "missing", "Field required");
            let mut inner = format.object("json_schema")?.ok_or(missing)?;
            let name = inner.required("name")?;
            let schema = inner.take("schema").unwrap_or_else(|| Value::Object(Map::new()));
            let (description, strict) =
                (inner.text("description")?, inner.get("strict", "true or false")?);
            inner.finish()?;
            Format::JsonSchema { name, description, schema, strict }
        }
        _ => return Err(unsupported(&format.path_of("type"), &kind)),
    };
    format.finish()?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::ChatRequest;
    use crate::error::{GatewayError, Shape, render};
    use crate::generation::{Format, Generation, Message, Role, Sampling, ToolChoice};

    fn parse(body: &Value) -> Result<ChatRequest, GatewayError> {
        ChatRequest::parse(body.to_string().as_bytes())
    }

    /// Returns the plain request with these additional fields.
    fn with(extra: &Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }

    /// Returns the fault of a body, as `param: message`.
    fn fault_of(body: &Value) -> String {
        let error = parse(body).unwrap_err();
        let response = render(&error, Shape::OpenAi, "r");
        assert_eq!(response.status(), 422);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        format!(
            "{}: {}",
            body["error"]["param"].as_str().unwrap_or("body"),
            body["error"]["message"].as_str().unwrap()
        )
    }

    #[test]
    fn the_plain_request() {
        let request = parse(&with(&json!({}))).unwrap();
        assert_eq!((request.model.as_str(), request.include_usage), ("m", false));
        let expected =
            Generation { messages: vec![Message::text(Role::User, "hi")], ..Generation::default() };
        assert_eq!(request.generation, expected);
    }

    #[test]
    fn every_translated_field() {
        let request = parse(&with(&json!({
            "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9, "max_completion_tokens": 7, "temperature": 0.5,
            "top_p": 1, "stop": ["a", "b"], "seed": -3, "parallel_tool_calls": false, "reasoning_effort": "low",
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
                {"type": "function", "function": {"name": "g"}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"z": 1, "a": 2}, "strict": true}},
        })))
        .unwrap();
        let generation = request.generation;
        assert!(request.include_usage && generation.stream);
        assert_eq!(
            generation.sampling,
            Sampling {
                max_tokens: Some(7),
                temperature: Some(0.5),
                top_p: Some(1.0),
                stop: vec!["a".into(), "b".into()],
                seed: Some(-3)
            }
        );
        assert_eq!(
            (generation.tools[0].strict, generation.tools[1].parameters.clone()),
            (Some(true), Value::Null)
        );
        assert_eq!(generation.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(
            (generation.parallel_tool_calls, generation.effort.as_deref()),
            (Some(false), Some("low"))
        );
        let Format::JsonSchema { schema, .. } = generation.format else { panic!("no schema") };
        assert_eq!(schema.to_string(), r#"{"z":1,"a":2}"#, "in the order it was sent");
    }

    #[test]
    fn what_changes_nothing_is_fine() {
        parse(&with(&json!({
            "n": 1, "logprobs": false, "top_logprobs": 0, "logit_bias": {}, "presence_penalty": 0.0, "frequency_penalty": 0, "store": false,
            "user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"], "stop": null, "tools": null, "seed": null,
            "response_format": {"type": "text"}, "tool_choice": "auto", "unknown": null, "stop": "one",
        })))
        .unwrap();
    }

    #[test]
    fn what_cannot_be_translated_is_named() {
        for (name, value) in [
            ("n", json!(2)),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(3)),
            ("logit_bias", json!({"1": 2})),
            ("presence_penalty", json!(0.1)),
            ("frequency_penalty", json!(1)),
            ("store", json!(true)),
            ("service_tier", json!("flex")),
            ("modalities", json!(["text", "audio"])),
            ("audio", json!({})),
            ("prediction", json!({})),
            ("functions", json!([])),
            ("web_search_options", json!({})),
            ("guided_json", json!({})),
        ] {
            let body = with(&json!({ name: value }));
            assert_eq!(
                fault_of(&body),
                format!(
                    "{name}: `{name}` cannot be translated for this model's provider: leave it out"
                )
            );
        }
    }

    #[test]
    fn faults_name_their_path() {
        for (extra, expected) in [
            (json!({"model": null}), "model: Field required"),
            (json!({"messages": []}), "messages: expected at least one message"),
            (json!({"messages": "hi"}), "messages: expected a list"),
            (json!({"max_tokens": "5"}), "max_tokens: expected a number of tokens"),
            (json!({"max_tokens": -1}), "max_tokens: expected a number of tokens"),
            (json!({"max_tokens": 0}), "max_tokens: expected at least 1"),
            (json!({"stop": [1]}), "stop: expected a string or a list of strings"),
            (json!({"stream": 1}), "stream: expected true or false"),
            (json!({"tools": [{"type": "custom"}]}), "tools.0.type: `custom` cannot be"),
            (
                json!({"tools": [{"type": "function", "function": {}}]}),
                "tools.0.function.name: Field required",
            ),
            (json!({"tool_choice": "any"}), "tool_choice: expected none, auto"),
            (json!({"tool_choice": "required"}), "tool_choice: requires a call"),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                "tool_choice: names a function",
            ),
            (
                json!({"response_format": {"type": "grammar"}}),
                "response_format.type: `grammar` cannot be",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema: Field required",
            ),
        ] {
            let text = fault_of(&with(&extra));
            assert!(text.starts_with(expected), "{text} for {extra}");
        }
        assert!(
            ChatRequest::parse(b"{\"model\":")
                .unwrap_err()
                .public()
                .starts_with("JSON decode error at line 1")
        );
        assert!(ChatRequest::parse(b"[]").unwrap_err().public().contains("expected an object"));
    }

    #[test]
    fn arbitrary_bodies_never_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        let good = with(&json!({"tools": [{"type": "function", "function": {"name": "f"}}], "stop": ["a"], "seed": 1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n"}}, "stream_options": {}}))
        .to_string();
        let (mut fine, mut refused) = (0, 0);
        for _ in 0..5000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..random.usize(0..3) {
                let at = random.usize(..bytes.len());
                bytes[at] = *random.choice(b"{}[]\",:0ane").unwrap_or(&b' ');
            }
            match ChatRequest::parse(&bytes) {
                Ok(_) => fine += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(fine > 100 && refused > 100, "{fine} fine, {refused} refused");
    }
}
