//! Framed bodies as GitLab's parsers take them, with neighbouring pieces of one text put together:
//! where a model's words are cut is nobody's business.

use serde_json::{Value, json};

/// The chat agent's events (contract::gitlab_client §7.2): every `{…}` that a newline follows
/// directly, on one line. What is not followed by one is never seen.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.split('\n').filter_map(|line| line.find('{').map(|start| &line[start..]));
    lines
        .filter(|line| line.ends_with('}'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A body of JSON lines, all of them good; blank ones are heartbeats.
pub(crate) fn lines(text: &str) -> Option<Value> {
    let count = text.lines().filter(|line| !line.is_empty()).count();
    let objects = objects(text);
    if objects.len() != count {
        return None;
    }
    let mut merged: Vec<Value> = Vec::new();
    for object in objects {
        match merged.last_mut() {
            Some(last) if is_piece(last) && is_piece(&object) => append(last, &object),
            _ => merged.push(object),
        }
    }
    Some(Value::Array(merged))
}

/// Whether it is a piece of a text: the chat agent's, or that of `/v2/prompts`.
fn is_piece(object: &Value) -> bool {
    object["type"] == "final_answer_delta" || object["content"].is_string()
}

fn append(last: &mut Value, more: &Value) {
    if last["content"].is_string() {
        last["content"] = joined(&last["content"], &more["content"]);
        if let Some(usage) = more.get("usage") {
            last["usage"] = usage.clone();
        }
        return;
    }
    last["data"]["text"] = joined(&last["data"]["text"], &more["data"]["text"]);
    last["data"]["finish_reason"] = more["data"]["finish_reason"].clone();
}

fn joined(first: &Value, second: &Value) -> Value {
    json!(format!("{}{}", first.as_str().unwrap_or_default(), second.as_str().unwrap_or_default()))
}

/// The events of `/v4/code/suggestions` (contract::gitlab_client §6.2) as `{event, data}`: `event:`
/// before `data:`, the data one line of JSON. Comments are heartbeats.
pub(crate) fn events(text: &str) -> Option<Value> {
    let mut merged: Vec<Value> = Vec::new();
    let text = text.replace("\r\n", "\n");
    for block in text.split_terminator("\n\n") {
        let mut fields = block.lines().filter(|line| !line.starts_with(':'));
        let Some(name) = fields.next() else { continue };
        let name = name.strip_prefix("event: ")?;
        let data: Value = serde_json::from_str(fields.next()?.strip_prefix("data: ")?).ok()?;
        if fields.next().is_some() {
            return None;
        }
        match merged.last_mut() {
            Some(last) if name == "content_chunk" && last["event"] == name => {
                let content = &mut last["data"]["choices"][0]["delta"]["content"];
                *content = joined(content, &data["choices"][0]["delta"]["content"]);
            }
            _ => merged.push(json!({"event": name, "data": data})),
        }
    }
    text.ends_with("\n\n").then_some(Value::Array(merged))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{events, lines, objects};

    #[test]
    fn a_line_without_its_newline_is_never_seen() {
        assert_eq!(objects("{\"a\":1}\n\n{\"b\":2}"), [json!({"a": 1})]);
        assert_eq!(objects("{\"a\":1}\r\n"), Vec::<serde_json::Value>::new());
        assert_eq!(objects("data: {\"a\":1}\n"), [json!({"a": 1})]);
        assert_eq!(lines("{\"a\":1}\nnot json\n"), None);
    }

    #[test]
    fn pieces_of_a_text_are_one() {
        let delta = |text: &str| json!({"type": "final_answer_delta", "data": {"text": text, "finish_reason": null}});
        let text =
            format!("{}\n\n{}\n{}\n", delta("a"), delta("b"), json!({"type": "usage", "data": {}}));
        assert_eq!(lines(&text), Some(json!([delta("ab"), {"type": "usage", "data": {}}])));
        let text = "{\"content\":\"a\"}\n{\"content\":\"b\",\"usage\":{}}\n";
        assert_eq!(lines(text), Some(json!([{"content": "ab", "usage": {}}])));
    }

    #[test]
    fn events_are_whole_or_not_there() {
        let chunk = |text: &str| {
            format!(
                "event: content_chunk\r\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\r\n\r\n"
            )
        };
        let both = events(&format!(
            "{}: ping\n\n{}event: stream_end\ndata: null\n\n",
            chunk("a"),
            chunk("b")
        ))
        .unwrap();
        assert_eq!(both[0]["data"]["choices"][0]["delta"]["content"], "ab");
        assert_eq!(both[1], json!({"event": "stream_end", "data": null}));
        assert_eq!(events("event: stream_end\ndata: null\n"), None);
    }
}
