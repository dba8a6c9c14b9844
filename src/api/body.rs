//! Request bodies: read under a limit, parsed once, faults with their path in the JSON.

use std::borrow::Cow;
use std::error::Error as _;
use std::future::pending;
use std::io::{self, ErrorKind};

use bytes::Bytes;
use http::{Version, header, request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::error::{BodyFault, GatewayError, Kind};
use crate::snapshot::Limits;
use crate::wire::ChunkBuffer;

/// Reads a body of at most `max_body` bytes within `body_timeout`. A `Content-Length` above the
/// limit is refused before a byte is read. A body that arrives in one frame is not copied.
pub(super) async fn collect(
    parts: &request::Parts,
    body: Incoming,
    limits: &Limits,
) -> Result<Bytes, GatewayError> {
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.max_body) {
        return Err(too_large(limits.max_body));
    }
    let reading = read_all(body, limits.max_body, parts.version == Version::HTTP_2);
    timeout(limits.body_timeout, reading).await.unwrap_or_else(|_| {
        Err(GatewayError::new(
            Kind::BodyTimeout,
            "The request's body did not arrive in time (limits.body_timeout)",
        ))
    })
}

async fn read_all(mut body: Incoming, max: u64, is_http2: bool) -> Result<Bytes, GatewayError> {
    let mut all = ChunkBuffer::default();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // There is no client to answer: the connection is about to close, which drops this
            // future. In HTTP/2 a body fails only when its stream is reset.
            Err(error) if is_http2 || is_disconnect(&error) => pending().await,
            Err(error) => {
                let message = "The request's body is not framed as HTTP requires";
                return Err(GatewayError::new(Kind::Invalid, message).internal(error.to_string()));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        // Memory grows only as bytes arrive, whatever the announced length.
        if (all.len() + data.len()) as u64 > max {
            return Err(too_large(max));
        }
        all.push(data);
    }
    if is_http2 && !body.is_end_stream() {
        // hyper ends the body of a cancelled stream like a complete one
        return pending().await;
    }
    Ok(all.into_bytes())
}

/// Returns whether a body is incomplete because its client disconnected.
fn is_disconnect(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_incomplete_message()
        || io.is_some_and(|io| {
            matches!(
                io.kind(),
                ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
            )
        })
}

fn too_large(max: u64) -> GatewayError {
    GatewayError::new(
        Kind::BodyTooLarge,
        format!("The request's body is larger than {max} bytes (limits.max_body)"),
    )
}

/// Parses a body. If that fails, parses it a second time to find the fault's path, and returns a
/// 422 with it.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, GatewayError> {
    serde_json::from_slice(body)
        .map_err(|error| GatewayError::invalid(vec![fault::<T>(body, &error)]))
}

fn fault<'a, T: Deserialize<'a>>(body: &'a [u8], error: &serde_json::Error) -> BodyFault {
    if body.trim_ascii().is_empty() {
        return BodyFault::body("missing", "A JSON body is required");
    }
    if error.classify() != Category::Data {
        let msg = format!(
            "JSON decode error at line {}, column {}: {}",
            error.line(),
            error.column(),
            message(error)
        );
        return BodyFault::body("json_invalid", msg);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let located = serde_path_to_error::deserialize::<_, T>(&mut json).err();
    let path = located.map(|error| error.path().to_string()).unwrap_or_default();
    let mut loc = vec![Cow::Borrowed("body")];
    loc.extend(
        path.split(['.', '[', ']'])
            .filter(|part| !part.is_empty())
            .map(|part| Cow::Owned(part.to_owned())),
    );
    let msg = message(error);
    let Some(field) = msg.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'))
    else {
        return BodyFault { loc, msg, kind: "type_error" };
    };
    loc.push(Cow::Owned(field.to_owned()));
    BodyFault { loc, msg: "Field required".into(), kind: "missing" }
}

/// Returns serde's message without its position and without the value it found, which may be
/// anything.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match (text.starts_with("invalid type: "), text.find(", expected ")) {
        (true, Some(at)) => format!("expected {}", &text[at + 11..]),
        _ => text.chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::parse;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[expect(dead_code, reason = "only the parsing is tested")]
        list: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[expect(dead_code, reason = "only the parsing is tested")]
        name: String,
    }

    fn fault(body: &str) -> String {
        let error = parse::<Body>(body.as_bytes()).unwrap_err();
        let response = crate::error::render(&error, crate::error::Shape::Gitlab, "r");
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    #[test]
    fn faults_have_a_path() {
        assert_eq!(
            fault(r#"{"list":[{"name":"a"},{}]}"#),
            r#"{"detail":[{"loc":["body","list",1,"name"],"msg":"Field required","type":"missing"}]}"#
        );
        assert_eq!(
            fault(r#"{"list":[{"name":7}]}"#),
            r#"{"detail":[{"loc":["body","list",0,"name"],"msg":"expected a string","type":"type_error"}]}"#
        );
        assert!(fault("{").contains("json_invalid"));
        assert!(fault("").contains("A JSON body is required"));
        assert!(fault("[1]").contains("type_error") || fault("[1]").contains("missing"));
    }
}
