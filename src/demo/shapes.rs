//! The JSON of OpenAI's API as vLLM writes it. Source: the real server as the rigs' README
//! describes it: the last content chunk has a `finish_reason` too, the usage chunk has no choices,
//! a 404's `code` is a number.

use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::speech;

/// A request to one of the three endpoints; each ignores the others' fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DemoRequest {
    pub(super) model: Option<String>,
    messages: Vec<Message>,
    prompt: Option<OneOrMany>,
    input: Option<OneOrMany>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    #[serde(rename = "inferenceConfig")]
    inference: Option<Inference>,
}

/// Converse's object with the longest length.
#[derive(Debug, Deserialize)]
struct Inference {
    #[serde(rename = "maxTokens")]
    max_tokens: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl DemoRequest {
    /// Sets model and stream from the path, which takes precedence over the body.
    pub(super) fn with_path(self, model: Option<String>, stream: Option<bool>) -> Self {
        Self { model: model.or(self.model), stream: stream.or(self.stream), ..self }
    }
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// The kind of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

impl Kind {
    const fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Completion => "cmpl",
        }
    }

    const fn object(self, stream: bool) -> &'static str {
        match (self, stream) {
            (Self::Chat, true) => "chat.completion.chunk",
            (Self::Chat, false) => "chat.completion",
            (Self::Completion, _) => "text_completion",
        }
    }

    fn choice(self, text: &str, finish: Option<&str>) -> Value {
        match self {
            Self::Chat => {
                let message = json!({
                    "role": "assistant", "content": text, "refusal": null, "tool_calls": []
                });
                json!({
                    "index": 0, "message": message, "logprobs": null, "finish_reason": finish,
                    "stop_reason": null
                })
            }
            Self::Completion => json!({
                "index": 0, "text": text, "logprobs": null, "finish_reason": finish,
                "stop_reason": null
            }),
        }
    }

    fn chunk_choice(self, text: &str, finish: Option<&str>) -> Value {
        match self {
            Self::Chat => json!({
                "index": 0, "delta": { "content": text }, "logprobs": null,
                "finish_reason": finish
            }),
            Self::Completion => self.choice(text, finish),
        }
    }
}

/// One response, before it is encoded.
#[derive(Debug)]
pub(super) struct Reply {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    text: String,
    finish: &'static str,
    /// The length of the prompt in words.
    pub(super) prompt_tokens: usize,
    /// Whether the client requested a stream.
    pub(super) stream: bool,
    include_usage: bool,
}

