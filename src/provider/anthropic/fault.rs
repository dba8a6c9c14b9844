//! Anthropic's refusals → `GatewayError`: `{"type":"error","error":{"type","message"}}`, as a
//! response or as an event of a stream.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::error::{GatewayError, Kind};
use crate::provider::claude_models::is_filter_message;
use crate::provider::{excerpt, retry_after};

#[derive(Deserialize)]
struct Body {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default, rename = "type")]
    kind: String,
    message: Option<String>,
}

/// Builds the error of a non-2xx response.
pub(super) fn from_response(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    error(status.as_u16(), body).retry_after(retry_after(headers))
}

/// Builds the error of an `error` event, whose type determines the status.
pub(super) fn from_event(data: &[u8]) -> GatewayError {
    let kind = serde_json::from_slice::<Body>(data).map(|body| body.error.kind).unwrap_or_default();
    error(status_of(&kind), data)
}

fn error(status: u16, body: &[u8]) -> GatewayError {
    let inner = serde_json::from_slice::<Body>(body).ok().map(|body| body.error);
    let (kind, message) = inner.map_or((String::new(), None), |inner| (inner.kind, inner.message));
    let public = match &message {
        // the request is at fault: the message is about the client's own body
        Some(message) if matches!(status, 400 | 413 | 422) => message.clone(),
        _ => format!("The model server answered {status}"),
    };
    let message_text = message.as_deref().unwrap_or_default();
    let hint = hint(status, message_text);
    let is_filter = status == 400 && is_filter_message(message_text);
    let counts_as = if is_filter { Kind::ContentFilter } else { Kind::UpstreamStatus(status) };
    let kind: String =
        if kind.is_empty() { "no error type".into() } else { kind.chars().take(100).collect() };
    let text = message.unwrap_or_else(|| excerpt(body));
    GatewayError::new(counts_as, public)
        .internal(format!("{hint}; it returned {status} {kind}: {text}"))
}

fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" | "gateway_timeout_error" => 504,
        "overloaded_error" => 529,
        // api_error, and types of later versions
        _ => 500,
    }
}

fn hint(status: u16, message: &str) -> &'static str {
    match status {
        400 if is_filter_message(message) => {
            "Anthropic's content filter stopped the answer: change the prompt"
        }
        400 if message.contains("credit balance") => "the Anthropic account has no credit left",
        401 => "the model server refused the key: check the model's api_key",
        402 => "the Anthropic account cannot pay: check its billing",
        403 => "the key may not use this model",
        404 => "the model server has no such model or path: check the identifier and the endpoint",
        413 => "the request is larger than the model server takes",
        429 => "the account's rate limit is reached",
        529 => "Anthropic is overloaded",
        500.. => "the model server has a problem of its own",
        _ => "the model server refused the request",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::{from_event, from_response};
    use crate::error::{Kind, RetryScope};

    #[test]
    fn responses_and_events_have_the_same_table() {
        for (status, kind, retryable, hint) in [
            (400, "invalid_request_error", false, "refused the request"),
            (401, "authentication_error", false, "api_key"),
            (403, "permission_error", false, "may not use"),
            (404, "not_found_error", false, "identifier"),
            (413, "request_too_large", false, "larger"),
            (429, "rate_limit_error", true, "rate limit"),
            (500, "api_error", true, "problem of its own"),
            (529, "overloaded_error", true, "overloaded"),
        ] {
            let body =
                format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"said"}}}}"#);
            let answer = from_response(
                StatusCode::from_u16(status).unwrap(),
                &HeaderMap::new(),
                &Bytes::from(body.clone()),
            );
            for error in [answer, from_event(body.as_bytes())] {
                assert_eq!(error.kind(), Kind::UpstreamStatus(status), "{kind}");
                assert_eq!(
                    error.kind().row().retry_scope == RetryScope::OtherReplica,
                    retryable,
                    "{kind}"
                );
                let text = error.operator().unwrap();
                assert!(text.contains(hint) && text.ends_with("said"), "{text}");
            }
        }
        let filtered = r#"{"type":"error","error":{"details":null,"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#;
        for error in [
            from_response(
                StatusCode::BAD_REQUEST,
                &HeaderMap::new(),
                &Bytes::from_static(filtered.as_bytes()),
            ),
            from_event(filtered.as_bytes()),
        ] {
            assert_eq!(error.kind(), Kind::ContentFilter);
            assert!(error.operator().unwrap().contains("content filter stopped"), "{error:?}");
        }
        assert_eq!(from_event(b"not json").kind(), Kind::UpstreamStatus(500));
    }
}
