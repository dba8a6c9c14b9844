//! error × surface × phase → response, or in-band frame, or nothing (then the stream is aborted).
//!
//! Source: architecture.md §3, gitlab-client.md §11. The tests at the end are the table's contract.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::chat_event::{self, ExpiryAs};
use super::{BodyFault, GatewayError, Kind};

/// The type of JSON lines, as GitLab's own gateway writes it.
pub const NDJSON: &str = "application/x-ndjson; charset=utf-8";
/// The sentence GitLab itself shows for A1000.
const A1000_SENTENCE: &str = "I'm sorry, I couldn't respond in time. Please try again.";
const TEXT: &str = "text/plain; charset=utf-8";
const WEIR_ERROR: HeaderName = HeaderName::from_static("x-weir-error");

/// How errors look to this client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// GitLab's JSON: `{"detail": …}`.
    #[default]
    Gitlab,
    /// GitLab's prompts and Test connection: a failed model is 421 `"NNN: Phrase"`.
    GitlabPrompts,
    /// The same, streamed as an object a line: a failure after the head is one more line.
    GitlabPromptsLines,
    /// The same, streamed as raw text to GitLab's chat: its words are read by people, its status by GitLab.
    GitlabPromptsText,
    /// GitLab's streamed raw text: a non-2xx body is shown to the user as it is.
    GitlabText,
    /// GitLab's chat once a model was chosen: an event in a 200, before the head as after it.
    GitlabChat(ExpiryAs),
    /// OpenAI's `{"error": {…}}`.
    OpenAi,
}

