//! Frames → `Delta` → frames: answers whose surface has another format than the model server.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::chunk::FeedResult;
use super::{MAX_ANSWER, too_long};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Encode};
use crate::provider::Decode;
use crate::telemetry::RequestInfo;

/// Bytes that an encoder may keep for an empty tool call, so that their number is bounded, too.
const CALL_OVERHEAD: usize = 256;
/// Bytes that an encoder may keep until the block before them has ended.
const MAX_HELD: usize = 1 << 20;

/// A decoder and an encoder, and the deltas between them.
pub(super) struct Translator {
    decoder: Box<dyn Decode>,
    encoder: Box<dyn Encode>,
    deltas: Vec<Delta>,
    /// Bytes of text so far, and [`CALL_OVERHEAD`] for each fragment of a call.
    text_len: usize,
}

impl Translator {
    pub(super) const fn new(decoder: Box<dyn Decode>, encoder: Box<dyn Encode>) -> Self {
        Self { decoder, encoder, deltas: Vec::new(), text_len: 0 }
    }

    /// Returns the encoded bytes of a chunk. Encoders may keep their input (a line, white space, a
    /// call), so the sum is bounded like an answer that is not streamed.
    pub(super) fn feed(
        &mut self,
        chunk: Bytes,
        facts: &mut RequestInfo,
        now: Instant,
    ) -> FeedResult {
        let decoded = self.decoder.feed(chunk, &mut self.deltas);
        let written = self.write(facts, now);
        let bounds = [(self.text_len, MAX_ANSWER), (self.encoder.buffered_bytes(), MAX_HELD)];
        let beyond = bounds.into_iter().find(|(bytes, most)| bytes > most);
        (written, decoded.and(beyond.map_or(Ok(()), |(_, most)| Err(too_long(most)))))
    }

    pub(super) fn finish(&mut self, facts: &mut RequestInfo) -> Result<Bytes, GatewayError> {
        self.decoder.finish(&mut self.deltas)?;
        let mut out: BytesMut = self.write(facts, Instant::now()).into();
        self.encoder.finish(&mut out);
        if let Some(fault) = self.encoder.failure() {
            facts.failure = Some(Kind::NoAnswer);
            facts.note = Some(fault.to_owned());
        }
        Ok(out.freeze())
    }

    fn write(&mut self, facts: &mut RequestInfo, now: Instant) -> Bytes {
        let mut out = BytesMut::new();
        for delta in self.deltas.drain(..) {
            self.text_len += delta.text_len()
                + if matches!(delta, Delta::ToolCall { .. }) { CALL_OVERHEAD } else { 0 };
            if delta.is_content() {
                facts.first_token.get_or_insert(now);
                facts.token_estimate.add_chunk(delta.text_len());
            }
            if let Delta::Usage(usage) = &delta {
                facts.usage = *usage;
                facts.token_estimate.on_report();
            }
            self.encoder.delta(&delta, &mut out);
        }
        out.freeze()
    }
}
