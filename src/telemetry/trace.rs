//! Correlation across systems: `X-Request-ID` and W3C `traceparent`, inbound and outbound.
//!
//! Sources: contract::gitlab_client §2.1 (`X-Request-ID` is GitLab's correlation id), W3C Trace
//! Context §3.2.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

/// GitLab's correlation id, echoed in every response and sent upstream.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const MAX_REQUEST_ID: usize = 128;

/// The request id and the trace id of one request.
#[derive(Clone, Debug)]
pub struct TraceIds {
    request_id: HeaderValue,
    trace_id: [u8; 32],
    sampled: bool,
}

impl TraceIds {
    /// Returns the caller's ids where they are well formed, else new ones.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(X_REQUEST_ID).filter(|value| is_plain(value));
        // copied: the value is a slice of the head's 8 KiB buffer, and would keep it alive
        let request_id = given.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        let parent = headers.get(TRACEPARENT).and_then(|value| parse_traceparent(value.as_bytes()));
        let (trace_id, sampled) = parent.unwrap_or_else(|| (random_hex(), false));
        Self { request_id: request_id.unwrap_or_else(new_request_id), trace_id, sampled }
    }

    /// Returns the request id as the header of the response and of the upstream request.
    pub const fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// Returns the request id for logs and bodies, in plain ASCII.
    pub fn request_id_str(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// Returns the trace id: 32 hex digits.
    pub fn trace_id_str(&self) -> &str {
        std::str::from_utf8(&self.trace_id).unwrap_or_default()
    }

    /// Returns the header of the upstream request: the same trace, with a new span.
    pub fn traceparent(&self) -> HeaderValue {
        let mut text = String::with_capacity(55);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "00-{}-{:016x}-{:02x}",
            self.trace_id_str(),
            nonzero(),
            u8::from(self.sampled)
        );
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Whether an id may be repeated in headers and logs as it is: short, visible ASCII, no character
/// that JSON escapes.
fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_REQUEST_ID
        && bytes.iter().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

fn new_request_id() -> HeaderValue {
    HeaderValue::from_bytes(&random_hex()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn random_hex() -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u128(1..);
    std::array::from_fn(|i| DIGITS[usize::from((random >> (4 * (31 - i))) as u8 & 0xf)])
}

fn nonzero() -> u64 {
    fastrand::u64(1..)
}

/// Parses `00-<trace id>-<parent id>-<flags>` to the trace id and the sampled flag. `None` for
/// anything else, which starts a new trace (§3.2.2).
fn parse_traceparent(value: &[u8]) -> Option<([u8; 32], bool)> {
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if value.len() != 55 || &value[..3] != b"00-" || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let trace_id: [u8; 32] = value[3..35].try_into().ok()?;
    let parts_are_hex = hex(&trace_id) && hex(&value[36..52]) && hex(&value[53..]);
    let is_zero = trace_id.iter().all(|b| *b == b'0') || value[36..52].iter().all(|b| *b == b'0');
    let sampled = value[54] % 2 == 1;
    (parts_are_hex && !is_zero).then_some((trace_id, sampled))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::TraceIds;

    fn of(name: &'static str, value: &'static str) -> TraceIds {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        TraceIds::of(&headers)
    }

    #[test]
    fn keeps_a_good_trace_and_replaces_a_bad_one() {
        let good = of("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(good.trace_id_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let out = good.traceparent();
        assert!(out.to_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(out.to_str().unwrap().ends_with("-01"));
        let bad = of("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01");
        assert_ne!(bad.trace_id_str(), "00000000000000000000000000000000");
    }

    #[test]
    fn repeats_only_plain_request_ids() {
        assert_eq!(of("x-request-id", "01JCORRELATION").request_id_str(), "01JCORRELATION");
        assert_eq!(of("x-request-id", "has space").request_id_str().len(), 32);
    }
}
