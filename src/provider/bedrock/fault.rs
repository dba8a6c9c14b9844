//! Bedrock's refusals → `GatewayError`: one table from its error types to a status, and hints for
//! the operator (contract::providers §d1.15, §d1.17).

use std::time::{Duration, SystemTime};

use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use crate::error::{GatewayError, Kind};
use crate::provider::claude_models::is_filter_message;
use crate::provider::{ClockOffset, excerpt};
use crate::wire::Frame;

/// Minimum difference between the clocks that counts as the reason of a refusal. AWS refuses
/// signatures that are more than five minutes off.
const MIN_CLOCK_OFFSET: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "__type")]
    kind: Option<String>,
    /// `{"Output":{"__type":"UnknownOperationException"},"Version":"1.0"}`, with status 200.
    #[serde(rename = "Output")]
    output: Option<Output>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(rename = "__type")]
    kind: Option<String>,
}

/// Builds the error of a non-2xx response.
pub(super) fn from_response(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    let (kind, message) = parse(headers, body);
    let status = status_of(&kind).unwrap_or(status.as_u16());
    error(status, &kind, message.as_deref(), body)
        .retry_after(headers.get(header::RETRY_AFTER).cloned())
}

/// Returns whether a response is AWS's own refusal: it has a type.
pub(super) fn is_aws(headers: &HeaderMap, body: &[u8]) -> bool {
    !parse(headers, body).0.is_empty()
}

/// Builds the error of a 200 that is not an event stream: a proxy's page, or JSON that should have
/// had another status (contract::providers §d1.14).
pub(super) fn from_unframed_body(body: &[u8]) -> GatewayError {
    let (kind, message) = parse(&HeaderMap::new(), body);
    match status_of(&kind) {
        Some(status) => error(status, &kind, message.as_deref(), body),
        None => GatewayError::new(
            Kind::UpstreamBroken,
            "The model server did not answer as Bedrock does",
        )
        .internal(format!(
            "status 200 but not Bedrock's format: is the endpoint Bedrock's runtime? It returned: {}",
            excerpt(body)
        )),
    }
}

/// Builds the error of an exception or error frame inside a stream. The type determines the status,
/// not the payload's copy of one (contract::providers §d1.15).
pub(super) fn from_frame(frame: &Frame) -> GatewayError {
    let kind = capitalized(frame.name());
    let body: Option<Body> = serde_json::from_slice(frame.payload()).ok();
    let message =
        body.and_then(|body| body.message).or_else(|| frame.error_message().map(str::to_owned));
    let status = status_of(&kind)
        .or_else(|| kind.parse().ok().filter(|n| (400..600).contains(n)))
        .unwrap_or(500);
    error(status, &kind, message.as_deref(), frame.payload())
}

fn error(status: u16, kind: &str, message: Option<&str>, body: &[u8]) -> GatewayError {
    let text = message.map(without_canonical_request);
    let public = match text {
        // the request is at fault: the message is about the client's own body
        Some(text) if matches!(status, 400 | 413 | 422) => text.to_owned(),
        _ => format!("The model server answered {}", phrase(status)),
    };
    let name = if kind.is_empty() { "no error type" } else { kind };
    let hint = hint(kind, message.unwrap_or_default());
    let text = text.map_or_else(|| excerpt(body), str::to_owned);
    let is_filter = status == 400 && is_filter_message(&text);
    GatewayError::new(
        if is_filter { Kind::ContentFilter } else { Kind::UpstreamStatus(status) },
        public,
    )
    .internal(format!("{hint}; Bedrock returned {status} {name}: {text}"))
}

fn phrase(status: u16) -> String {
    StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |status| status.to_string())
}

/// Returns the message without the canonical request, which AWS repeats for a wrong signature, and
/// with it the session token: it must not be logged.
fn without_canonical_request(message: &str) -> &str {
    let end = message
        .find("\n\n")
        .or_else(|| message.find("The Canonical String"))
        .unwrap_or(message.len());
    let end = message
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|i| *i <= end.min(2000))
        .last();
    message[..end.unwrap_or(0)].trim_end()
}

