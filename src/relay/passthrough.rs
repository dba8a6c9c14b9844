//! Same dialect in and out: bytes are forwarded, usage is tapped, the usage chunk that Weir requested
//! is removed again. Nothing is re-serialised.

use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::time::Instant;

use super::chunk::FeedResult;
use crate::error::{GatewayError, Kind};
use crate::provider::{Dialect, EventInfo, Markers, excerpt};
use crate::telemetry::RequestInfo;
use crate::upstream::HOP_BY_HOP;
use crate::wire::{ChunkBuffer, SseFrames, event_data};

/// The longest event in bytes, which bounds the memory of one stream.
const MAX_EVENT: usize = 4 << 20;
/// The bytes kept of the end of a whole answer, in which its token counts are.
const TAIL_LEN: usize = 2048;
/// The longest whole answer, in bytes, that is buffered because it begins like an error.
const MAX_ERROR: usize = 64 << 10;

/// Removes the headers of the upstream connection, and the length of a body that may be changed.
pub(super) fn clean_headers(headers: &mut HeaderMap, may_change: bool) {
    if let Some(named) = headers.remove(header::CONNECTION) {
        let named = named.to_str().unwrap_or_default().to_owned();
        named.split(',').for_each(|name| _ = headers.remove(name.trim()));
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // not ours to forward: they disclose the operator's software and account, or hold for that
    // host only
    for name in
        [header::SERVER, header::SET_COOKIE, header::ALT_SVC, header::STRICT_TRANSPORT_SECURITY]
    {
        headers.remove(name);
    }
    headers.remove("anthropic-organization-id");
    if may_change {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// A tap on a whole answer that is forwarded: its first byte counts as the first token, its end holds
/// the token counts. A body that begins like an error, whatever its status, is buffered until it can
/// be parsed; the answer of GitLab's gateway never is.
pub(super) struct UsageTail {
    dialect: &'static dyn Dialect,
    /// All bytes so far, as long as they may be an error.
    suspect: Option<ChunkBuffer>,
    end: Bytes,
}

impl UsageTail {
    pub(super) fn new(dialect: &'static dyn Dialect) -> Self {
        Self { dialect, suspect: Some(ChunkBuffer::default()), end: Bytes::new() }
    }

    pub(super) fn feed(&mut self, chunk: Bytes, facts: &mut RequestInfo, now: Instant) -> Bytes {
        let Some(suspect) = &mut self.suspect else { return self.pass(chunk, facts, now) };
        suspect.push(chunk);
        let markers = self.dialect.markers();
        if suspect.len() < MAX_ERROR && markers.may_be_error(suspect.as_slice()) {
            return Bytes::new();
        }
        let cleared = std::mem::take(suspect).into_bytes();
        self.suspect = None;
        self.pass(cleared, facts, now)
    }

    fn pass(&mut self, chunk: Bytes, facts: &mut RequestInfo, now: Instant) -> Bytes {
        facts.first_token.get_or_insert(now);
        self.end = if chunk.len() >= TAIL_LEN || self.end.is_empty() {
            chunk.slice(chunk.len().saturating_sub(TAIL_LEN)..)
        } else {
            let keep = self.end.len().min(TAIL_LEN - chunk.len());
            [&self.end[self.end.len() - keep..], &chunk].concat().into()
        };
        chunk
    }

    /// Returns the buffered bytes. Fails when they are an error.
    pub(super) fn finish(&mut self, facts: &mut RequestInfo) -> Result<Bytes, GatewayError> {
        let mut rest = self.suspect.take().unwrap_or_default().into_bytes();
        if !rest.is_empty() {
            if let Some(kind) = self.dialect.inspect_event(&rest).error {
                return Err(failed_at_once(kind, &rest));
            }
            rest = self.pass(rest, facts, Instant::now());
        }
        facts.usage = self.dialect.parse_usage(&self.end).unwrap_or(facts.usage);
        Ok(rest)
    }
}

/// Returns the failure of a server that sent an error before any content: an ordinary failure, though
/// its status was 200.
fn failed_at_once(kind: Kind, error: &[u8]) -> GatewayError {
    GatewayError::new(kind, "The model server failed before its first word")
        .internal(format!("an error in an answer with status 200: {}", excerpt(error)))
        .upstream_body(Bytes::copy_from_slice(error))
}

/// A tap on a stream of events that is forwarded.
pub(super) struct Tap {
    dialect: &'static dyn Dialect,
    markers: &'static Markers,
    frames: SseFrames,
    hide_usage: bool,
    saw_content: bool,
    /// The bytes around the text in the first event of content, subtracted from the length of later
    /// events, which are counted without being parsed.
    envelope: usize,
    done: bool,
    stopped: bool,
}

impl Tap {
    pub(super) fn new(dialect: &'static dyn Dialect, hide_usage: bool) -> Self {
        let frames = SseFrames::new(MAX_EVENT);
        Self {
            dialect,
            markers: dialect.markers(),
            frames,
            hide_usage,
            saw_content: false,
            envelope: 0,
            done: false,
            stopped: false,
        }
    }

    /// Returns the bytes of a chunk for the client. Whole events only, so that a usage chunk can be
    /// removed however its bytes arrive; a client cannot act on part of an event anyway.
    pub(super) fn feed(
        &mut self,
        chunk: Bytes,
        facts: &mut RequestInfo,
        now: Instant,
    ) -> FeedResult {
        let whole_before = self.frames.pending().is_empty();
        self.frames.feed(chunk.clone());
        let mut shown = ChunkBuffer::default();
        match self.cut(&mut shown, facts, now) {
            Ok(hidden) if whole_before && !hidden && self.frames.pending().is_empty() => {
                (chunk, Ok(()))
            }
            result => (shown.into_bytes(), result.map(|_| ())),
        }
    }

    /// Inspects each whole event; returns whether one was hidden.
    fn cut(
        &mut self,
        shown: &mut ChunkBuffer,
        facts: &mut RequestInfo,
        now: Instant,
    ) -> Result<bool, GatewayError> {
        let mut hidden = false;
        while let Some(event) = self.frames.next_event().map_err(|error| too_long(&error))? {
            if self.look(&event, facts, now)? {
                hidden = true;
            } else {
                shown.push(event);
            }
        }
        Ok(hidden)
    }

    /// Returns the rest of a stream whose last event lacks its blank line. Fails when the stream was
    /// cut.
    pub(super) fn finish(&mut self, facts: &mut RequestInfo) -> Result<Bytes, GatewayError> {
        let rest = self.frames.take_rest();
        if !rest.is_empty() && self.look(&rest, facts, Instant::now())? {
            return Ok(Bytes::new());
        }
        if self.done || self.stopped {
            return Ok(rest);
        }
        // Without an end marker or a reason a stream was cut, however cleanly the connection
        // closed.
        Err(GatewayError::new(
            Kind::UpstreamBroken,
            "The model server closed the stream before the end",
        )
        .internal("the stream ended without a reason and without an end marker"))
    }

    /// Parses an event where it may matter; returns whether it is to be hidden.
    fn look(
        &mut self,
        event: &[u8],
        facts: &mut RequestInfo,
        now: Instant,
    ) -> Result<bool, GatewayError> {
        let finished = self.markers.is_finished(event);
        self.stopped |= finished;
        if self.saw_content && !finished && !self.markers.may_exceed_content(event) {
            if event.first() != Some(&b':') {
                facts.token_estimate.add_chunk(event.len().saturating_sub(self.envelope));
            }
            return Ok(false);
        }
        let Some(data) = event_data(event) else { return Ok(false) };
        let EventInfo { content, text_len, usage, only_usage, done, error } =
            self.dialect.inspect_event(&data);
        if let Some(kind) = error.filter(|_| !self.saw_content) {
            return Err(failed_at_once(kind, &data));
        }
        if error.is_some() {
            // the client reads the server's own error; the record must not count a success
            facts.failure = error;
            self.done = true;
        }
        if content {
            facts.first_token.get_or_insert(now);
            facts.token_estimate.add_chunk(text_len);
        }
        if content && !self.saw_content {
            self.saw_content = true;
            self.envelope = event.len().saturating_sub(text_len);
        }
        if let Some(usage) = usage {
            facts.usage = facts.usage.merged_with(usage);
            facts.token_estimate.on_report();
        }
        self.done |= done;
        Ok(only_usage && self.hide_usage)
    }
}

fn too_long(error: &crate::wire::EventTooLong) -> GatewayError {
    GatewayError::new(Kind::UpstreamBroken, "The model server's answer could not be read")
        .internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::{MAX_ERROR, UsageTail};
    use crate::error::{GatewayError, Kind};
    use crate::model::ProviderKind;
    use crate::provider::dialect;
    use crate::telemetry::Record;

    /// Returns the response to a whole answer that arrives in these pieces.
    fn passed(kind: ProviderKind, pieces: &[&[u8]]) -> Result<Bytes, GatewayError> {
        let mut record = Record::for_nobody();
        let (mut tail, facts) = (UsageTail::new(dialect(kind)), &mut record.facts);
        let feed = |piece: &&[u8]| tail.feed(Bytes::copy_from_slice(piece), facts, Instant::now());
        let mut out: Vec<Bytes> = pieces.iter().map(feed).collect();
        out.push(tail.finish(facts)?);
        Ok(out.concat().into())
    }

    #[test]
    fn an_error_is_one_in_whatever_pieces_it_comes() {
        for (kind, stated) in [
            (ProviderKind::OpenAi, r#" { "error" : {"message":"no","code":500}}"#),
            (ProviderKind::OpenAi, r#"{"error":"no"}"#),
            (
                ProviderKind::Anthropic,
                r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#,
            ),
        ] {
            for size in [1, 5, 1000] {
                let pieces: Vec<&[u8]> = stated.as_bytes().chunks(size).collect();
                assert_eq!(
                    passed(kind, &pieces).unwrap_err().kind(),
                    Kind::UpstreamBroken,
                    "{stated}"
                );
            }
            // forwarded as it arrived
            assert_eq!(passed(ProviderKind::Gitlab, &[stated.as_bytes()]).unwrap(), stated);
        }
    }

    #[test]
    fn what_only_mentions_errors_is_an_answer() {
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(MAX_ERROR));
        for stated in [
            r#"{"error":null,"choices":[]}"#,
            r#"{"choices":[{"message":{"content":"{\"error\": 1}"}}]}"#,
            r#"{"id":"error","type":"error"}"#,
            r#"{"type":"message","content":[]}"#,
            r#"{"error":{"#,
            r#"{"type":"error"#,
            "error: none",
            "",
            &long,
        ] {
            for size in [1, 5, 1000] {
                let pieces: Vec<&[u8]> = stated.as_bytes().chunks(size).collect();
                assert_eq!(passed(ProviderKind::OpenAi, &pieces).unwrap(), stated);
            }
        }
    }
}
