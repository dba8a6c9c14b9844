//! A model server's refusal → `GatewayError`: what the client is told, what the operator is told.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{GatewayError, Kind};
use crate::provider::{excerpt, is_filter_code, retry_after};

/// Shapes seen: OpenAI's `{"error":{"message"}}`, vLLM's 401 `{"error":"Unauthorized"}`, older
/// vLLM's `{"object":"error","message"}`, FastAPI's `{"detail"}`.
#[derive(Deserialize)]
struct Body {
    error: Option<Inner>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Inner {
    Text(String),
    Object {
        message: Option<String>,
        /// A word or a number, as text or as a number.
        #[serde(default)]
        code: Value,
    },
}

/// The error of a non-2xx answer.
pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    let (said, code) = read(body);
    let is_filter = is_filter_code(&code);
    let hint = match status {
        _ if is_filter => "the model server's content filter refused the prompt",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the model server refused the key: check the model's api_key"
        }
        StatusCode::NOT_FOUND => {
            "the model server knows no such model or path: check the identifier and whether the endpoint ends in /v1"
        }
        StatusCode::TOO_MANY_REQUESTS => "the model server is at its limit",
        StatusCode::BAD_REQUEST if said.as_deref().is_some_and(is_about_the_window) => {
            "the request does not fit the model's window: set the model's context_tokens to what its server was started with"
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
            if said.as_deref().is_some_and(is_about_priority) =>
        {
            "the model server takes no `priority`: start vLLM with --scheduling-policy priority, or take \
             `priority = true` from the model"
        }
        _ => "the model server refused the request",
    };
    let public = match &said {
        // the request's own fault: the server's words are about the client's own body
        Some(said) if matches!(status.as_u16(), 400 | 413 | 422) => said.clone(),
        _ => format!("The model server answered {status}"),
    };
    let text = said.unwrap_or_else(|| excerpt(body));
    let kind = if is_filter { Kind::ContentFilter } else { Kind::UpstreamStatus(status.as_u16()) };
    GatewayError::new(kind, public)
        .internal(format!("{hint}; it said {status}: {text}"))
        .retry_after(retry_after(headers))
        .upstream_body(body.clone())
}

/// vLLM's two ways to say so, and llama.cpp's.
fn is_about_the_window(said: &str) -> bool {
    ["max_model_len", "maximum context length", "context size"]
        .iter()
        .any(|words| said.contains(words))
}

/// vLLM without a queue by priority, and servers that do not know the field.
fn is_about_priority(said: &str) -> bool {
    said.contains("priority") || said.contains("Priority")
}

/// What it said, and its code if that is a word.
fn read(body: &[u8]) -> (Option<String>, String) {
    let Ok(parsed) = serde_json::from_slice::<Body>(body) else { return (None, String::new()) };
    match parsed.error {
        Some(Inner::Text(text)) => (Some(text), String::new()),
        Some(Inner::Object { message, code }) => {
            (message, code.as_str().unwrap_or_default().to_owned())
        }
        None => (parsed.message, String::new()),
    }
}

/// What an error inside a stream counts as.
pub(super) fn kind_of_event(error: &RawValue) -> Kind {
    #[derive(Deserialize)]
    struct Coded {
        code: String,
    }
    let coded = serde_json::from_str::<Coded>(error.get());
    if coded.is_ok_and(|coded| is_filter_code(&coded.code)) {
        Kind::ContentFilter
    } else {
        Kind::UpstreamBroken
    }
}
