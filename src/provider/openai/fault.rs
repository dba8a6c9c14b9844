//! A model server's refusal → `GatewayError`: one text for the client, another for the operator.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{GatewayError, Kind};
use crate::provider::{excerpt, is_filter_code, retry_after};

/// Body of an error in the shapes that occur: OpenAI's `{"error":{"message"}}`, vLLM's 401
/// `{"error":"Unauthorized"}`, older vLLM's `{"object":"error","message"}`, FastAPI's `{"detail"}`.
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
        /// A name or a number, as text or as a number.
        #[serde(default)]
        code: Value,
    },
}

/// Builds the error of a non-2xx response.
pub(super) fn from_response(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    let (message, code) = parse(body);
    let is_filter = is_filter_code(&code);
    let hint = match status {
        _ if is_filter => "the model server's content filter refused the prompt",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the model server refused the key: check the model's api_key"
        }
        StatusCode::NOT_FOUND => {
            "the model server has no such model or path: check the identifier and whether the endpoint ends in /v1"
        }
        StatusCode::TOO_MANY_REQUESTS => "the model server is at its limit",
        StatusCode::BAD_REQUEST if message.as_deref().is_some_and(is_about_context_window) => {
            "the request does not fit the model's window: set the model's context_tokens to what its server was started with"
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
            if message.as_deref().is_some_and(is_about_priority) =>
        {
            "the model server does not accept `priority`: start vLLM with --scheduling-policy priority, \
             or remove `priority = true` from the model"
        }
        _ => "the model server refused the request",
    };
    let public = match &message {
        // the request is at fault: the server's message is about the client's own body
        Some(message) if matches!(status.as_u16(), 400 | 413 | 422) => message.clone(),
        _ => format!("The model server answered {status}"),
    };
    let text = message.unwrap_or_else(|| excerpt(body));
    let kind = if is_filter { Kind::ContentFilter } else { Kind::UpstreamStatus(status.as_u16()) };
    GatewayError::new(kind, public)
        .internal(format!("{hint}; it returned {status}: {text}"))
        .retry_after(retry_after(headers))
        .upstream_body(body.clone())
}

/// Returns whether the message means that the context window is exceeded: vLLM has two texts for
/// it, llama.cpp has one.
fn is_about_context_window(message: &str) -> bool {
    ["max_model_len", "maximum context length", "context size"]
        .iter()
        .any(|text| message.contains(text))
}

/// Returns whether the message is about `priority`: from vLLM without a priority queue, and from
/// servers that refuse the field.
fn is_about_priority(message: &str) -> bool {
    message.contains("priority") || message.contains("Priority")
}

/// Parses the message and the code; the code is empty if it is not text.
fn parse(body: &[u8]) -> (Option<String>, String) {
    let Ok(parsed) = serde_json::from_slice::<Body>(body) else { return (None, String::new()) };
    match parsed.error {
        Some(Inner::Text(text)) => (Some(text), String::new()),
        Some(Inner::Object { message, code }) => {
            (message, code.as_str().unwrap_or_default().to_owned())
        }
        None => (parsed.message, String::new()),
    }
}

/// Returns the kind of an error inside a stream.
pub(super) fn kind_of_event_error(error: &RawValue) -> Kind {
    #[derive(Deserialize)]
    struct ErrorCode {
        code: String,
    }
    let parsed = serde_json::from_str::<ErrorCode>(error.get());
    if parsed.is_ok_and(|parsed| is_filter_code(&parsed.code)) {
        Kind::ContentFilter
    } else {
        Kind::UpstreamBroken
    }
}
