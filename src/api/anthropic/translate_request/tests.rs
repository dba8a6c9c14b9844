//! Requests of Anthropic's API: what each field becomes, what is refused and at which path.

use serde_json::{Value, json};

use super::MessagesRequest;
use crate::error::{GatewayError, Shape, render};
use crate::generation::{
    CacheTtl, Format, Generation, Image, Message, Part, Role, Sampling, Thinking, Tool, ToolCall,
    ToolChoice,
};

fn parse(body: &Value) -> Result<MessagesRequest, GatewayError> {
    MessagesRequest::parse(body.to_string().as_bytes())
}

/// Returns the plain request with these additional fields.
fn with(extra: &Value) -> Value {
    let mut body =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Returns the error message that a client gets for a body.
fn fault_of(body: &Value) -> String {
    let response = render(&parse(body).unwrap_err(), Shape::Anthropic, "r");
    assert_eq!(response.status(), 400);
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn the_plain_request() {
    let request = parse(&with(&json!({}))).unwrap();
    let sampling = Sampling { max_tokens: Some(9), ..Sampling::default() };
    let expected = Generation {
        messages: vec![Message::text(Role::User, "hi")],
        sampling,
        ..Generation::default()
    };
    assert_eq!((request.model.as_str(), request.generation), ("m", expected));
}

#[test]
fn every_translated_field() {
    let schema = json!({"type": "object", "z": 1, "a": 2});
    let generation = parse(&with(&json!({
        "stream": true, "temperature": 0.5, "top_p": 1, "stop_sequences": ["a", "b"], "metadata": {"user_id": "u"}, "service_tier": "auto",
        "system": [{"type": "text", "text": "brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"type": "text", "text": "kind"}],
        "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}, "speed": "standard", "top_k": null,
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}, "strict": true, "type": "custom",
            "eager_input_streaming": true, "allowed_callers": ["direct"]}, {"name": "g", "input_schema": {}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true}, "cache_control": {"type": "ephemeral"},
    })))
    .unwrap()
    .generation;
    let text = |text: &str| Part::Text(text.into());
    assert_eq!(
        generation.messages,
        [
            Message {
                role: Role::System,
                parts: vec![
                    text("brief"),
                    Part::CachePoint { ttl: Some("1h".into()) },
                    text("kind")
                ]
            },
            Message { role: Role::User, parts: vec![text("hi"), Part::CachePoint { ttl: None }] },
        ]
    );
    assert!(generation.stream);
    let stop = vec!["a".into(), "b".into()];
    let sampling = Sampling {
        max_tokens: Some(9),
        temperature: Some(0.5),
        top_p: Some(1.0),
        stop,
        seed: None,
    };
    assert_eq!(generation.sampling, sampling);
    assert_eq!(
        generation.thinking,
        Some(Thinking { budget: Some(2048), display: Some("omitted".into()) })
    );
    assert_eq!(
        (generation.effort.as_deref(), generation.parallel_tool_calls),
        (Some("low"), Some(false))
    );
    assert_eq!(generation.tool_choice, ToolChoice::Named("f".into()));
    assert_eq!((generation.tools.len(), &generation.tools_cache_ttl), (2, &Some(CacheTtl(None))));
    let tool = Tool {
        name: "f".into(),
        description: "d".into(),
        parameters: json!({"type": "object"}),
        strict: Some(true),
    };
    assert_eq!(generation.tools[0], tool);
    let Format::JsonSchema { schema, strict: Some(true), .. } = generation.format else {
        panic!("no schema")
    };
    assert_eq!(schema.to_string(), r#"{"type":"object","z":1,"a":2}"#, "in the order it was sent");
}

#[test]
fn a_conversation_with_calls_images_and_thinking() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/PNG", "data": "AAA="}});
    let request = parse(&with(&json!({"messages": [
        {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image", "source": {"type": "url", "url": "https://h/x.png"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "thinking", "thinking": "unsigned", "signature": ""},
            {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Looking.", "citations": null},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"b": 1, "a": 2}, "caller": {"type": "direct"}}, {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "and?"}]},
        {"role": "system", "content": "be quick"},
        {"role": "assistant", "content": "I"},
    ]})))
    .unwrap();
    let text = |text: &str| Part::Text(text.into());
    let call = |id: &str, name: &str, arguments: &str| {
        Part::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
    };
    let result = |id: &str, content: &str, is_error| Part::ToolResult {
        id: id.into(),
        content: content.into(),
        is_error,
    };
    let thought = |text: &str, signature: Option<&str>| Part::Reasoning {
        text: text.into(),
        signature: signature.map(Into::into),
    };
    let inline = Image::Inline { media_type: "image/png".into(), base64: "AAA=".into() };
    assert_eq!(
        request.generation.messages,
        [
            Message {
                role: Role::User,
                parts: vec![text("what"), Part::Image(Image::Url("https://h/x.png".into()))]
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    thought("hm", Some("sig")),
                    thought("unsigned", None),
                    text("Looking."),
                    call("t1", "f", r#"{"b":1,"a":2}"#),
                    call("t2", "g", "{}"),
                ],
            },
            Message {
                role: Role::Tool,
                parts: vec![result("t1", "a\n(see the picture that follows)\nb", false)]
            },
            Message {
                role: Role::Tool,
                parts: vec![result("t2", "", true), Part::CachePoint { ttl: None }]
            },
            Message { role: Role::User, parts: vec![Part::Image(inline), text("and?")] },
            Message::text(Role::System, "be quick"),
            Message::text(Role::Assistant, "I"),
        ]
    );
}

#[test]
fn what_changes_nothing_is_fine() {
    let generation = parse(&with(&json!({
        "thinking": {"type": "disabled"}, "tool_choice": {"type": "auto", "disable_parallel_tool_use": false}, "tools": [], "system": "",
        "stop_sequences": null, "unknown": null,
    })))
    .unwrap()
    .generation;
    assert_eq!(
        (generation.thinking, generation.parallel_tool_calls, generation.tool_choice),
        (None, None, ToolChoice::Auto)
    );
}

#[test]
fn what_cannot_be_translated_is_named() {
    for (name, value) in [
        ("top_k", json!(5)),
        ("container", json!("c")),
        ("mcp_servers", json!([])),
        ("context_management", json!({})),
        ("speed", json!("fast")),
        ("inference_geo", json!("us")),
    ] {
        let expected = format!(
            "{name}: `{name}` cannot be translated for this model's provider: leave it out"
        );
        assert_eq!(fault_of(&with(&json!({ name: value }))), expected);
    }
}

/// Checks that each body fails with a text that starts like this.
fn check_faults(cases: impl IntoIterator<Item = (Value, &'static str)>) {
    for (extra, expected) in cases {
        let text = fault_of(&with(&extra));
        assert!(text.starts_with(expected), "{text} for {extra}");
    }
}

#[test]
fn faults_of_messages_name_their_path() {
    let content = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    check_faults([
        (json!({"messages": []}), "messages: expected at least one message"),
        (
            json!({"messages": [{"role": "tool", "content": ""}]}),
            "messages.0.role: `tool` cannot be",
        ),
        (json!({"messages": [{"role": "user"}]}), "messages.0.content: Field required"),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages.0.content: expected a string or a list",
        ),
        (
            json!({"messages": [{"role": "user", "content": "", "x": 1}]}),
            "messages.0.x: `x` cannot be",
        ),
        (content(json!({"type": "document"})), "messages.0.content.0.type: `document` cannot be"),
        (content(json!({"type": "thinking"})), "messages.0.content.0.type: `thinking` cannot be"),
        (content(json!({"type": "image"})), "messages.0.content.0.source: Field required"),
        (
            content(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})),
            "messages.0.content.0.source.type: `file` cannot be",
        ),
        (
            content(
                json!({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),
            ),
            "messages.0.content.0.source.url: expected https",
        ),
        (
            content(
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}),
            ),
            "messages.0.content.0.source.data: expected base64",
        ),
        (
            content(json!({"type": "tool_result"})),
            "messages.0.content.0.tool_use_id: Field required",
        ),
        (
            content(
                json!({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "document"}]}),
            ),
            "messages.0.content.0.content.0.type: `document` cannot be",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": []}]}]}),
            "messages.0.content.0.input: expected an object",
        ),
    ]);
}

