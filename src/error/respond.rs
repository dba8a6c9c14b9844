//! error × surface × phase → response, or in-band frame, or `None` (then the stream is aborted).
//!
//! Sources: `manual::failures`, contract::gitlab_client §11. The tests at the end are the table's
//! contract.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::chat_event::{self, ExpiryAs};
use super::{A1000_MESSAGE, BodyFault, GatewayError, Kind, text};

/// The content type of JSON lines, as GitLab's own gateway writes it.
pub const NDJSON: &str = "application/x-ndjson; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const WEIR_ERROR: HeaderName = HeaderName::from_static("x-weir-error");

/// The format in which errors are rendered for this client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// GitLab's JSON: `{"detail": …}`.
    #[default]
    Gitlab,
    /// GitLab's prompts and Test connection: a failed model is 421 `"NNN: Phrase"`.
    GitlabPrompts,
    /// The GitLab calls whose `detail` is one sentence: embeddings, tokens, documentation.
    GitlabSentence,
    /// Prompts streamed as one object a line: a failure after the head is one more line.
    GitlabPromptsLines,
    /// Prompts streamed as raw text to GitLab's chat: people read the text, GitLab the status.
    GitlabPromptsText,
    /// Code suggestions, as JSON or raw text: a failed model is 421, but a rate-limited one 429,
    /// after which editors back off.
    GitlabCode,
    /// Code suggestions streamed as events: a failure after the head is an `error` event.
    GitlabCodeEvents,
    /// GitLab's streamed raw text: the user sees the body of a non-2xx response as it is.
    GitlabText,
    /// GitLab's chat once a model was selected: an event in a 200, before the head and after it.
    GitlabChat(ExpiryAs),
    /// OpenAI's `{"error": {…}}`.
    OpenAi,
    /// Anthropic's `{"type": "error", "error": {…}}`.
    Anthropic,
}

/// Renders an error before the response head as a whole response.
pub fn render(error: &GatewayError, shape: Shape, request_id: &str) -> Response<Bytes> {
    let row = error.kind().row();
    let (status, body) = match shape {
        Shape::OpenAi => (row.status, openai(error, request_id)),
        Shape::Anthropic => anthropic(error, request_id),
        Shape::Gitlab => (row.status, gitlab(error, request_id)),
        Shape::GitlabSentence => sentence(error, request_id),
        Shape::GitlabPrompts | Shape::GitlabPromptsLines => prompts(error, request_id),
        Shape::GitlabCode | Shape::GitlabCodeEvents => code(error, request_id),
        Shape::GitlabPromptsText => {
            return finish(error, prompts(error, request_id).0, TEXT, text(error).into());
        }
        Shape::GitlabText => {
            return finish(error, row.status, TEXT, text(error).into());
        }
        Shape::GitlabChat(expiry_as) => {
            return finish(error, StatusCode::OK, NDJSON, chat_event::of(error, expiry_as));
        }
    };
    finish(error, status, "application/json", body.to_string().into())
}

/// Renders an error after the response head as one frame of the stream, or returns `None` where the
/// surface has no such frame: the stream is then aborted, since a clean end would mean success.
pub fn in_band(error: &GatewayError, shape: Shape, request_id: &str) -> Option<Bytes> {
    match shape {
        Shape::OpenAi => Some(format!("data: {}\n\n", openai(error, request_id)).into()),
        Shape::Anthropic => {
            let (_, body) = anthropic(error, request_id);
            Some(format!("event: error\ndata: {body}\n\n").into())
        }
        Shape::GitlabChat(expiry_as) => Some(chat_event::of(error, expiry_as)),
        Shape::GitlabPromptsLines => Some(format!("{}\n", prompts(error, request_id).1).into()),
        Shape::GitlabCodeEvents => {
            Some(format!("event: error\r\ndata: {}\r\n\r\n", code(error, request_id).1).into())
        }
        Shape::Gitlab
        | Shape::GitlabPrompts
        | Shape::GitlabPromptsText
        | Shape::GitlabSentence
        | Shape::GitlabCode
        | Shape::GitlabText => None,
    }
}

