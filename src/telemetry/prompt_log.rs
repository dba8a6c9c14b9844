//! The text of one request and its response, for the operator's log. Only where the operator's file
//! (`telemetry.log_prompts`) and the request's GitLab (its setting for detailed logs, a header) both
//! allow it.

use serde_json::Value;

use super::redact::redacted;

/// Bytes kept of the request body and of the response body.
const KEPT: usize = 16 << 10;
/// The fields of responses that hold text, on all surfaces.
const TEXT_FIELDS: [&str; 7] =
    ["content", "text", "response", "arguments", "partial_json", "reasoning_content", "thought"];

/// The beginning of a request body and of its response body.
#[derive(Debug)]
pub struct PromptLog {
    request: Vec<u8>,
    request_bytes: usize,
    response: Vec<u8>,
    response_bytes: usize,
}

impl PromptLog {
    /// Starts the log of a request with this body.
    pub fn new(body: &[u8]) -> Self {
        let request = body[..body.len().min(KEPT)].to_vec();
        Self { request, request_bytes: body.len(), response: Vec::new(), response_bytes: 0 }
    }

    /// Appends the next bytes of the response body.
    pub fn add_response(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.response.len());
        self.response.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.response_bytes += bytes.len();
    }

    /// Writes both as one line of the operator's log, with keys masked.
    pub(super) fn emit(&self, request_id: &str, model: &str) {
        let request = redacted(&String::from_utf8_lossy(&self.request));
        // chunks are joined before keys are masked: a stream may split a key
        let response = redacted(&extract_text(&String::from_utf8_lossy(&self.response)));
        tracing::info!(
            request_id,
            model,
            request,
            response,
            request_bytes = self.request_bytes,
            response_bytes = self.response_bytes,
            "prompt"
        );
    }
}

/// Extracts the text of a response: the text fields of its JSON (whole, lines or events), and
/// anything that is not JSON as it is.
fn extract_text(response: &str) -> String {
    let mut out = String::new();
    if let Ok(whole) = serde_json::from_str::<Value>(response) {
        append_text(&whole, &mut out);
        return out;
    }
    for line in response.split_inclusive('\n') {
        let data = line.strip_prefix("data:").map_or(line, str::trim);
        match serde_json::from_str::<Value>(data) {
            Ok(value) if value.is_object() => append_text(&value, &mut out),
            _ if line.starts_with("event:") || data == "[DONE]" || line.trim().is_empty() => {}
            _ => out.push_str(data),
        }
    }
    out
}

fn append_text(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if TEXT_FIELDS.contains(&&**name) => out.push_str(text),
                    Value::Object(_) | Value::Array(_) => append_text(value, out),
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| append_text(item, out)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, PromptLog, extract_text};

    #[test]
    fn text_is_found_on_every_surface() {
        for (response, text) in [
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
            assert_eq!(extract_text(response), text, "{response}");
        }
    }

    #[test]
    fn only_the_beginning_is_kept() {
        let mut log = PromptLog::new(&vec![b'x'; KEPT + 1]);
        (0..3).for_each(|_| log.add_response(&vec![b'y'; KEPT]));
        assert_eq!((log.request.len(), log.request_bytes), (KEPT, KEPT + 1));
        assert_eq!((log.response.len(), log.response_bytes), (KEPT, 3 * KEPT));
    }
}