impl Reply {
    /// Generates the response to a request. Fails with the message of a 400.
    pub(super) fn to(request: &DemoRequest, kind: Kind, model: &str) -> Result<Self, &'static str> {
        let (prompt, text) = match kind {
            Kind::Chat => {
                let by_user = request.messages.iter().rev().find(|message| message.role == "user");
                let last = by_user
                    .or(request.messages.last())
                    .ok_or("messages: at least one message is required")?;
                let prompt: String =
                    request.messages.iter().map(|message| message.text() + "\n").collect();
                (prompt, speech::reply(&last.text()))
            }
            Kind::Completion => {
                let texts = request
                    .prompt
                    .as_ref()
                    .map(OneOrMany::as_slice)
                    .ok_or("prompt: field required")?;
                let [prompt] = texts else { return Err("prompt: this server takes exactly one") };
                (prompt.clone(), speech::continuation(prompt).to_owned())
            }
        };
        let in_converse = request.inference.as_ref().and_then(|inference| inference.max_tokens);
        let limit = request
            .max_completion_tokens
            .or(request.max_tokens)
            .or(in_converse)
            .unwrap_or(usize::MAX);
        if limit == 0 {
            return Err("max_tokens must be at least 1, got 0.");
        }
        let tokens = speech::tokens(&text);
        let finish = if tokens.len() > limit { "length" } else { "stop" };
        Ok(Self {
            kind,
            id: format!("{}-{:032x}", kind.id_prefix(), fastrand::u128(..)),
            created: now(),
            model: model.to_owned(),
            text: tokens.iter().take(limit).copied().collect(),
            finish,
            prompt_tokens: prompt.split_whitespace().count(),
            stream: request.stream.unwrap_or_default(),
            include_usage: request
                .stream_options
                .as_ref()
                .is_some_and(|options| options.include_usage),
        })
    }

    /// Returns the generated text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the generated text as tokens.
    pub(super) fn tokens(&self) -> Vec<&str> {
        speech::tokens(&self.text)
    }

    /// Returns whether the text was truncated at the client's limit.
    pub(super) fn is_truncated(&self) -> bool {
        self.finish == "length"
    }

    /// Returns the response as one JSON value.
    pub(super) fn full(&self) -> Value {
        let mut full = self.envelope(&json!([self.kind.choice(&self.text, Some(self.finish))]));
        full["usage"] = self.usage();
        full
    }

    /// Returns the response as the events of a stream.
    pub(super) fn events(&self) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        if self.kind == Kind::Chat {
            let role = json!({ "role": "assistant", "content": "" });
            let choice =
                json!({ "index": 0, "delta": role, "logprobs": null, "finish_reason": null });
            events.push(StreamEvent::paced(event(&self.envelope(&json!([choice])))));
        }
        let tokens = self.tokens();
        for (i, token) in tokens.iter().enumerate() {
            let finish = (i + 1 == tokens.len()).then_some(self.finish);
            let choice = self.kind.chunk_choice(token, finish);
            events.push(StreamEvent::paced(event(&self.envelope(&json!([choice])))));
        }
        if self.include_usage {
            let mut last = self.envelope(&json!([]));
            last["usage"] = self.usage();
            events.push(StreamEvent::immediate(event(&last)));
        }
        events.push(StreamEvent::immediate(Bytes::from_static(b"data: [DONE]\n\n")));
        events
    }

    /// Returns the chunk without choices with which a stream of Azure's begins.
    pub(super) fn prompt_filter(&self) -> Bytes {
        let mut first = self.envelope(&json!([]));
        first["prompt_filter_results"] =
            json!([{ "prompt_index": 0, "content_filter_results": {} }]);
        event(&first)
    }

    fn envelope(&self, choices: &Value) -> Value {
        let object = self.kind.object(self.stream);
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": choices
        })
    }

    fn usage(&self) -> Value {
        let completion = self.tokens().len();
        let total = self.prompt_tokens + completion;
        json!({
            "prompt_tokens": self.prompt_tokens, "total_tokens": total,
            "completion_tokens": completion
        })
    }
}

/// One event of a stream.
pub(super) struct StreamEvent {
    /// Whether the server waits before it, as a model does that generates.
    pub(super) is_paced: bool,
    pub(super) data: Bytes,
}

impl StreamEvent {
    /// Creates an event that is sent after the pace of the server.
    pub(super) const fn paced(data: Bytes) -> Self {
        Self { is_paced: true, data }
    }

    /// Creates an event that is sent at once.
    pub(super) const fn immediate(data: Bytes) -> Self {
        Self { is_paced: false, data }
    }
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// Returns the body of `POST /v1/embeddings`, as numbers whatever the `encoding_format`. Fails with
/// the message of a 400.
pub(super) fn embeddings(request: &DemoRequest, model: &str) -> Result<Value, &'static str> {
    let texts = request.input.as_ref().map(OneOrMany::as_slice).ok_or("input: field required")?;
    let data = texts.iter().enumerate().map(|(index, text)| {
        json!({ "index": index, "object": "embedding", "embedding": speech::embedding(text) })
    });
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0 });
    let id = format!("embd-{:032x}", fastrand::u128(..));
    let data: Vec<_> = data.collect();
    Ok(json!({
        "id": id, "object": "list", "created": now(), "model": model, "data": data, "usage": usage
    }))
}

/// Returns the body of `GET /v1/models`.
pub(super) fn models(names: &[&str]) -> Value {
    let card = |name: &&str| {
        json!({
            "id": name, "object": "model", "created": now(), "owned_by": "weir-demo", "root": name,
            "parent": null, "max_model_len": 32_768
        })
    };
    json!({ "object": "list", "data": names.iter().map(card).collect::<Vec<_>>() })
}

/// Returns vLLM's error body.
pub(super) fn error(status: StatusCode, message: &str) -> Value {
    let (kind, param) = match status {
        StatusCode::NOT_FOUND => ("NotFoundError", Some("model")),
        StatusCode::INTERNAL_SERVER_ERROR => ("InternalServerError", None),
        _ => ("BadRequestError", None),
    };
    let code = status.as_u16();
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