fn finish(
    error: &GatewayError,
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(WEIR_ERROR, HeaderValue::from_static(error.kind().row().code));
    if let Some(value) = &error.0.retry_after {
        headers.insert(header::RETRY_AFTER, value.clone());
    } else if matches!(
        error.kind(),
        Kind::Overloaded | Kind::Draining | Kind::NoSigningKeys | Kind::NoCredentials
    ) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(methods) = error.0.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// Returns `{"error": {...}}`, with FastAPI's `detail` list beside it when the body is at fault.
fn openai(error: &GatewayError, request_id: &str) -> Value {
    if let Some(own) = upstream_json(error) {
        return own;
    }
    let row = error.kind().row();
    let mut body = json!({"error": {
        "message": error.public(), "type": row.openai_type, "param": null, "code": row.code, "request_id": request_id,
    }});
    if let Some(details) = expiry(error, request_id) {
        body["error"]["phase"] = details["phase"].clone();
        body["error"]["limit_ms"] = details["limit_ms"].clone();
    }
    if !error.0.faults.is_empty() {
        body["error"]["param"] = param(&error.0.faults);
        body["detail"] = fault_list(&error.0.faults);
    }
    body
}

/// Returns Anthropic's status and body; its clients classify errors by both. An invalid request is
/// 400 there, never 422, and its message names the field. `code` is Weir's own.
fn anthropic(error: &GatewayError, request_id: &str) -> (StatusCode, Value) {
    let row = error.kind().row();
    let status = if row.status == StatusCode::UNPROCESSABLE_ENTITY {
        StatusCode::BAD_REQUEST
    } else {
        row.status
    };
    let kind = match (error.kind(), status.as_u16()) {
        (Kind::Overloaded | Kind::Draining | Kind::UpstreamStatus(529), _) => "overloaded_error",
        (Kind::Expired(_), _) => "timeout_error",
        (_, 401) => "authentication_error",
        (_, 403) => "permission_error",
        (_, 404) => "not_found_error",
        (_, 413) => "request_too_large",
        (_, 429) => "rate_limit_error",
        (_, 400..=499) => "invalid_request_error",
        _ => "api_error",
    };
    let message = match param(&error.0.faults) {
        Value::String(path) => format!("{path}: {}", error.public()),
        _ => error.public().to_owned(),
    };
    let mut body = json!({
        "type": "error", "error": {"type": kind, "message": message, "code": row.code}, "request_id": request_id,
    });
    if let Some(details) = expiry(error, request_id) {
        body["error"]["phase"] = details["phase"].clone();
        body["error"]["limit_ms"] = details["limit_ms"].clone();
    }
    (status, body)
}

/// Returns the model server's own error object, which clients of its dialect parse, or `None` when
/// the body is no such object or concerns Weir's key.
fn upstream_json(error: &GatewayError) -> Option<Value> {
    if matches!(error.kind(), Kind::UpstreamStatus(401 | 403 | 407)) {
        return None;
    }
    let body = error.0.upstream_body.as_ref()?;
    let value: Value = serde_json::from_slice(body).ok()?;
    match &value {
        Value::Object(map) if map.contains_key("error") => Some(value),
        // older vLLM: {"object":"error","message":…} without a wrapper
        Value::Object(map) if map.get("object").is_some_and(|o| o == "error") => {
            Some(json!({"error": value}))
        }
        _ => None,
    }
}

fn gitlab(error: &GatewayError, request_id: &str) -> Value {
    if let Some(details) = expiry(error, request_id) {
        return json!({"detail": error.public(), "error": details});
    }
    match error.kind() {
        // contract::gitlab_client §3.5: 401 uses `error`, everything else uses `detail`
        Kind::Unauthorized => json!({"error": error.public()}),
        Kind::BadRequest
        | Kind::Forbidden
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::NoPromptVersion
        | Kind::PromptVersion
        | Kind::MissingInput => json!({"detail": error.public()}),
        _ if !error.0.faults.is_empty() => json!({"detail": fault_list(&error.0.faults)}),
        // GitLab shows the text of the list form (contract::gitlab_client §10.1)
        kind => {
            json!({"detail": [{"loc": ["body"], "msg": error.public(), "type": kind.row().code}]})
        }
    }
}

/// Returns 421 `"NNN: Phrase"` when the model server failed (contract::gitlab_client §8.4, §10.1):
/// it opens no circuit breaker in GitLab, and Test connection shows its text.
fn prompts(error: &GatewayError, request_id: &str) -> (StatusCode, Value) {
    let detail = match error.kind() {
        Kind::UpstreamStatus(status) => status_phrase(status),
        Kind::ContentFilter => status_phrase(400),
        Kind::UpstreamConnect | Kind::UpstreamBroken => {
            format!("{} ({})", status_phrase(502), error.public())
        }
        Kind::NoCredentials => format!("{} ({})", status_phrase(503), error.public()),
        _ => return (error.kind().row().status, gitlab(error, request_id)),
    };
    (StatusCode::MISDIRECTED_REQUEST, json!({ "detail": detail }))
}

/// Returns status and body with one sentence as `detail`. A model server's 400, 401 and 429 are
/// passed on (contract::ai_gateway_server §1.7): these calls come from a background job, and the
/// administrator who reads them has set its key.
fn sentence(error: &GatewayError, request_id: &str) -> (StatusCode, Value) {
    let status = match error.kind() {
        Kind::UpstreamStatus(401) => StatusCode::UNAUTHORIZED,
        kind => kind.row().status,
    };
    match error.kind() {
        Kind::Unauthorized | Kind::Expired(_) => (status, gitlab(error, request_id)),
        Kind::Invalid => (status, json!({"detail": faults_as_text(error)})),
        _ => (status, json!({"detail": error.public()})),
    }
}

/// Joins the faults with `; `, each as `contents.0: expected a string`.
fn faults_as_text(error: &GatewayError) -> String {
    let faults = error.0.faults.iter().map(|fault| match field_path(fault) {
        path if path.is_empty() => fault.msg.clone(),
        path => format!("{path}: {}", fault.msg),
    });
    let text = faults.collect::<Vec<_>>().join("; ");
    if text.is_empty() { error.public().to_owned() } else { text }
}

/// As [`prompts`], but 429 for a rate-limited model server (contract::ai_gateway_server §8.1).
fn code(error: &GatewayError, request_id: &str) -> (StatusCode, Value) {
    let (status, body) = prompts(error, request_id);
    let is_busy = error.kind() == Kind::UpstreamStatus(429);
    (if is_busy { StatusCode::TOO_MANY_REQUESTS } else { status }, body)
}

fn status_phrase(status: u16) -> String {
    let phrase = StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unknown Status");
    format!("{status}: {phrase}")
}

/// Returns the `error` object of an expired timeout, or `None` for any other kind.
fn expiry(error: &GatewayError, request_id: &str) -> Option<Value> {
    let Kind::Expired(phase) = error.kind() else {
        return None;
    };
    let limit = error.0.limit.unwrap_or_default();
    Some(json!({
        "code": "A1000", "message": A1000_MESSAGE, "phase": phase.label(),
        "limit_ms": u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), "request_id": request_id,
    }))
}

