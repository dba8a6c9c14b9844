//! What was said: the text of one request and its answer, for the operator's log. Only where the
//! operator's file (`telemetry.log_prompts`) and the request's GitLab (its setting for detailed
//! logs, a header) both allow it.

use serde_json::Value;

use super::redact::redacted;

/// What is kept of each side. Bytes.
const KEPT: usize = 16 << 10;
/// The fields of answers that hold text, on whatever surface.
const TEXTS: [&str; 7] =
    ["content", "text", "response", "arguments", "partial_json", "reasoning_content", "thought"];

/// The beginning of a request's body and of its answer's.
#[derive(Debug)]
pub struct Words {
    asked: Vec<u8>,
    asked_in_all: usize,
    answered: Vec<u8>,
    answered_in_all: usize,
}

impl Words {
    /// Of this request.
    pub fn of(body: &[u8]) -> Self {
        let asked = body[..body.len().min(KEPT)].to_vec();
        Self { asked, asked_in_all: body.len(), answered: Vec::new(), answered_in_all: 0 }
    }

    /// The next bytes of its answer.
    pub fn answer(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.answered.len());
        self.answered.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.answered_in_all += bytes.len();
    }

    /// Writes both, without what looks like a key, as one line.
    pub(super) fn tell(&self, request_id: &str, model: &str) {
        let asked = redacted(&String::from_utf8_lossy(&self.asked));
        // pieces are joined before keys are looked for: a stream may part one
        let answered = redacted(&spoken(&String::from_utf8_lossy(&self.answered)));
        let (asked_bytes, answered_bytes) = (self.asked_in_all, self.answered_in_all);
        tracing::info!(request_id, model, asked, answered, asked_bytes, answered_bytes, "prompt");
    }
}

/// The text in an answer: of its JSON, in lines or events, what stands in the fields of text; what
/// is no JSON as it is.
fn spoken(answer: &str) -> String {
    let mut out = String::new();
    if let Ok(whole) = serde_json::from_str::<Value>(answer) {
        texts(&whole, &mut out);
        return out;
    }
    for line in answer.split_inclusive('\n') {
        let data = line.strip_prefix("data:").map_or(line, str::trim);
        match serde_json::from_str::<Value>(data) {
            Ok(value) if value.is_object() => texts(&value, &mut out),
            _ if line.starts_with("event:") || data == "[DONE]" || line.trim().is_empty() => {}
            _ => out.push_str(data),
        }
    }
    out
}

fn texts(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if TEXTS.contains(&&**name) => out.push_str(text),
                    Value::Object(_) | Value::Array(_) => texts(value, out),
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Words, spoken};

    #[test]
    fn text_is_found_on_every_surface() {
        for (answer, text) in [
            (
                "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\ndata: [DONE]\n\n",
                "Hello",
            ),
            (
                "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
                "Hi",
            ),
            (
                "{\"type\":\"final_answer_delta\",\"data\":{\"text\":\"A\"}}\n{\"type\":\"final_answer_delta\",\"data\":{\"text\":\"B\"}}\n",
                "AB",
            ),
            ("{\"choices\":[{\"message\":{\"content\":\"whole\"}}]}", "whole"),
            ("plain words\nin two lines", "plain words\nin two lines"),
            ("{\"cut", "{\"cut"),
        ] {
            assert_eq!(spoken(answer), text, "{answer}");
        }
    }

    #[test]
    fn only_the_beginning_is_kept() {
        let mut words = Words::of(&vec![b'x'; KEPT + 1]);
        (0..3).for_each(|_| words.answer(&vec![b'y'; KEPT]));
        assert_eq!((words.asked.len(), words.asked_in_all), (KEPT, KEPT + 1));
        assert_eq!((words.answered.len(), words.answered_in_all), (KEPT, 3 * KEPT));
    }
}