/// Parses the error's type and message. The type is `Type` in `x-amzn-errortype: Type:http://…` or
/// in `"__type": "ns#Type"`, empty when there is none.
fn parse(headers: &HeaderMap, body: &[u8]) -> (String, Option<String>) {
    let parsed: Option<Body> = serde_json::from_slice(body).ok();
    let in_output = |body: Option<Output>| body.and_then(|output| output.kind);
    let (message, in_body) =
        parsed.map_or((None, None), |body| (body.message, body.kind.or(in_output(body.output))));
    let in_header =
        headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let full = in_header.or(in_body).unwrap_or_default();
    let kind =
        full.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default().trim();
    (kind.chars().take(100).collect(), message)
}

fn capitalized(name: &str) -> String {
    let mut chars = name.chars().take(100);
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// Returns the status of an error type. The status decides about retries (`error/kind.rs`): 408,
/// 424, 429 and 5xx.
fn status_of(kind: &str) -> Option<u16> {
    Some(match kind {
        "ThrottlingException" | "ModelNotReadyException" => 429,
        "ModelTimeoutException" => 408,
        "ModelErrorException" | "ModelStreamErrorException" => 424,
        "ServiceQuotaExceededException" | "ValidationException" | "SerializationException" => 400,
        "ConflictException" => 409,
        "ServiceUnavailableException" => 503,
        "InternalServerException" | "InternalFailure" => 500,
        "ResourceNotFoundException" | "UnknownOperationException" => 404,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "RequestExpired" => 403,
        _ => return None,
    })
}

fn is_signature(kind: &str) -> bool {
    matches!(
        kind,
        "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "AuthFailure"
    )
}

/// Returns the hint for the operator.
fn hint(kind: &str, message: &str) -> &'static str {
    let mentions = |text: &str| message.contains(text);
    match kind {
        "RequestExpired" | "RequestTimeTooSkewed" => CLOCK,
        _ if is_signature(kind)
            && (mentions("expired") || mentions("earlier than") || mentions("later than")) =>
        {
            CLOCK
        }
        _ if is_signature(kind) && mentions("valid region") => {
            "the request was signed for another region than the endpoint's: set the model's region to the endpoint's"
        }
        _ if is_signature(kind) && mentions("correct service") => {
            "the endpoint is not Bedrock's runtime: it should be bedrock-runtime.<region>.amazonaws.com"
        }
        _ if is_signature(kind) || kind.starts_with("IncompleteSignature") => {
            "AWS refused the signature: the secret access key does not belong to the key id, or something between changed the request"
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" => {
            "AWS does not know the access key, or its session token is missing or wrong: temporary keys (ASIA…) need AWS_SESSION_TOKEN"
        }
        "ExpiredTokenException" | "ExpiredToken" => {
            "the temporary credentials have expired: renew them"
        }
        "MissingAuthenticationTokenException" | "MissingAuthenticationToken" => {
            "no credentials arrived: something between took the authorization header away"
        }
        "AccessDeniedException"
            if mentions("API Key") || mentions("Bearer") || mentions("bearer") =>
        {
            "the Bedrock API key is wrong or has expired (AWS_BEARER_TOKEN_BEDROCK)"
        }
        "AccessDeniedException" if mentions("not authorized to perform") => {
            "IAM forbids it: allow bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream on the inference profile and on the model in its source and all destination regions"
        }
        "AccessDeniedException" => {
            "the model is not enabled for this account in this region: request access in the Bedrock console"
        }
        "ValidationException" if is_filter_message(message) => {
            "the model's content filter refused: change the prompt"
        }
        "ValidationException" if mentions("on-demand throughput") => {
            "this model is only served through an inference profile: name one, such as eu.… or us.… or global.… in front of the id, or its ARN"
        }
        "ValidationException" if mentions("model identifier") => {
            "Bedrock has no such model id in this region: check its spelling, the region and the profile prefix"
        }
        "ResourceNotFoundException" if mentions("end of its life") || mentions("Legacy") => {
            "AWS has retired this model: choose a newer one"
        }
        "ResourceNotFoundException" => {
            "no such model, profile or ARN in this region: check the identifier and the region"
        }
        "UnknownOperationException" => {
            "the endpoint is not Bedrock's runtime, or something between changed the path"
        }
        "ThrottlingException" => {
            "the account's quota for this model is used up: ask AWS for more, or use a cross-region profile"
        }
        "ServiceQuotaExceededException" => {
            "a quota of the account is exceeded: AWS's Service Quotas shows which"
        }
        "ModelNotReadyException" => "the model is being loaded",
        "ModelTimeoutException" => "the model took longer than Bedrock lets it",
        "ModelErrorException" | "ModelStreamErrorException" => "the model failed at this request",
        "ServiceUnavailableException" | "InternalServerException" => {
            "Bedrock has a problem of its own: see AWS's health page"
        }
        _ => "Bedrock refused the request",
    }
}

