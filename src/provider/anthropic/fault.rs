//! Anthropic's refusals → `GatewayError`: `{"type":"error","error":{"type","message"}}`, as an
//! answer or as an event of a stream.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::error::{GatewayError, Kind};
use crate::provider::claude_models::says_filtered;
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

/// The error of a non-2xx answer.
pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    error(status.as_u16(), body).retry_after(retry_after(headers))
}

/// The error of an `error` event: its type stands for the status.
pub(super) fn of_event(data: &[u8]) -> GatewayError {
    let kind = serde_json::from_slice::<Body>(data).map(|body| body.error.kind).unwrap_or_default();
    error(status_of(&kind), data)
}

fn error(status: u16, body: &[u8]) -> GatewayError {
    let inner = serde_json::from_slice::<Body>(body).ok().map(|body| body.error);
    let (kind, said) = inner.map_or((String::new(), None), |inner| (inner.kind, inner.message));
    let public = match &said {
        // the request's own fault: the words are about the client's own body
        Some(said) if matches!(status, 400 | 413 | 422) => said.clone(),
        _ => format!("The model server answered {status}"),
    };
    let words = said.as_deref().unwrap_or_default();
    let hint = hint(status, words);
    let is_filter = status == 400 && says_filtered(words);
    let counts_as = if is_filter { Kind::ContentFilter } else { Kind::UpstreamStatus(status) };
    let kind: String =
        if kind.is_empty() { "no error type".into() } else { kind.chars().take(100).collect() };
    let text = said.unwrap_or_else(|| excerpt(body));
    GatewayError::new(counts_as, public)
        .internal(format!("{hint}; it said {status} {kind}: {text}"))
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
        // api_error, and what comes next
        _ => 500,
    }
}

fn hint(status: u16, said: &str) -> &'static str {
    match status {
        400 if says_filtered(said) => {
            "Anthropic's content filter stopped the answer: change the prompt"
        }
        400 if said.contains("credit balance") => "the Anthropic account has no credit left",
        401 => "the model server refused the key: check the model's api_key",
        402 => "the Anthropic account cannot pay: check its billing",
        403 => "the key may not use this model",
        404 => {
            "the model server knows no such model or path: check the identifier and the endpoint"
        }
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

    use super::{of, of_event};
    use crate::error::{Elsewhere, Kind};

    #[test]
    fn answers_and_events_have_the_same_table() {
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
            let answer = of(
                StatusCode::from_u16(status).unwrap(),
                &HeaderMap::new(),
                &Bytes::from(body.clone()),
            );
            for error in [answer, of_event(body.as_bytes())] {
                assert_eq!(error.kind(), Kind::UpstreamStatus(status), "{kind}");
                assert_eq!(error.kind().row().elsewhere == Elsewhere::Replica, retryable, "{kind}");
                let text = error.operator().unwrap();
                assert!(text.contains(hint) && text.ends_with("said"), "{text}");
            }
        }
        let filtered = r#"{"type":"error","error":{"details":null,"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#;
        for error in [
            of(
                StatusCode::BAD_REQUEST,
                &HeaderMap::new(),
                &Bytes::from_static(filtered.as_bytes()),
            ),
            of_event(filtered.as_bytes()),
        ] {
            assert_eq!(error.kind(), Kind::ContentFilter);
            assert!(error.operator().unwrap().contains("content filter stopped"), "{error:?}");
        }
        assert_eq!(of_event(b"not json").kind(), Kind::UpstreamStatus(500));
    }
}
