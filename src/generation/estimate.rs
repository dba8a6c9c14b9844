//! Token counts that no provider reported: those of a stream that broke off before its last event,
//! which carries them, or of a server that does not count.
//!
//! Estimated from bytes, at four to a token: OpenAI's rule of thumb for English, about right for
//! code, low for scripts of three bytes a character. A stream gives a better floor than bytes do:
//! no server sends less than one token in a chunk.

use super::{Generation, Image, Part, Usage};

/// Bytes of text per token.
const BYTES_PER_TOKEN: u64 = 4;

/// The bytes and chunks of a stream that no reported count covers yet. A provider that reports
/// running counts (vLLM's `continuous_usage_stats`, Anthropic's `message_start`) leaves few or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenEstimate {
    request_bytes: u64,
    bytes: u64,
    chunks: u64,
}

impl TokenEstimate {
    /// Sets the bytes of text in the request.
    pub const fn set_request(&mut self, bytes: usize) {
        self.request_bytes = bytes as u64;
    }

    /// Adds a chunk of the response with this many bytes of text.
    pub const fn add_chunk(&mut self, bytes: usize) {
        self.chunks += 1;
        self.bytes += bytes as u64;
    }

    /// Resets the chunks: the provider has reported counts, which cover them.
    pub const fn on_report(&mut self) {
        self.chunks = 0;
        self.bytes = 0;
    }

    /// Returns the reported counts completed by the estimate, or `None` when no chunk is uncovered.
    /// A request without a chunk of response is not counted: the model may never have read it.
    pub fn complete(self, reset: Usage) -> Option<Usage> {
        if self.chunks == 0 {
            return None;
        }
        let input = if reset.input > 0 {
            reset.input
        } else {
            self.request_bytes.div_ceil(BYTES_PER_TOKEN)
        };
        let output =
            reset.output.saturating_add(self.bytes.div_ceil(BYTES_PER_TOKEN).max(self.chunks));
        Some(Usage { input, output, ..reset })
    }
}

impl Generation {
    /// Returns the bytes of its inline pictures in base64, which are part of a request's length but
    /// not text.
    pub fn inline_image_bytes(&self) -> usize {
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
    use super::{TokenEstimate, Usage};

    fn of(request: usize, chunks: &[usize]) -> TokenEstimate {
        let mut estimate = TokenEstimate::default();
        estimate.set_request(request);
        chunks.iter().for_each(|bytes| estimate.add_chunk(*bytes));
        estimate
    }

    #[test]
    fn four_bytes_are_a_token_and_a_chunk_is_one_at_least() {
        let estimated = |input, output| Some(Usage { input, output, ..Usage::default() });
        assert_eq!(of(401, &[20, 21]).complete(Usage::default()), estimated(101, 11));
        assert_eq!(of(401, &[1, 2, 1]).complete(Usage::default()), estimated(101, 3));
        assert_eq!(
            of(401, &[0]).complete(Usage::default()),
            estimated(101, 1),
            "a tool call's name is a chunk without text"
        );
    }

    #[test]
    fn what_was_reported_stands() {
        let reported = Usage { input: 25, output: 1, cached: 5, reasoning: 0 };
        assert_eq!(of(401, &[40]).complete(reported), Some(Usage { output: 11, ..reported }));
        assert_eq!(of(401, &[]).complete(reported), None);
        assert_eq!(of(401, &[]).complete(Usage::default()), None, "nothing arrived");
        let mut running = of(401, &[40]);
        running.on_report();
        assert_eq!(running.complete(reported), None);
    }
}
