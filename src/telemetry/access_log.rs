//! `Record` → one JSON line. Written by hand into a reused buffer: this runs once per request, and
//! a line of about 400 bytes through a generic serializer costs more than the routing.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::record::RequestInfo;
use super::redact::redacted;

/// Formats lines; caches the text of the current second, which rarely changes between two requests.
#[derive(Debug, Default)]
pub struct AccessLog {
    second: u64,
    second_text: String,
}

impl AccessLog {
    /// Appends the line of a finished request, including the newline.
    pub fn line(&mut self, facts: &RequestInfo, now: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":\"");
        self.timestamp(facts.wall, out);
        out.extend_from_slice(b"\",\"kind\":\"request\"");
        token(out, "request_id", facts.ids.request_id_str());
        token(out, "trace_id", facts.ids.trace_id_str());
        token(out, "surface", facts.surface.label());
        if let Some(path) = &facts.path {
            text(out, "path", path);
        }
        token(out, "feature", facts.feature);
        text(out, "model", &facts.model);
        token(out, "provider", facts.provider);
        number(out, "status", facts.status.into());
        token(out, "outcome", facts.outcome().label());
        if let Some(code) = facts.error_code() {
            token(out, "error_code", code);
        }
        if let Some(phase) = facts.phase() {
            token(out, "phase", phase.label());
        }
        if let Some(note) = &facts.note {
            // a model server's error may quote the key that it rejects
            text(out, "note", &redacted(note));
        }
        out.extend_from_slice(if facts.stream {
            b",\"stream\":true"
        } else {
            b",\"stream\":false"
        });
        Self::timings(facts, now, out);
        Self::sizes(facts, out);
        if let Some(client) = facts.client {
            key_of(out, "client");
            // Writing to a Vec cannot fail.
            let _ = write!(out, "\"{client}\"");
        }
        out.extend_from_slice(b"}\n");
    }

    fn timings(facts: &RequestInfo, now: Instant, out: &mut Vec<u8>) {
        let total = now.saturating_duration_since(facts.started);
        if let Some(ttft) = facts.time_to_first_token() {
            millis(out, "ttft_ms", ttft.as_micros());
        }
        if let Some(queue) = facts.queue.total(now) {
            millis(out, "queue_ms", queue.as_micros());
        }
        if let Some(upstream) = facts.upstream_time(now) {
            millis(out, "upstream_ms", upstream.as_micros());
        }
        millis(out, "duration_ms", total.as_micros());
        number(
            out,
            "overhead_us",
            u64::try_from(facts.overhead(now).as_micros()).unwrap_or(u64::MAX),
        );
        if facts.retries > 0 {
            number(out, "retries", facts.retries.into());
        }
        if let Some(first) = facts.failed_models.first() {
            text(out, "fallback_from", &first.model);
            token(out, "fallback_code", first.failure.row().code);
        }
    }

    fn sizes(facts: &RequestInfo, out: &mut Vec<u8>) {
        if facts.usage.is_reported() {
            number(out, "tokens_in", facts.usage.input);
            number(out, "tokens_out", facts.usage.output);
            if facts.usage.cached > 0 {
                number(out, "tokens_cached", facts.usage.cached);
            }
            if facts.usage_estimated {
                out.extend_from_slice(b",\"usage_estimated\":true");
            }
        }
        number(out, "bytes_in", facts.bytes_in);
        number(out, "bytes_out", facts.bytes_out);
    }

    /// Appends a time as `2026-11-24T06:46:36.123Z`.
    fn timestamp(&mut self, wall: SystemTime, out: &mut Vec<u8>) {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second || self.second_text.is_empty() {
            self.second = since.as_secs();
            self.second_text = second_text(since.as_secs());
        }
        out.extend_from_slice(self.second_text.as_bytes());
        let millis = since.subsec_millis();
        out.extend_from_slice(&[
            b'.',
            digit(millis / 100),
            digit(millis / 10 % 10),
            digit(millis % 10),
            b'Z',
        ]);
    }
}

const fn digit(n: u32) -> u8 {
    b'0' + (n % 10) as u8
}

/// Formats a time by RFC 3339, in UTC and to the second.
pub fn rfc3339(at: SystemTime) -> String {
    second_text(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()) + "Z"
}

/// Formats a Unix second as `YYYY-MM-DDTHH:MM:SS` (days to civil date: Howard Hinnant's algorithm).
fn second_text(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")
}

/// Appends a field whose value is known to need no escaping: Weir's own labels, the ids.
fn token(out: &mut Vec<u8>, key: &str, value: &str) {
    key_of(out, key);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// Appends a field with its value escaped.
fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    key_of(out, key);
    // Writing to a Vec cannot fail, and a str is always serialisable.
    let _ = serde_json::to_writer(out, value);
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    key_of(out, key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a field in milliseconds with three decimals, from microseconds.
fn millis(out: &mut Vec<u8>, key: &str, micros: u128) {
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    number(out, key, micros / 1000);
    let rest = (micros % 1000) as u32;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

fn key_of(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::second_text;

    #[test]
    fn seconds_become_dates() {
        assert_eq!(second_text(0), "1970-01-01T00:00:00");
        assert_eq!(second_text(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(second_text(1_762_435_200), "2025-11-06T13:20:00");
        assert_eq!(second_text(4_102_444_799), "2099-12-31T23:59:59");
    }
}
