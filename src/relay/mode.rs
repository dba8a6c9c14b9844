//! What the relay does with the bytes of an answer: hand them on, hand them on event by event, or
//! decode and encode them anew.

use bytes::Bytes;
use tokio::time::Instant;

use super::chunk::FeedResult;
use super::passthrough::{Tap, UsageTail};
use super::translate::Translator;
use crate::error::GatewayError;
use crate::telemetry::RequestInfo;

/// How the bytes of an answer become those of the response.
pub(super) enum BodyMode {
    /// Forwarded unread; the last bytes are kept, for the token counts in them. `streams`: the
    /// client may expect the body chunk by chunk.
    Opaque { tail: UsageTail, streams: bool },
    /// Forwarded event by event, each inspected.
    SseTap(Tap),
    /// Decoded to deltas and encoded in the surface's format.
    Transcode(Translator),
}

impl BodyMode {
    /// Returns the bytes for the client that a chunk yields, possibly none yet. A failure may come
    /// with bytes that precede it.
    pub(super) fn feed(
        &mut self,
        chunk: Bytes,
        facts: &mut RequestInfo,
        now: Instant,
    ) -> FeedResult {
        match self {
            Self::Opaque { tail, .. } => (tail.feed(chunk, facts, now), Ok(())),
            Self::SseTap(tap) => tap.feed(chunk, facts, now),
            Self::Transcode(translator) => translator.feed(chunk, facts, now),
        }
    }

    /// Returns whether the buffered bytes may be sent, which commits the response to this attempt.
    /// Half of a whole answer is of no use, so that a whole one commits at its end.
    pub(super) const fn has_content(&self, facts: &RequestInfo) -> bool {
        match self {
            Self::Opaque { streams, .. } => *streams,
            Self::SseTap(_) | Self::Transcode(_) => facts.first_token.is_some(),
        }
    }

    /// Returns the last bytes for the client; fails when the answer is incomplete.
    pub(super) fn finish(&mut self, facts: &mut RequestInfo) -> Result<Bytes, GatewayError> {
        match self {
            Self::Opaque { tail, .. } => tail.finish(facts),
            Self::SseTap(tap) => tap.finish(facts),
            Self::Transcode(translator) => translator.finish(facts),
        }
    }
}