const CLOCK: &str = "this machine's clock and AWS's differ by minutes: set the clock (NTP)";

/// Returns the offset of AWS's clock from ours when a signature was refused and the difference
/// explains it (contract::providers §d1.6), otherwise `None`.
pub(super) fn clock_offset(
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Option<ClockOffset> {
    let (kind, _) = parse(headers, body);
    if !is_signature(&kind) {
        return None;
    }
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let theirs = SystemTime::try_from(DateTime::from_str(date, Format::HttpDate).ok()?).ok()?;
    Some(ClockOffset::between(now, theirs)).filter(|offset| offset.size() >= MIN_CLOCK_OFFSET)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::{clock_offset, from_response, from_unframed_body};
    use crate::error::{GatewayError, Kind, RetryScope};

    fn fault(status: u16, kind: &'static str, message: &str) -> GatewayError {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-amzn-errortype",
            format!("{kind}:http://internal.amazon.com/coral/").parse().unwrap(),
        );
        let body = Bytes::from(serde_json::json!({"message": message}).to_string());
        from_response(StatusCode::from_u16(status).unwrap(), &headers, &body)
    }

    /// Status and type that AWS sends, its message, the status it counts as, whether it is retried,
    /// and a part of the hint.
    const TABLE: [(u16, &str, &str, u16, bool, &str); 17] = [
        (429, "ThrottlingException", "Too many requests", 429, true, "quota"),
        (429, "ModelNotReadyException", "Model is not ready", 429, true, "loaded"),
        (408, "ModelTimeoutException", "timed out", 408, true, "longer"),
        (424, "ModelErrorException", "failed", 424, true, "failed"),
        (400, "ServiceQuotaExceededException", "quota", 400, false, "Service Quotas"),
        (503, "ServiceUnavailableException", "unavailable", 503, true, "problem of its own"),
        (500, "InternalServerException", "oops", 500, true, "problem of its own"),
        (404, "ResourceNotFoundException", "Could not resolve", 404, false, "in this region"),
        (404, "ResourceNotFoundException", "reached the end of its life", 404, false, "retired"),
        (
            403,
            "AccessDeniedException",
            "You don't have access to the model",
            403,
            false,
            "not enabled",
        ),
        (
            403,
            "AccessDeniedException",
            "User x is not authorized to perform: bedrock:InvokeModel",
            403,
            false,
            "IAM",
        ),
        (
            403,
            "AccessDeniedException",
            "Please make sure your API Key is valid.",
            403,
            false,
            "AWS_BEARER_TOKEN_BEDROCK",
        ),
        (
            400,
            "ValidationException",
            "Invocation with on-demand throughput isn’t supported",
            400,
            false,
            "inference profile",
        ),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            400,
            false,
            "spelling",
        ),
        (403, "ExpiredTokenException", "The security token is expired", 403, false, "have expired"),
        (
            403,
            "UnrecognizedClientException",
            "The security token included",
            403,
            false,
            "AWS_SESSION_TOKEN",
        ),
        (
            403,
            "InvalidSignatureException",
            "Credential should be scoped to a valid region.",
            403,
            false,
            "region to the endpoint's",
        ),
    ];

    #[test]
    fn every_row_of_the_table() {
        for (sent, kind, message, status, retryable, hint) in TABLE {
            let error = fault(sent, kind, message);
            assert_eq!(error.kind(), Kind::UpstreamStatus(status), "{kind}");
            assert_eq!(
                error.kind().row().retry_scope == RetryScope::OtherReplica,
                retryable,
                "{kind}"
            );
            assert!(error.operator().unwrap().contains(hint), "{kind}: {:?}", error.operator());
            assert!(!error.public().contains(hint), "{kind}: the hint is for the operator");
        }
    }

    #[test]
    fn a_content_filter_has_its_own_kind() {
        for message in [
            "The model returned the following errors: Output blocked by content filtering policy",
            "This request has been blocked by our content filters.",
        ] {
            let error = fault(400, "ValidationException", message);
            assert_eq!(error.kind(), Kind::ContentFilter, "{message}");
            assert!(error.operator().unwrap().contains("content filter refused"), "{error:?}");
        }
    }

    #[test]
    fn the_type_decides_in_header_and_body() {
        let body = Bytes::from_static(
            br#"{"__type":"com.amazon.coral#ModelErrorException","Message":"no"}"#,
        );
        assert_eq!(
            from_response(StatusCode::BAD_GATEWAY, &HeaderMap::new(), &body).kind(),
            Kind::UpstreamStatus(424)
        );
        let page = Bytes::from_static(b"<html>bad gateway</html>");
        let error = from_response(StatusCode::BAD_GATEWAY, &HeaderMap::new(), &page);
        assert_eq!(error.kind(), Kind::UpstreamStatus(502));
        assert!(error.operator().unwrap().contains("<html>"), "{:?}", error.operator());
    }

    #[test]
    fn a_refused_signature_repeats_no_token() {
        let message = "The request signature we calculated does not match. Check your key.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:canary\n'";
        let error = fault(403, "InvalidSignatureException", message);
        let text = error.operator().unwrap();
        assert!(text.contains("secret access key") && text.ends_with("Check your key."), "{text}");
        let glued = fault(403, "InvalidSignatureException", "é The Canonical String: canary");
        assert!(!format!("{glued:?}").contains("canary"), "{glued:?}");
    }

    #[test]
    fn a_200_that_is_not_a_stream() {
        let error = from_unframed_body(br#"{"__type":"UnknownOperationException"}"#);
        assert_eq!(error.kind(), Kind::UpstreamStatus(404));
        let nested = from_unframed_body(
            br#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#,
        );
        assert_eq!(nested.kind(), Kind::UpstreamStatus(404));
        assert_eq!(from_unframed_body(b"<html>login").kind(), Kind::UpstreamBroken);
    }

    #[test]
    fn a_wrong_clock_is_detected() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480); // 2015-10-21 07:28:00
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-errortype", "InvalidSignatureException".parse().unwrap());
        assert_eq!(clock_offset(&headers, b"{}", now), None);
        headers.insert("date", "Wed, 21 Oct 2015 07:38:00 GMT".parse().unwrap());
        let offset = clock_offset(&headers, b"{}", now).unwrap();
        assert_eq!(offset.apply(now), now + Duration::from_mins(10));
        let ahead = now + Duration::from_mins(20);
        assert_eq!(
            clock_offset(&headers, b"{}", ahead).unwrap().apply(ahead),
            now + Duration::from_mins(10)
        );
        assert_eq!(clock_offset(&headers, b"{}", now + Duration::from_secs(601)), None);
        headers.insert("x-amzn-errortype", "ThrottlingException".parse().unwrap());
        assert_eq!(clock_offset(&headers, b"{}", now), None);
    }
}
