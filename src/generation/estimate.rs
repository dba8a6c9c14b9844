//! Token counts that nobody reported: those of a stream that broke off before its last event, which
//! holds them, or of a server that does not count.
//!
//! Estimated from bytes, at four to a token: OpenAI's rule of thumb for English, about right for
//! code, low for scripts of three bytes a character. A stream gives a better floor than bytes do:
//! no server sends less than one token in a piece.

use super::{Generation, Image, Part, Usage};

/// Bytes of text to a token.
const BYTES_PER_TOKEN: u64 = 4;

/// What a stream has delivered since the counts were last reported. A provider that reports running
/// counts (vLLM's `continuous_usage_stats`, Anthropic's `message_start`) leaves little of it, or
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    asked: u64,
    bytes: u64,
    pieces: u64,
}

impl Uncounted {
    /// A request with this much text went to the provider.
    pub const fn asked(&mut self, bytes: usize) {
        self.asked = bytes as u64;
    }

    /// A piece of the answer, with this much text, has arrived.
    pub const fn piece(&mut self, bytes: usize) {
        self.pieces += 1;
        self.bytes += bytes as u64;
    }

    /// The provider has reported counts: what has arrived is in them.
    pub const fn reported(&mut self) {
        self.pieces = 0;
        self.bytes = 0;
    }

    /// The counts with what is missing in them estimated, or `None` when nothing is. A request of
    /// whose answer nothing arrived is not counted: nobody knows whether the model ever read it.
    pub fn estimate(self, reported: Usage) -> Option<Usage> {
        if self.pieces == 0 {
            return None;
        }
        let input =
            if reported.input > 0 { reported.input } else { self.asked.div_ceil(BYTES_PER_TOKEN) };
        let output =
            reported.output.saturating_add(self.bytes.div_ceil(BYTES_PER_TOKEN).max(self.pieces));
        Some(Usage { input, output, ..reported })
    }
}

impl Generation {
    /// Bytes of its inline pictures in base64: part of a request's length, and no text.
    pub fn picture_bytes(&self) -> usize {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        let bytes = parts.map(|part| match part {
            Part::Image(Image::Inline { base64, .. }) => base64.len(),
            Part::Image(Image::Url(_))
            | Part::Text(_)
            | Part::Reasoning { .. }
            | Part::CachePoint { .. }
            | Part::ToolCall(_)
            | Part::ToolResult { .. } => 0,
        });
        bytes.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Uncounted, Usage};

    fn of(asked: usize, pieces: &[usize]) -> Uncounted {
        let mut uncounted = Uncounted::default();
        uncounted.asked(asked);
        pieces.iter().for_each(|bytes| uncounted.piece(*bytes));
        uncounted
    }

    #[test]
    fn four_bytes_are_a_token_and_a_piece_is_one_at_least() {
        let estimated = |input, output| Some(Usage { input, output, ..Usage::default() });
        assert_eq!(of(401, &[20, 21]).estimate(Usage::default()), estimated(101, 11));
        assert_eq!(of(401, &[1, 2, 1]).estimate(Usage::default()), estimated(101, 3));
        assert_eq!(
            of(401, &[0]).estimate(Usage::default()),
            estimated(101, 1),
            "a call's name is a piece without text"
        );
    }

    #[test]
    fn what_was_reported_stands() {
        let reported = Usage { input: 25, output: 1, cached: 5, reasoning: 0 };
        assert_eq!(of(401, &[40]).estimate(reported), Some(Usage { output: 11, ..reported }));
        assert_eq!(of(401, &[]).estimate(reported), None);
        assert_eq!(of(401, &[]).estimate(Usage::default()), None, "nothing arrived");
        let mut running = of(401, &[40]);
        running.reported();
        assert_eq!(running.estimate(reported), None);
    }
}
