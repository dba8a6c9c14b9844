//! Encodes suggestions: a JSON body for each version, and v4's events
//! (contract::gitlab_client §6.1, §6.2).

use bytes::BytesMut;
use serde_json::{Value, json};

use crate::generation::{Delta, Encode};

/// The metadata of a suggestion's response.
#[derive(Clone, Debug)]
pub(super) struct SuggestionMeta {
    /// `litellm`, `openai` or `agent`, as the official gateway sends.
    pub(super) engine: &'static str,
    /// The model's family, or the name of GitLab's generation agent.
    pub(super) name: String,
    /// The file's language; empty if it is unknown.
    pub(super) lang: &'static str,
    /// Unix time in seconds.
    pub(super) timestamp: u64,
    /// The flags in `x-gitlab-enabled-feature-flags`.
    pub(super) flags: Vec<String>,
}

/// Returns the text as `choices`; an empty list without text, for which the editor shows nothing.
fn choices(text: &str) -> Value {
    if text.is_empty() {
        return json!([]);
    }
    json!([{"text": text, "index": 0, "finish_reason": "length"}])
}

/// Returns the body of `/v2`. `tokens` is null if no model was called.
pub(super) fn v2_body(meta: &SuggestionMeta, text: &str, tokens: &Value) -> String {
    json!({
        "id": "id",
        "model": {
            "engine": meta.engine, "name": meta.name, "lang": meta.lang,
            "tokens_consumption_metadata": tokens, "region": null,
        },
        "experiments": [],
        "object": "text_completion",
        "created": meta.timestamp,
        "choices": choices(text),
        "metadata": {"enabled_feature_flags": meta.flags},
    })
    .to_string()
}

/// Returns the body of `/v3` and `/v4`.
pub(super) fn v3_body(meta: &SuggestionMeta, text: &str) -> String {
    let model = json!({"engine": meta.engine, "name": meta.name, "lang": meta.lang});
    json!({
        "choices": choices(text),
        "metadata": {
            "model": model, "timestamp": meta.timestamp, "enabled_feature_flags": meta.flags, "region": null,
        },
        "model": model,
    })
    .to_string()
}

/// Encodes a stream as v4's events: `stream_start`, a `content_chunk` for each delta, `stream_end`.
/// Lines end in CR LF as the official gateway's do.
pub(super) struct SuggestionEventEncoder {
    /// The first event until it is written.
    start: Option<String>,
}

impl SuggestionEventEncoder {
    /// Creates the encoder of one response.
    pub(super) fn new(meta: &SuggestionMeta) -> Self {
        let metadata = json!({
            "model": {"engine": meta.engine, "name": meta.name},
            "timestamp": meta.timestamp, "enabled_feature_flags": meta.flags, "region": null,
        });
        Self { start: Some(event("stream_start", &json!({ "metadata": metadata }))) }
    }

    /// Writes the first event, unless it is written. It is sent together with the first text: until
    /// then a failure can still be sent as a status.
    fn write_start(&mut self, out: &mut BytesMut) {
        if let Some(start) = self.start.take() {
            out.extend_from_slice(start.as_bytes());
        }
    }
}

/// Formats one server-sent event.
fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\r\ndata: {data}\r\n\r\n")
}

impl Encode for SuggestionEventEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Delta::Text(text) = delta {
            self.write_start(out);
            let data = json!({"choices": [{"delta": {"content": text}, "index": 0}]});
            out.extend_from_slice(event("content_chunk", &data).as_bytes());
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.write_start(out);
        out.extend_from_slice(event("stream_end", &Value::Null).as_bytes());
    }
}
