//! A model server's refusal → `GatewayError`: what the client is told, what the operator is told.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::error::{GatewayError, Kind};
use crate::provider::{excerpt, retry_after};

/// Shapes seen: OpenAI's `{"error":{"message"}}`, vLLM's 401 `{"error":"Unauthorized"}`, older vLLM's
/// `{"object":"error","message"}`, FastAPI's `{"detail"}`.
#[derive(Deserialize)]
struct Body {
    error: Option<Inner>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Inner {
    Text(String),
    Object { message: Option<String> },
}

/// The error of a non-2xx answer.
pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    let said = message(body);
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the model server refused the key: check the model's api_key"
        }
        StatusCode::NOT_FOUND => {
            "the model server knows no such model or path: check the identifier and whether the endpoint ends in /v1"
        }
        StatusCode::TOO_MANY_REQUESTS => "the model server is at its limit",
        _ => "the model server refused the request",
    };
    let public = match &said {
        // the request's own fault: the server's words are about the client's own body
        Some(said) if matches!(status.as_u16(), 400 | 413 | 422) => said.clone(),
        _ => format!("The model server answered {status}"),
    };
    let text = said.unwrap_or_else(|| excerpt(body));
    GatewayError::new(Kind::UpstreamStatus(status.as_u16()), public)
        .internal(format!("{hint}; it said {status}: {text}"))
        .retry_after(retry_after(headers))
        .upstream_body(body.clone())
}

fn message(body: &[u8]) -> Option<String> {
    let parsed: Body = serde_json::from_slice(body).ok()?;
    match parsed.error {
        Some(Inner::Text(text)) => Some(text),
        Some(Inner::Object { message }) => message,
        None => parsed.message,
    }
}
