//! The JSON of OpenAI's API as vLLM writes it. Source: the real server as the rigs' README
//! describes it: the last content chunk carries `finish_reason` too, the usage chunk has no
//! choices, a 404's `code` is a number.

use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::speech;

/// What the three endpoints read; each ignores the others' fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ask {
    pub(super) model: Option<String>,
    messages: Vec<Message>,
    prompt: Option<OneOrMore>,
    input: Option<OneOrMore>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    #[serde(rename = "inferenceConfig")]
    inference: Option<Inference>,
}

/// Converse's place for the length.
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
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Ask {
    /// With what the path says of model and stream; a path wins over the body.
    pub(super) fn at(self, model: Option<String>, stream: Option<bool>) -> Self {
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

impl OneOrMore {
    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

/// Which endpoint generates.
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
                let message = json!({ "role": "assistant", "content": text, "refusal": null, "tool_calls": [] });
                json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish, "stop_reason": null })
            }
            Self::Completion => {
                json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish, "stop_reason": null })
            }
        }
    }

    fn piece(self, text: &str, finish: Option<&str>) -> Value {
        match self {
            Self::Chat => {
                json!({ "index": 0, "delta": { "content": text }, "logprobs": null, "finish_reason": finish })
            }
            Self::Completion => self.choice(text, finish),
        }
    }
}

/// One answer, before it is put on the wire.
#[derive(Debug)]
pub(super) struct Reply {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    text: String,
    finish: &'static str,
    /// Words read.
    pub(super) prompt_tokens: usize,
    /// Whether the client asked for a stream.
    pub(super) stream: bool,
    include_usage: bool,
}

impl Reply {
    /// What the model says to this. Fails with the text of a 400.
    pub(super) fn to(ask: &Ask, kind: Kind, model: &str) -> Result<Self, &'static str> {
        let (prompt, said) = match kind {
            Kind::Chat => {
                let by_user = ask.messages.iter().rev().find(|message| message.role == "user");
                let last = by_user
                    .or(ask.messages.last())
                    .ok_or("messages: at least one message is required")?;
                let prompt: String =
                    ask.messages.iter().map(|message| message.text() + "\n").collect();
                (prompt, speech::answer(&last.text()))
            }
            Kind::Completion => {
                let texts =
                    ask.prompt.as_ref().map(OneOrMore::texts).ok_or("prompt: field required")?;
                let [prompt] = texts else { return Err("prompt: this server takes exactly one") };
                (prompt.clone(), speech::continuation(prompt).to_owned())
            }
        };
        let in_converse = ask.inference.as_ref().and_then(|inference| inference.max_tokens);
        let limit =
            ask.max_completion_tokens.or(ask.max_tokens).or(in_converse).unwrap_or(usize::MAX);
        if limit == 0 {
            return Err("max_tokens must be at least 1, got 0.");
        }
        let words = speech::tokens(&said);
        let finish = if words.len() > limit { "length" } else { "stop" };
        Ok(Self {
            kind,
            id: format!("{}-{:032x}", kind.id_prefix(), fastrand::u128(..)),
            created: now(),
            model: model.to_owned(),
            text: words.iter().take(limit).copied().collect(),
            finish,
            prompt_tokens: prompt.split_whitespace().count(),
            stream: ask.stream.unwrap_or_default(),
            include_usage: ask.stream_options.as_ref().is_some_and(|options| options.include_usage),
        })
    }

    /// What is said.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The same, word by word.
    pub(super) fn words(&self) -> Vec<&str> {
        speech::tokens(&self.text)
    }

    /// Whether there was more to say than the client allowed.
    pub(super) fn is_cut(&self) -> bool {
        self.finish == "length"
    }

    /// In one piece.
    pub(super) fn whole(&self) -> Value {
        let mut whole = self.envelope(&json!([self.kind.choice(&self.text, Some(self.finish))]));
        whole["usage"] = self.usage();
        whole
    }

    /// As events. The flag says whether the model thinks before this one.
    pub(super) fn events(&self) -> Vec<(bool, Bytes)> {
        let mut events = Vec::new();
        if self.kind == Kind::Chat {
            let role = json!({ "role": "assistant", "content": "" });
            let choice =
                json!({ "index": 0, "delta": role, "logprobs": null, "finish_reason": null });
            events.push((true, event(&self.envelope(&json!([choice])))));
        }
        let words = self.words();
        for (i, word) in words.iter().enumerate() {
            let finish = (i + 1 == words.len()).then_some(self.finish);
            events.push((true, event(&self.envelope(&json!([self.kind.piece(word, finish)])))));
        }
        if self.include_usage {
            let mut last = self.envelope(&json!([]));
            last["usage"] = self.usage();
            events.push((false, event(&last)));
        }
        events.push((false, Bytes::from_static(b"data: [DONE]\n\n")));
        events
    }

    /// The chunk without choices that begins a stream of Azure's.
    pub(super) fn prompt_filter(&self) -> Bytes {
        let mut first = self.envelope(&json!([]));
        first["prompt_filter_results"] =
            json!([{ "prompt_index": 0, "content_filter_results": {} }]);
        event(&first)
    }

    fn envelope(&self, choices: &Value) -> Value {
        let object = self.kind.object(self.stream);
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices })
    }

    fn usage(&self) -> Value {
        let completion = self.words().len();
        let total = self.prompt_tokens + completion;
        json!({ "prompt_tokens": self.prompt_tokens, "total_tokens": total, "completion_tokens": completion })
    }
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// `POST /v1/embeddings`. Numbers, whatever `encoding_format` asks for.
pub(super) fn embeddings(ask: &Ask, model: &str) -> Result<Value, &'static str> {
    let texts = ask.input.as_ref().map(OneOrMore::texts).ok_or("input: field required")?;
    let data = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({ "index": index, "object": "embedding", "embedding": speech::embedding(text) }));
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0 });
    let id = format!("embd-{:032x}", fastrand::u128(..));
    let data: Vec<_> = data.collect();
    Ok(
        json!({ "id": id, "object": "list", "created": now(), "model": model, "data": data, "usage": usage }),
    )
}

/// `GET /v1/models`
pub(super) fn models(names: &[&str]) -> Value {
    let card = |name: &&str| {
        json!({ "id": name, "object": "model", "created": now(), "owned_by": "weir-demo", "root": name,
                "parent": null, "max_model_len": 32_768 })
    };
    json!({ "object": "list", "data": names.iter().map(card).collect::<Vec<_>>() })
}

/// vLLM's error body.
pub(super) fn fault(status: StatusCode, message: &str) -> Value {
    let (kind, param) = match status {
        StatusCode::NOT_FOUND => ("NotFoundError", Some("model")),
        StatusCode::INTERNAL_SERVER_ERROR => ("InternalServerError", None),
        _ => ("BadRequestError", None),
    };
    json!({ "error": { "message": message, "type": kind, "param": param, "code": status.as_u16() } })
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