#[test]
fn faults_of_other_fields_name_their_path() {
    check_faults([
        (json!({"model": null}), "model: Field required"),
        (json!({"system": [{"type": "image"}]}), "system.0.type: `image` cannot be"),
        (json!({"max_tokens": 0}), "max_tokens: expected at least 1"),
        (json!({"max_tokens": "5"}), "max_tokens: expected a number of tokens"),
        (json!({"stop_sequences": "a"}), "stop_sequences: expected a list of strings"),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens: Field required"),
        (
            json!({"thinking": {"type": "between_tools"}}),
            "thinking.type: `between_tools` cannot be",
        ),
        (
            json!({"output_config": {"format": {"type": "grammar"}}}),
            "output_config.format.type: `grammar` cannot be",
        ),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "w"}]}),
            "tools.0.type: `web_search_20250305` cannot",
        ),
        (json!({"tools": [{"name": "f"}]}), "tools.0.input_schema: Field required"),
        (
            json!({"tools": [{"name": "f", "input_schema": {}, "defer_loading": true}]}),
            "tools.0.defer_loading: `defer_loading`",
        ),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice: requires a call"),
        (json!({"tool_choice": {"type": "tool", "name": "f"}}), "tool_choice: names a tool"),
        (json!({"tool_choice": {"type": "required"}}), "tool_choice.type: expected auto"),
    ]);
    assert!(
        MessagesRequest::parse(b"{")
            .unwrap_err()
            .public()
            .starts_with("JSON decode error at line 1")
    );
    assert!(MessagesRequest::parse(b"[]").unwrap_err().public().contains("expected an object"));
}
