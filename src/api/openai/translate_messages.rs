//! The `messages` of a chat request of OpenAI's → [`Message`]s.

use serde_json::Value;

use crate::api::fields::{Fields, JsonPath, fault, is_base64, unsupported, with_paths};
use crate::error::BodyFault;
use crate::generation::{CacheTtl, Image, Message, Part, Role, ToolCall};

/// Translates all messages, in order. Fails with the first fault.
pub(super) fn messages(list: Vec<(Value, JsonPath)>) -> Result<Vec<Message>, BodyFault> {
    list.into_iter().map(|(value, path)| message(Fields::from_value(value, path)?)).collect()
}

fn message(mut message: Fields) -> Result<Message, BodyFault> {
    let name = message.required("role")?;
    let Some(role) = Role::parse(&name) else {
        return Err(unsupported(&message.path_of("role"), &name));
    };
    let parts = match role {
        Role::System | Role::User => named_content(&mut message, role)?,
        Role::Assistant => assistant(&mut message)?,
        Role::Tool => tool_result(&mut message)?,
    };
    message.finish()?;
    Ok(Message { role, parts })
}

/// Translates a message of the user or the system. Other providers have no field for a speaker's
/// name, so it is put in front of the text, as in a play.
fn named_content(message: &mut Fields, role: Role) -> Result<Vec<Part>, BodyFault> {
    let name = message.text("name")?;
    let mut parts = content(message, role)?;
    match (name, parts.first_mut()) {
        (Some(name), Some(Part::Text(text))) => text.insert_str(0, &format!("{name}: ")),
        (Some(name), _) => parts.insert(0, Part::Text(format!("{name}:"))),
        (None, _) => {}
    }
    Ok(parts)
}

/// Translates a message of the model: thinking, then text, then calls, which is the order in which
/// it produced them.
fn assistant(message: &mut Fields) -> Result<Vec<Part>, BodyFault> {
    let mut parts = reasoning(message)?;
    parts.extend(content(message, Role::Assistant)?);
    parts.extend(message.text("refusal")?.map(Part::Text));
    for (value, path) in message.list("tool_calls")?.unwrap_or_default() {
        let mut call = Fields::from_value(value, path)?;
        let kind = call.text("type")?.unwrap_or_else(|| "function".into());
        if kind != "function" {
            return Err(unsupported(&call.path_of("type"), &kind));
        }
        // a client that sends back the calls of a stream may include their index
        call.ignore(&["index"]);
        let id = call.required("id")?;
        let missing = fault(&call.path_of("function"), "missing", "Field required");
        let mut function = call.object("function")?.ok_or(missing)?;
        let name = function.required("name")?;
        let arguments = function.text("arguments")?.unwrap_or_default();
        function.finish()?;
        call.finish()?;
        parts.push(Part::ToolCall(ToolCall { id, name, arguments }));
    }
    // the model sees from the role which messages are an assistant's, whatever its name; the rest
    // are fields of a response that clients send back whole
    message.ignore(&["name"]);
    message.accept_only("annotations", |value| value.as_array().is_some_and(Vec::is_empty))?;
    Ok(parts)
}

/// Translates earlier thinking: `thinking_blocks` with the provider's signature, as our own
/// responses and LiteLLM's have them, or else `reasoning_content` without one.
fn reasoning(message: &mut Fields) -> Result<Vec<Part>, BodyFault> {
    let plain = message.text("reasoning_content")?.or(message.text("reasoning")?);
    let Some(blocks) = message.list("thinking_blocks")? else {
        return Ok(plain
            .map(|text| Part::Reasoning { text, signature: None })
            .into_iter()
            .collect());
    };
    let mut parts = Vec::with_capacity(blocks.len());
    for (value, path) in blocks {
        let mut block = Fields::from_value(value, path)?;
        let kind = block.required("type")?;
        if kind != "thinking" {
            return Err(unsupported(&block.path_of("type"), &kind));
        }
        let (text, signature) =
            (block.text("thinking")?.unwrap_or_default(), block.text("signature")?);
        block.finish()?;
        parts.push(Part::Reasoning { text, signature });
    }
    Ok(parts)
}

/// Translates a call's result into one text, followed by the cache point of its parts, if any.
fn tool_result(message: &mut Fields) -> Result<Vec<Part>, BodyFault> {
    let id = message.required("tool_call_id")?;
    // the call's own name, repeated
    message.ignore(&["name"]);
    let (mut text, mut cache_point) = (String::new(), None);
    for part in content(message, Role::Tool)? {
        match part {
            Part::Text(piece) => text.push_str(&piece),
            Part::CachePoint { .. } => cache_point = Some(part),
            Part::Image(_)
            | Part::Reasoning { .. }
            | Part::ToolCall(_)
            | Part::ToolResult { .. } => {}
        }
    }
    Ok([Part::ToolResult { id, content: text, is_error: false }]
        .into_iter()
        .chain(cache_point)
        .collect())
}

/// Translates `content`: a string or a list of parts. In the model's own messages it may be absent.
fn content(message: &mut Fields, role: Role) -> Result<Vec<Part>, BodyFault> {
    let path = message.path_of("content");
    match message.take("content") {
        None if role == Role::Assistant => Ok(Vec::new()),
        None => Err(fault(&path, "missing", "Field required")),
        Some(Value::String(text)) => Ok(vec![Part::Text(text)]),
        Some(Value::Array(parts)) => {
            let mut translated = Vec::with_capacity(parts.len());
            for (value, path) in with_paths(parts, &path) {
                content_part(Fields::from_value(value, path)?, role, &mut translated)?;
            }
            Ok(translated)
        }
        Some(_) => Err(fault(&path, "type_error", "expected a string or a list of parts")),
    }
}

