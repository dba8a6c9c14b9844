//! Estimates of token counts that were not reported: of a stream that broke off before its last
//! event, which has them, or of a server that does not count.
//!
//! Estimated from bytes, at four per token: OpenAI's rule of thumb for English, about right for
//! code, low for scripts of three bytes per character. A stream gives a better lower bound than
//! bytes do: no server sends less than one token per event.

use super::{Generation, Image, Part, Usage};

/// Bytes of text per token.
const BYTES_PER_TOKEN: u64 = 4;

/// Amount of text that a stream has delivered since the counts were last reported. A provider that
/// reports running counts (vLLM's `continuous_usage_stats`, Anthropic's `message_start`) leaves
/// little or nothing to estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    request_bytes: u64,
    response_bytes: u64,
    events: u64,
}

impl Uncounted {
    /// Sets the length of the text in the request, in bytes.
    pub const fn asked(&mut self, bytes: usize) {
        self.request_bytes = bytes as u64;
    }

    /// Adds one event of the response with this many bytes of text.
    pub const fn piece(&mut self, bytes: usize) {
        self.events += 1;
        self.response_bytes += bytes as u64;
    }

    /// Resets the estimate of the response: the provider has reported counts that include it.
    pub const fn reported(&mut self) {
        self.events = 0;
        self.response_bytes = 0;
    }

    /// Returns the reported counts with estimates of the missing ones added, or `None` when nothing
    /// is missing. A request whose response never began is not estimated: it is unknown whether the
    /// model ever read it.
    pub fn estimate(self, reported: Usage) -> Option<Usage> {
        if self.events == 0 {
            return None;
        }
        let input = if reported.input > 0 {
            reported.input
        } else {
            self.request_bytes.div_ceil(BYTES_PER_TOKEN)
        };
        let output = reported
            .output
            .saturating_add(self.response_bytes.div_ceil(BYTES_PER_TOKEN).max(self.events));
        Some(Usage { input, output, ..reported })
    }
}

impl Generation {
    /// Returns the length of the inline pictures in base64, in bytes: part of a request's length,
    /// but no text.
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

    fn estimate(request_bytes: usize, events: &[usize]) -> Uncounted {
        let mut total = Uncounted::default();
        total.asked(request_bytes);
        events.iter().for_each(|bytes| total.piece(*bytes));
        total
    }

    #[test]
    fn four_bytes_are_a_token_and_an_event_is_one_at_least() {
        let estimated = |input, output| Some(Usage { input, output, ..Usage::default() });
        assert_eq!(estimate(401, &[20, 21]).estimate(Usage::default()), estimated(101, 11));
        assert_eq!(estimate(401, &[1, 2, 1]).estimate(Usage::default()), estimated(101, 3));
        assert_eq!(
            estimate(401, &[0]).estimate(Usage::default()),
            estimated(101, 1),
            "a call's name is an event without text"
        );
    }

    #[test]
    fn what_was_reported_stands() {
        let reported = Usage { input: 25, output: 1, cached: 5, reasoning: 0 };
        assert_eq!(estimate(401, &[40]).estimate(reported), Some(Usage { output: 11, ..reported }));
        assert_eq!(estimate(401, &[]).estimate(reported), None);
        assert_eq!(estimate(401, &[]).estimate(Usage::default()), None, "nothing arrived");
        let mut running = estimate(401, &[40]);
        running.reported();
        assert_eq!(running.estimate(reported), None);
    }
}