fn fault_list(faults: &[BodyFault]) -> Value {
    let list = faults.iter().map(|fault| {
        let loc: Vec<Value> = fault
            .loc
            .iter()
            .map(|part| part.parse::<u64>().map_or_else(|_| json!(part), |n| json!(n)))
            .collect();
        json!({"loc": loc, "msg": fault.msg, "type": fault.kind})
    });
    Value::Array(list.collect())
}

/// Returns OpenAI's `param`: the path of the first fault, or null.
fn param(faults: &[BodyFault]) -> Value {
    let path = faults.first().map(field_path);
    path.filter(|path| !path.is_empty()).map_or(Value::Null, Value::String)
}

/// Returns the path of the field, dotted and without `body`; empty for the body as a whole.
fn field_path(fault: &BodyFault) -> String {
    fault.loc.iter().skip(1).map(AsRef::as_ref).collect::<Vec<&str>>().join(".")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Shape, in_band, render};
    use crate::error::{BodyFault, GatewayError, Kind, Phase};

    fn body(error: &GatewayError, shape: Shape) -> (u16, String) {
        let response = render(error, shape, "req-1");
        (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).unwrap())
    }

    #[test]
    fn expiry_is_a1000_on_every_surface() {
        let error = GatewayError::expired(Phase::FirstByte, Duration::from_mins(1), "codestral");
        let (status, text) = body(&error, Shape::Gitlab);
        assert_eq!(status, 504);
        assert!(
            text.contains(r#""detail":"A1000: codestral did not answer within 60 s (first_byte)""#),
            "{text}"
        );
        assert!(
            text.contains(r#""limit_ms":60000"#) && text.contains(r#""request_id":"req-1""#),
            "{text}"
        );
        assert_eq!(body(&error, Shape::GitlabPrompts), (504, text.clone()));
        assert_eq!(body(&error, Shape::GitlabPromptsLines), (504, text));
        let (status, text) = body(&error, Shape::OpenAi);
        assert!(status == 504 && text.contains(r#""code":"A1000""#), "{text}");
        let (status, text) = body(&error, Shape::GitlabText);
        assert_eq!(body(&error, Shape::GitlabPromptsText), (504, text.clone()));
        assert_eq!(
            (status, text.as_str()),
            (504, "I'm sorry, I couldn't respond in time. Please try again. (A1000)")
        );
        assert_eq!(render(&error, Shape::OpenAi, "").headers()["x-weir-error"], "A1000");
    }

    #[test]
    fn anthropics_clients_get_types_and_statuses_of_their_own() {
        let of = |error: GatewayError| {
            let (status, text) = body(&error, Shape::Anthropic);
            let body: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&body["type"], &body["request_id"]),
                (&"error".into(), &"req-1".into()),
                "{text}"
            );
            let field = |name: &str| body["error"][name].as_str().unwrap().to_owned();
            (status, field("type"), field("message"), field("code"))
        };
        let row = |status, kind: &str, message: &str, code: &str| {
            (status, kind.into(), message.into(), code.into())
        };
        assert_eq!(
            of(GatewayError::invalid(vec![BodyFault::at("top_k", "value_error", "no such thing")])),
            row(400, "invalid_request_error", "top_k: no such thing", "invalid_request")
        );
        for (kind, status, name) in [
            (Kind::Unauthorized, 401, "authentication_error"),
            (Kind::Disabled, 403, "permission_error"),
            (Kind::UnknownModel, 404, "not_found_error"),
            (Kind::BodyTooLarge, 413, "request_too_large"),
            (Kind::UpstreamStatus(429), 429, "rate_limit_error"),
            (Kind::UpstreamStatus(401), 502, "api_error"),
            (Kind::UpstreamStatus(529), 502, "overloaded_error"),
            (Kind::Overloaded, 503, "overloaded_error"),
            (Kind::Draining, 503, "overloaded_error"),
            (Kind::NoModel, 400, "invalid_request_error"),
            (Kind::Internal, 500, "api_error"),
        ] {
            assert_eq!(
                of(GatewayError::new(kind, "m")),
                row(status, name, "m", kind.row().code),
                "{kind:?}"
            );
        }
        let late = GatewayError::expired(Phase::Idle, Duration::from_mins(1), "m");
        assert_eq!(
            of(late),
            row(504, "timeout_error", "A1000: m did not answer within 60 s (idle)", "A1000")
        );
    }

    #[test]
    fn failed_models_are_421_with_the_phrase_on_prompts() {
        let error =
            GatewayError::new(Kind::UpstreamStatus(401), "the model server refused the key");
        for shape in [Shape::GitlabPrompts, Shape::GitlabPromptsLines] {
            assert_eq!(body(&error, shape), (421, r#"{"detail":"401: Unauthorized"}"#.into()));
        }
        assert_eq!(
            body(&error, Shape::GitlabPromptsText),
            (421, "the model server refused the key".into())
        );
        let line = in_band(&error, Shape::GitlabPromptsLines, "r").unwrap();
        assert_eq!(line, "{\"detail\":\"401: Unauthorized\"}\n");
        let error = GatewayError::new(Kind::NoCredentials, "no AWS credentials");
        let detail = r#"{"detail":"503: Service Unavailable (no AWS credentials)"}"#;
        assert_eq!(body(&error, Shape::GitlabPrompts), (421, detail.into()));
        assert_eq!(body(&error, Shape::Gitlab).0, 503);
        let error = GatewayError::new(Kind::ContentFilter, "filtered");
        assert_eq!(
            body(&error, Shape::GitlabPrompts),
            (421, r#"{"detail":"400: Bad Request"}"#.into())
        );
    }

    #[test]
    fn failed_models_are_421_on_code_and_rate_limited_ones_429() {
        let error =
            |status| GatewayError::new(Kind::UpstreamStatus(status), "the model server failed");
        assert_eq!(
            body(&error(500), Shape::GitlabCode),
            (421, r#"{"detail":"500: Internal Server Error"}"#.into())
        );
        assert_eq!(
            body(&error(429), Shape::GitlabCodeEvents),
            (429, r#"{"detail":"429: Too Many Requests"}"#.into())
        );
        let event = in_band(&error(500), Shape::GitlabCodeEvents, "r").unwrap();
        assert_eq!(
            event,
            "event: error\r\ndata: {\"detail\":\"500: Internal Server Error\"}\r\n\r\n"
        );
        assert!(in_band(&error(500), Shape::GitlabCode, "r").is_none());
    }

    #[test]
    fn invalid_bodies_are_a_list_of_faults() {
        let error =
            GatewayError::invalid(vec![BodyFault::at("model", "missing", "Field required")]);
        let (status, text) = body(&error, Shape::Gitlab);
        assert_eq!(
            (status, text.as_str()),
            (
                422,
                r#"{"detail":[{"loc":["body","model"],"msg":"Field required","type":"missing"}]}"#
            )
        );
        let (_, text) = body(&error, Shape::OpenAi);
        assert!(
            text.contains(r#""param":"model""#) && text.contains(r#""detail":[{"loc""#),
            "{text}"
        );
    }

    #[test]
    fn after_the_head_only_framed_surfaces_carry_an_error() {
        let error =
            GatewayError::new(Kind::UpstreamBroken, "the model server closed the stream early");
        assert!(in_band(&error, Shape::OpenAi, "r").unwrap().starts_with(b"data: {"));
        for shape in [Shape::GitlabText, Shape::GitlabPromptsText, Shape::GitlabPrompts] {
            assert!(in_band(&error, shape, "r").is_none());
        }
        assert!(
            in_band(&error, Shape::Anthropic, "r")
                .unwrap()
                .starts_with(b"event: error\ndata: {\"type\":\"error\"")
        );
    }
}