/// The whole response for an error that came before the head.
pub fn render(error: &GatewayError, shape: Shape, request_id: &str) -> Response<Bytes> {
    let row = error.kind().row();
    let (status, body) = match shape {
        Shape::OpenAi => (row.status, openai(error, request_id)),
        Shape::Gitlab => (row.status, gitlab(error, request_id)),
        Shape::GitlabPrompts | Shape::GitlabPromptsLines => prompts(error, request_id),
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

/// The frame that tells a client of a failure after the head, or `None` where the surface has none and
/// a clean end would be a lie.
pub fn in_band(error: &GatewayError, shape: Shape, request_id: &str) -> Option<Bytes> {
    match shape {
        Shape::OpenAi => Some(format!("data: {}\n\n", openai(error, request_id)).into()),
        Shape::GitlabChat(expiry_as) => Some(chat_event::of(error, expiry_as)),
        Shape::GitlabPromptsLines => Some(format!("{}\n", prompts(error, request_id).1).into()),
        Shape::Gitlab | Shape::GitlabPrompts | Shape::GitlabPromptsText | Shape::GitlabText => None,
    }
}

fn finish(error: &GatewayError, status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(WEIR_ERROR, HeaderValue::from_static(error.kind().row().code));
    if let Some(value) = &error.0.retry_after {
        headers.insert(header::RETRY_AFTER, value.clone());
    } else if matches!(error.kind(), Kind::Overloaded | Kind::NoSigningKeys) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(methods) = error.0.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// `{"error": {...}}`, and FastAPI's `detail` list beside it when the request itself was wrong.
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

/// The model server's own error object, when it is one: clients know how to read it.
fn upstream_json(error: &GatewayError) -> Option<Value> {
    let body = error.0.upstream_body.as_ref()?;
    let value: Value = serde_json::from_slice(body).ok()?;
    match &value {
        Value::Object(map) if map.contains_key("error") => Some(value),
        // older vLLM: {"object":"error","message":…} without a wrapper
        Value::Object(map) if map.get("object").is_some_and(|o| o == "error") => Some(json!({"error": value})),
        _ => None,
    }
}

fn gitlab(error: &GatewayError, request_id: &str) -> Value {
    if let Some(details) = expiry(error, request_id) {
        return json!({"detail": error.public(), "error": details});
    }
    match error.kind() {
        // gitlab-client.md §3.5: 401 uses `error`, everything else uses `detail`
        Kind::Unauthorized => json!({"error": error.public()}),
        Kind::BadRequest
        | Kind::Forbidden
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::NoPromptVersion
        | Kind::PromptVersion
        | Kind::MissingInput => json!({"detail": error.public()}),
        _ if !error.0.faults.is_empty() => json!({"detail": fault_list(&error.0.faults)}),
        // the list form is the one whose text GitLab shows (§10.1)
        kind => {
            json!({"detail": [{"loc": ["body"], "msg": error.public(), "type": kind.row().code}]})
        }
    }
}

/// 421 `"NNN: Phrase"` when the model server failed (§8.4, §10.1): it opens no circuit breaker in GitLab
/// and its text is what Test connection shows.
fn prompts(error: &GatewayError, request_id: &str) -> (StatusCode, Value) {
    let detail = match error.kind() {
        Kind::UpstreamStatus(status) => status_phrase(status),
        Kind::ContentFilter => status_phrase(400),
        Kind::UpstreamConnect | Kind::UpstreamBroken => {
            format!("{} ({})", status_phrase(502), error.public())
        }
        _ => return (error.kind().row().status, gitlab(error, request_id)),
    };
    (StatusCode::MISDIRECTED_REQUEST, json!({ "detail": detail }))
}

fn status_phrase(status: u16) -> String {
    let phrase = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Unknown Status");
    format!("{status}: {phrase}")
}

pub(super) fn text(error: &GatewayError) -> String {
    match error.kind() {
        Kind::Expired(_) => format!("{A1000_SENTENCE} (A1000)"),
        _ => error.public().to_owned(),
    }
}

/// The `error` object of an expiry.
fn expiry(error: &GatewayError, request_id: &str) -> Option<Value> {
    let Kind::Expired(phase) = error.kind() else {
        return None;
    };
    let limit = error.0.limit.unwrap_or_default();
    Some(json!({
        "code": "A1000", "message": A1000_SENTENCE, "phase": phase.label(),
        "limit_ms": u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), "request_id": request_id,
    }))
}

fn fault_list(faults: &[BodyFault]) -> Value {
    let list = faults.iter().map(|fault| {
        let loc: Vec<Value> =
            fault.loc.iter().map(|part| part.parse::<u64>().map_or_else(|_| json!(part), |n| json!(n))).collect();
        json!({"loc": loc, "msg": fault.msg, "type": fault.kind})
    });
    Value::Array(list.collect())
}

/// OpenAI's `param`: the first fault's place without `body`.
fn param(faults: &[BodyFault]) -> Value {
    let place =
        faults.first().map(|fault| fault.loc.iter().skip(1).map(AsRef::as_ref).collect::<Vec<&str>>().join("."));
    place.filter(|place| !place.is_empty()).map_or(Value::Null, Value::String)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Shape, in_band, render};
    use crate::error::{BodyFault, GatewayError, Kind};
    use crate::telemetry::labels::Phase;

    fn body(error: &GatewayError, shape: Shape) -> (u16, String) {
        let response = render(error, shape, "req-1");
        (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).unwrap())
    }

    #[test]
    fn expiry_is_a1000_on_every_surface() {
        let error = GatewayError::expired(Phase::FirstByte, Duration::from_mins(1), "codestral");
        let (status, text) = body(&error, Shape::Gitlab);
        assert_eq!(status, 504);
        assert!(text.contains(r#""detail":"A1000: codestral did not answer within 60 s (first_byte)""#), "{text}");
        assert!(text.contains(r#""limit_ms":60000"#) && text.contains(r#""request_id":"req-1""#), "{text}");
        assert_eq!(body(&error, Shape::GitlabPrompts), (504, text));
        let (status, text) = body(&error, Shape::OpenAi);
        assert!(status == 504 && text.contains(r#""code":"A1000""#), "{text}");
        let (status, text) = body(&error, Shape::GitlabText);
        assert_eq!((status, text.as_str()), (504, "I'm sorry, I couldn't respond in time. Please try again. (A1000)"));
        assert_eq!(render(&error, Shape::OpenAi, "").headers()["x-weir-error"], "A1000");
    }

    #[test]
    fn prompts_say_421_with_the_phrase() {
        let error = GatewayError::new(Kind::UpstreamStatus(401), "the model server refused the key");
        assert_eq!(body(&error, Shape::GitlabPrompts), (421, r#"{"detail":"401: Unauthorized"}"#.into()));
        let error = GatewayError::new(Kind::ContentFilter, "filtered");
        assert_eq!(body(&error, Shape::GitlabPrompts), (421, r#"{"detail":"400: Bad Request"}"#.into()));
    }

    #[test]
    fn wrong_bodies_are_a_list() {
        let error = GatewayError::invalid(vec![BodyFault::at("model", "missing", "Field required")]);
        let (status, text) = body(&error, Shape::Gitlab);
        assert_eq!(
            (status, text.as_str()),
            (422, r#"{"detail":[{"loc":["body","model"],"msg":"Field required","type":"missing"}]}"#)
        );
        let (_, text) = body(&error, Shape::OpenAi);
        assert!(text.contains(r#""param":"model""#) && text.contains(r#""detail":[{"loc""#), "{text}");
    }

    #[test]
    fn after_the_head_only_framed_surfaces_speak() {
        let error = GatewayError::new(Kind::UpstreamBroken, "the model server closed the stream early");
        assert!(in_band(&error, Shape::OpenAi, "r").unwrap().starts_with(b"data: {"));
        assert!(in_band(&error, Shape::GitlabText, "r").is_none());
    }
}
