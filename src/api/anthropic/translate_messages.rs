//! The `system` and `messages` of a request of Anthropic's → [`Message`]s.

use serde_json::Value;

use crate::api::fields::{Fields, JsonPath, fault, is_base64, unsupported, with_paths};
use crate::error::BodyFault;
use crate::generation::{CacheTtl, Image, Message, Part, Role, ToolCall};

/// What replaces an image in a call's result: the image follows in a message of the user, which
/// every provider supports.
const IMAGE_PLACEHOLDER: &str = "(see the picture that follows)";

/// Translates `system`, or returns `None` if it is absent or an empty list.
pub(super) fn system(body: &mut Fields) -> Result<Option<Message>, BodyFault> {
    let path = body.path_of("system");
    let Some(value) = body.take("system") else { return Ok(None) };
    let mut parts = Vec::new();
    for block in blocks(value, &path)? {
        text_only(block, &mut parts)?;
    }
    Ok((!parts.is_empty()).then_some(Message { role: Role::System, parts }))
}

/// Translates all messages, in order. One of Anthropic's may be several here: each result of a call
/// is a message of its own.
pub(super) fn messages(list: Vec<(Value, JsonPath)>) -> Result<Vec<Message>, BodyFault> {
    let mut messages = Vec::with_capacity(list.len());
    for (value, path) in list {
        let mut message = Fields::from_value(value, path)?;
        let role = message.required("role")?;
        let path = message.path_of("content");
        let value =
            message.take("content").ok_or_else(|| fault(&path, "missing", "Field required"))?;
        let content = blocks(value, &path)?;
        match role.as_str() {
            "user" => user_messages(content, &mut messages)?,
            "assistant" => {
                let mut parts = Vec::with_capacity(content.len());
                content.into_iter().try_for_each(|block| assistant_block(block, &mut parts))?;
                messages.push(Message { role: Role::Assistant, parts });
            }
            "system" => {
                let mut parts = Vec::with_capacity(content.len());
                content.into_iter().try_for_each(|block| text_only(block, &mut parts))?;
                messages.push(Message { role: Role::System, parts });
            }
            _ => return Err(unsupported(&message.path_of("role"), &role)),
        }
        message.finish()?;
    }
    Ok(messages)
}

/// Returns the blocks of a list; a string is short for one text block.
fn blocks(value: Value, path: &JsonPath) -> Result<Vec<Fields>, BodyFault> {
    match value {
        Value::String(text) => {
            let block = serde_json::json!({"type": "text", "text": text});
            Ok(vec![Fields::from_value(block, path.clone())?])
        }
        Value::Array(items) => with_paths(items, path)
            .into_iter()
            .map(|(item, path)| Fields::from_value(item, path))
            .collect(),
        _ => Err(fault(path, "type_error", "expected a string or a list of blocks")),
    }
}

/// Finishes any block: adds the cache point that it may have, and fails if a field is left.
fn finish(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    parts.extend(block.cache_control()?.map(|CacheTtl(ttl)| Part::CachePoint { ttl }));
    block.finish()
}

/// Translates a block that can only be text.
fn text_only(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    let kind = block.required("type")?;
    if kind != "text" {
        return Err(unsupported(&block.path_of("type"), &kind));
    }
    text(block, parts)
}

fn text(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    parts.push(Part::Text(block.required("text")?));
    // the sources of an earlier response
    block.ignore(&["citations"]);
    finish(block, parts)
}

/// Adds a message for each result of a call, then one with the rest of what the user sent.
fn user_messages(content: Vec<Fields>, messages: &mut Vec<Message>) -> Result<(), BodyFault> {
    let mut parts = Vec::new();
    for mut block in content {
        let kind = block.required("type")?;
        match kind.as_str() {
            "text" => text(block, &mut parts)?,
            "image" => image(block, &mut parts)?,
            "tool_result" => {
                let result = tool_result(block, &mut parts)?;
                messages.push(Message { role: Role::Tool, parts: result });
            }
            _ => return Err(unsupported(&block.path_of("type"), &kind)),
        }
    }
    if !parts.is_empty() {
        messages.push(Message { role: Role::User, parts });
    }
    Ok(())
}

/// Translates the result of a call; its images are added to `images`.
fn tool_result(mut block: Fields, images: &mut Vec<Part>) -> Result<Vec<Part>, BodyFault> {
    let id = block.required("tool_use_id")?;
    let is_error = block.get("is_error", "true or false")?.unwrap_or(false);
    let path = block.path_of("content");
    let content =
        block.take("content").map_or_else(|| Ok(Vec::new()), |value| blocks(value, &path))?;
    let (mut texts, mut cache_point) = (Vec::new(), None);
    for mut inner in content {
        let kind = inner.required("type")?;
        let mut parts = Vec::new();
        match kind.as_str() {
            "text" => text(inner, &mut parts)?,
            "image" => image(inner, &mut parts)?,
            _ => return Err(unsupported(&inner.path_of("type"), &kind)),
        }
        for part in parts {
            match part {
                Part::Text(text) => texts.push(text),
                Part::CachePoint { .. } => cache_point = Some(part),
                image => {
                    texts.push(IMAGE_PLACEHOLDER.into());
                    images.push(image);
                }
            }
        }
    }
    let mut parts = vec![Part::ToolResult { id, content: texts.join("\n"), is_error }];
    parts.extend(cache_point);
    finish(block, &mut parts)?;
    Ok(parts)
}

/// Translates a block of the model's.
fn assistant_block(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    let kind = block.required("type")?;
    match kind.as_str() {
        "text" => return text(block, parts),
        "thinking" => {
            let signature = block.text("signature")?.filter(|signature| !signature.is_empty());
            parts.push(Part::Reasoning {
                text: block.text("thinking")?.unwrap_or_default(),
                signature,
            });
        }
        // encrypted for the server that produced it, which is a different one
        "redacted_thinking" => block.ignore(&["data"]),
        "tool_use" => {
            let (id, name) = (block.required("id")?, block.required("name")?);
            let path = block.path_of("input");
            let arguments = match block.take("input") {
                None => "{}".to_owned(),
                Some(Value::Object(map)) => Value::Object(map).to_string(),
                Some(_) => return Err(fault(&path, "type_error", "expected an object")),
            };
            block.accept_only("caller", |caller| caller["type"] == "direct")?;
            parts.push(Part::ToolCall(ToolCall { id, name, arguments }));
        }
        _ => return Err(unsupported(&block.path_of("type"), &kind)),
    }
    finish(block, parts)
}

fn image(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    let missing = fault(&block.path_of("source"), "missing", "Field required");
    let mut source = block.object("source")?.ok_or(missing)?;
    let kind = source.required("type")?;
    let image = match kind.as_str() {
        "base64" => {
            let (media_type, base64) = (source.required("media_type")?, source.required("data")?);
            if !is_base64(&base64) {
                return Err(fault(&source.path_of("data"), "value_error", "expected base64"));
            }
            Image::Inline { media_type: media_type.to_ascii_lowercase(), base64 }
        }
        "url" => {
            let url = source.required("url")?;
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(fault(&source.path_of("url"), "value_error", "expected https://…"));
            }
            Image::Url(url)
        }
        _ => return Err(unsupported(&source.path_of("type"), &kind)),
    };
    source.finish()?;
    parts.push(Part::Image(image));
    finish(block, parts)
}
