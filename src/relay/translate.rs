//! frames → `Delta` → frames: the way of answers whose surface speaks another dialect than the
//! model.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::body::Fed;
use super::{MAX_ANSWER, too_long};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Encode};
use crate::provider::Decode;
use crate::telemetry::Facts;

/// What an encoder may keep for a call that says nothing, in bytes: so many calls are bounded, too.
const CALL: usize = 256;
/// What an encoder may keep until what comes before it has ended.
const MAX_HELD: usize = 1 << 20;

/// A decoder and an encoder, and the deltas between them.
pub(super) struct Translator {
    decoder: Box<dyn Decode>,
    encoder: Box<dyn Encode>,
    deltas: Vec<Delta>,
    /// Bytes of text so far, and [`CALL`] for each piece of a call.
    said: usize,
}

impl Translator {
    pub(super) const fn new(decoder: Box<dyn Decode>, encoder: Box<dyn Encode>) -> Self {
        Self { decoder, encoder, deltas: Vec::new(), said: 0 }
    }

    /// Encoders may hold what they were given (a line, white space, a call), so the whole is
    /// bounded as an answer that does not stream is.
    pub(super) fn feed(&mut self, chunk: Bytes, facts: &mut Facts, now: Instant) -> Fed {
        let decoded = self.decoder.feed(chunk, &mut self.deltas);
        let written = self.write(facts, now);
        let bounds = [(self.said, MAX_ANSWER), (self.encoder.held(), MAX_HELD)];
        let beyond = bounds.into_iter().find(|(bytes, most)| bytes > most);
        (written, decoded.and(beyond.map_or(Ok(()), |(_, most)| Err(too_long(most)))))
    }

    pub(super) fn finish(&mut self, facts: &mut Facts) -> Result<Bytes, GatewayError> {
        self.decoder.finish(&mut self.deltas)?;
        let mut out: BytesMut = self.write(facts, Instant::now()).into();
        self.encoder.finish(&mut out);
        if let Some(fault) = self.encoder.fault() {
            facts.failure = Some(Kind::NoAnswer);
            facts.note = Some(fault.to_owned());
        }
        Ok(out.freeze())
    }

    fn write(&mut self, facts: &mut Facts, now: Instant) -> Bytes {
        let mut out = BytesMut::new();
        for delta in self.deltas.drain(..) {
            self.said +=
                delta.text_len() + if matches!(delta, Delta::ToolCall { .. }) { CALL } else { 0 };
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
