//! How suggestions are written: a JSON body for each version, and v4's events (gitlab-client.md
//! §6.1, §6.2).

use bytes::BytesMut;
use serde_json::{Value, json};

use crate::generation::{Delta, Encode};

/// What names an answer.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// `litellm`, `openai` or `agent`: what GitLab's clients have always read here.
    pub(super) engine: &'static str,
    /// The model's family, or what generates.
    pub(super) name: String,
    /// The file's language; empty when it is none that is known.
    pub(super) lang: &'static str,
    /// Unix time in seconds.
    pub(super) now: u64,
    /// `x-gitlab-enabled-feature-flags`, one by one.
    pub(super) flags: Vec<String>,
}

/// An answer's text as `choices`; none when there is no text, and the editor shows nothing.
fn choices(text: &str) -> Value {
    if text.is_empty() {
        return json!([]);
    }
    json!([{"text": text, "index": 0, "finish_reason": "length"}])
}

/// The body of `/v2`. `tokens` is null when no model was asked.
pub(super) fn v2(naming: &Naming, text: &str, tokens: &Value) -> String {
    json!({
        "id": "id",
        "model": {
            "engine": naming.engine, "name": naming.name, "lang": naming.lang,
            "tokens_consumption_metadata": tokens, "region": null,
        },
        "experiments": [],
        "object": "text_completion",
        "created": naming.now,
        "choices": choices(text),
        "metadata": {"enabled_feature_flags": naming.flags},
    })
    .to_string()
}

/// The body of `/v3` and `/v4`.
pub(super) fn v3(naming: &Naming, text: &str) -> String {
    let model = json!({"engine": naming.engine, "name": naming.name, "lang": naming.lang});
    json!({
        "choices": choices(text),
        "metadata": {
            "model": model, "timestamp": naming.now, "enabled_feature_flags": naming.flags, "region": null,
        },
        "model": model,
    })
    .to_string()
}

/// v4's events: `stream_start`, a `content_chunk` for each piece, `stream_end`. Lines end as the
/// official gateway's do.
pub(super) struct Events {
    start: Option<String>,
}

impl Events {
    pub(super) fn new(naming: &Naming) -> Self {
        let metadata = json!({
            "model": {"engine": naming.engine, "name": naming.name},
            "timestamp": naming.now, "enabled_feature_flags": naming.flags, "region": null,
        });
        Self { start: Some(event("stream_start", &json!({ "metadata": metadata }))) }
    }

    /// The beginning goes with the first words: until then a failure can still be a status.
    fn begin(&mut self, out: &mut BytesMut) {
        if let Some(start) = self.start.take() {
            out.extend_from_slice(start.as_bytes());
        }
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\r\ndata: {data}\r\n\r\n")
}

impl Encode for Events {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Delta::Text(text) = delta {
            self.begin(out);
            let data = json!({"choices": [{"delta": {"content": text}, "index": 0}]});
            out.extend_from_slice(event("content_chunk", &data).as_bytes());
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.begin(out);
        out.extend_from_slice(event("stream_end", &Value::Null).as_bytes());
    }
}