fn content_part(mut part: Fields, role: Role, out: &mut Vec<Part>) -> Result<(), BodyFault> {
    let kind = part.required("type")?;
    out.push(match (kind.as_str(), role) {
        ("text", _) => Part::Text(part.required("text")?),
        ("refusal", Role::Assistant) => Part::Text(part.required("refusal")?),
        ("image_url", Role::User) => Part::Image(image(&mut part)?),
        _ => return Err(unsupported(&part.path_of("type"), &kind)),
    });
    out.extend(part.cache_control()?.map(|CacheTtl(ttl)| Part::CachePoint { ttl }));
    part.finish()
}

/// Translates an image. `detail` is a hint for OpenAI's own pricing, which no other provider has.
fn image(part: &mut Fields) -> Result<Image, BodyFault> {
    let missing = fault(&part.path_of("image_url"), "missing", "Field required");
    let mut source = part.object("image_url")?.ok_or(missing)?;
    source.ignore(&["detail"]);
    let url = source.required("url")?;
    let path = source.path_of("url");
    source.finish()?;
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(Image::Url(url));
    }
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let Some((media_type, base64)) = inline.filter(|(_, data)| is_base64(data)) else {
        let msg = "expected https://… or data:image/…;base64,…";
        return Err(fault(&path, "value_error", msg));
    };
    Ok(Image::Inline { media_type: media_type.to_ascii_lowercase(), base64: base64.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::messages;
    use crate::api::fields::with_paths;
    use crate::generation::{Image, Message, Part, Role, ToolCall};

    fn read(list: Value) -> Result<Vec<Message>, String> {
        let Value::Array(items) = list else { unreachable!() };
        messages(with_paths(items, &vec!["messages".into()]))
            .map_err(|fault| format!("{}: {}", fault.loc.join("."), fault.msg))
    }

    #[test]
    fn a_conversation_with_calls_images_and_thinking() {
        let read = read(json!([
            {"role": "developer", "content": "brief"},
            {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAA=", "detail": "high"}},
                {"type": "image_url", "image_url": {"url": "https://h/x.png"}}]},
            {"role": "assistant", "content": null, "refusal": null, "annotations": [], "reasoning_content": "hm",
                "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}],
                "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "name": "f", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "done", "reasoning_content": "ok"},
        ]));
        let inline = Image::Inline { media_type: "image/png".into(), base64: "AAA=".into() };
        let call = ToolCall { id: "c1".into(), name: "f".into(), arguments: "{}".into() };
        let expected = [
            Message::text(Role::System, "brief"),
            Message {
                role: Role::User,
                parts: vec![
                    Part::Text("what".into()),
                    Part::Image(inline),
                    Part::Image(Image::Url("https://h/x.png".into())),
                ],
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Reasoning { text: "hm".into(), signature: Some("sig".into()) },
                    Part::ToolCall(call),
                ],
            },
            Message {
                role: Role::Tool,
                parts: vec![Part::ToolResult {
                    id: "c1".into(),
                    content: "ab".into(),
                    is_error: false,
                }],
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Reasoning { text: "ok".into(), signature: None },
                    Part::Text("done".into()),
                ],
            },
        ];
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn cache_control_becomes_cache_points() {
        let cache = json!({"type": "ephemeral", "ttl": "1h"});
        let read = read(
            json!([{"role": "system", "content": [{"type": "text", "text": "brief", "cache_control": cache}]}]),
        );
        let parts = vec![Part::Text("brief".into()), Part::CachePoint { ttl: Some("1h".into()) }];
        assert_eq!(read.unwrap(), [Message { role: Role::System, parts }]);
        let text = json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]);
        let result = Part::ToolResult { id: "c".into(), content: "x".into(), is_error: false };
        let parts = vec![result, Part::CachePoint { ttl: None }];
        let read = self::read(json!([{"role": "tool", "tool_call_id": "c", "content": text}]));
        assert_eq!(read.unwrap(), [Message { role: Role::Tool, parts }]);
    }

    #[test]
    fn speakers_names_are_put_in_front_of_their_text() {
        let read = read(json!([
            {"role": "user", "name": "eve", "content": "hi"}, {"role": "assistant", "name": "helper", "content": "hello"},
        ]));
        assert_eq!(
            read.unwrap(),
            [Message::text(Role::User, "eve: hi"), Message::text(Role::Assistant, "hello")]
        );
    }

    #[test]
    fn faults_name_their_path() {
        for (message, expected) in [
            (json!("hi"), "messages.0: expected an object"),
            (json!({"content": "hi"}), "messages.0.role: Field required"),
            (json!({"role": "function", "content": ""}), "messages.0.role: `function` cannot be"),
            (json!({"role": "user"}), "messages.0.content: Field required"),
            (
                json!({"role": "user", "content": 1}),
                "messages.0.content: expected a string or a list",
            ),
            (
                json!({"role": "user", "content": "x", "name": 7}),
                "messages.0.name: expected a string",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_audio"}]}),
                "messages.0.content.0.type: `input_audio` cannot",
            ),
            (
                json!({"role": "system", "content": [{"type": "image_url", "image_url": {}}]}),
                "messages.0.content.0.type: `image_url` cannot",
            ),
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}),
                "messages.0.content.0.image_url.url: expected",
            ),
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,!!"}}]}),
                "messages.0.content.0.image_url.url: expected",
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "eternal"}}]}),
                "messages.0.content.0.cache_control.type: `type` cannot",
            ),
            (json!({"role": "tool", "content": "x"}), "messages.0.tool_call_id: Field required"),
            (
                json!({"role": "assistant", "function_call": {}}),
                "messages.0.function_call: `function_call` cannot",
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}),
                "messages.0.tool_calls.0.type: `custom` cannot",
            ),
        ] {
            let text = read(json!([message])).unwrap_err();
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
