//! The `system` and `messages` of a request in Anthropic's words → [`Message`]s.

use serde_json::Value;

use crate::api::fields::{Fields, Place, fault, is_base64, placed, refused};
use crate::error::BodyFault;
use crate::generation::{CacheFor, Image, Message, Part, Role, ToolCall};

/// What a picture among a call's results leaves in its place: it follows as the person's own, which
/// every provider has words for.
const PICTURE: &str = "(see the picture that follows)";

/// The instructions, if there are any.
pub(super) fn system(body: &mut Fields) -> Result<Option<Message>, BodyFault> {
    let place = body.at("system");
    let Some(value) = body.take("system") else { return Ok(None) };
    let mut parts = Vec::new();
    for block in blocks(value, &place)? {
        words(block, &mut parts)?;
    }
    Ok((!parts.is_empty()).then_some(Message { role: Role::System, parts }))
}

/// All messages, in order. One of Anthropic's may be several here: each result of a call is a
/// message of its own.
pub(super) fn messages(list: Vec<(Value, Place)>) -> Result<Vec<Message>, BodyFault> {
    let mut messages = Vec::with_capacity(list.len());
    for (value, place) in list {
        let mut message = Fields::of(value, place)?;
        let role = message.required("role")?;
        let place = message.at("content");
        let value =
            message.take("content").ok_or_else(|| fault(&place, "missing", "Field required"))?;
        let content = blocks(value, &place)?;
        match role.as_str() {
            "user" => user(content, &mut messages)?,
            "assistant" => {
                let mut parts = Vec::with_capacity(content.len());
                content.into_iter().try_for_each(|block| said(block, &mut parts))?;
                messages.push(Message { role: Role::Assistant, parts });
            }
            "system" => {
                let mut parts = Vec::with_capacity(content.len());
                content.into_iter().try_for_each(|block| words(block, &mut parts))?;
                messages.push(Message { role: Role::System, parts });
            }
            _ => return Err(refused(&message.at("role"), &role)),
        }
        message.end()?;
    }
    Ok(messages)
}

/// A text as the one block that it stands for, or the blocks of a list.
fn blocks(value: Value, place: &Place) -> Result<Vec<Fields>, BodyFault> {
    match value {
        Value::String(text) => {
            let block = serde_json::json!({"type": "text", "text": text});
            Ok(vec![Fields::of(block, place.clone())?])
        }
        Value::Array(items) => {
            placed(items, place).into_iter().map(|(item, place)| Fields::of(item, place)).collect()
        }
        _ => Err(fault(place, "type_error", "expected a string or a list of blocks")),
    }
}

/// The end of any block: what is worth keeping may end with it.
fn end(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    parts.extend(block.cache_control()?.map(|CacheFor(ttl)| Part::CachePoint { ttl }));
    block.end()
}

/// A block that can only be text.
fn words(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    let kind = block.required("type")?;
    if kind != "text" {
        return Err(refused(&block.at("type"), &kind));
    }
    text(block, parts)
}

fn text(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    parts.push(Part::Text(block.required("text")?));
    // where an earlier answer found its words
    block.ignore(&["citations"]);
    end(block, parts)
}

/// What the person says, and before it the results of calls.
fn user(content: Vec<Fields>, messages: &mut Vec<Message>) -> Result<(), BodyFault> {
    let mut parts = Vec::new();
    for mut block in content {
        let kind = block.required("type")?;
        match kind.as_str() {
            "text" => text(block, &mut parts)?,
            "image" => image(block, &mut parts)?,
            "tool_result" => {
                let result = result(block, &mut parts)?;
                messages.push(Message { role: Role::Tool, parts: result });
            }
            _ => return Err(refused(&block.at("type"), &kind)),
        }
    }
    if !parts.is_empty() {
        messages.push(Message { role: Role::User, parts });
    }
    Ok(())
}

/// The result of a call; its pictures go to `pictures`.
fn result(mut block: Fields, pictures: &mut Vec<Part>) -> Result<Vec<Part>, BodyFault> {
    let id = block.required("tool_use_id")?;
    let is_error = block.get("is_error", "true or false")?.unwrap_or(false);
    let place = block.at("content");
    let content =
        block.take("content").map_or_else(|| Ok(Vec::new()), |value| blocks(value, &place))?;
    let (mut said, mut kept) = (Vec::new(), None);
    for mut inner in content {
        let kind = inner.required("type")?;
        let mut parts = Vec::new();
        match kind.as_str() {
            "text" => text(inner, &mut parts)?,
            "image" => image(inner, &mut parts)?,
            _ => return Err(refused(&inner.at("type"), &kind)),
        }
        for part in parts {
            match part {
                Part::Text(text) => said.push(text),
                Part::CachePoint { .. } => kept = Some(part),
                picture => {
                    said.push(PICTURE.into());
                    pictures.push(picture);
                }
            }
        }
    }
    let mut parts = vec![Part::ToolResult { id, content: said.join("\n"), is_error }];
    parts.extend(kept);
    end(block, &mut parts)?;
    Ok(parts)
}

/// What the model said.
fn said(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
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
        // encrypted for the server that made it, which is another one
        "redacted_thinking" => block.ignore(&["data"]),
        "tool_use" => {
            let (id, name) = (block.required("id")?, block.required("name")?);
            let place = block.at("input");
            let arguments = match block.take("input") {
                None => "{}".to_owned(),
                Some(Value::Object(map)) => Value::Object(map).to_string(),
                Some(_) => return Err(fault(&place, "type_error", "expected an object")),
            };
            block.only("caller", |caller| caller["type"] == "direct")?;
            parts.push(Part::ToolCall(ToolCall { id, name, arguments }));
        }
        _ => return Err(refused(&block.at("type"), &kind)),
    }
    end(block, parts)
}

fn image(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), BodyFault> {
    let missing = fault(&block.at("source"), "missing", "Field required");
    let mut source = block.object("source")?.ok_or(missing)?;
    let kind = source.required("type")?;
    let image = match kind.as_str() {
        "base64" => {
            let (media_type, base64) = (source.required("media_type")?, source.required("data")?);
            if !is_base64(&base64) {
                return Err(fault(&source.at("data"), "value_error", "expected base64"));
            }
            Image::Inline { media_type: media_type.to_ascii_lowercase(), base64 }
        }
        "url" => {
            let url = source.required("url")?;
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(fault(&source.at("url"), "value_error", "expected https://…"));
            }
            Image::Url(url)
        }
        _ => return Err(refused(&source.at("type"), &kind)),
    };
    source.end()?;
    parts.push(Part::Image(image));
    end(block, parts)
}
