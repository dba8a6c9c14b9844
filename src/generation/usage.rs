//! Token counts as the provider reported them, with one definition for all providers.

/// Token counts of one request. `input` is everything the model read, whether it came from a cache,
/// was written to one, or neither. A field that the provider does not report is zero.
///
/// | provider | everything read | of it from a cache |
/// |---|---|---|
/// | OpenAI, Azure, vLLM | `prompt_tokens` | `prompt_tokens_details.cached_tokens` |
/// | Anthropic | `input_tokens` + `cache_creation_input_tokens` + `cache_read_input_tokens` | `cache_read_input_tokens` |
/// | Bedrock (Converse) | `inputTokens` + `cacheWriteInputTokens` + `cacheReadInputTokens` | `cacheReadInputTokens` |
///
/// Sources, read 2026-11-25: Anthropic's SDK (`types/message.py`) says of `usage` that total input
/// is the sum of the three; AWS's guide to prompt caching that `inputTokens` is what was not cached
/// and the total is the sum of the three. OpenAI's models on Bedrock were seen to count the cached
/// ones in `inputTokens` too (maximhq/bifrost#6942): theirs come out too high here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input: u64,
    /// Tokens written, reasoning included.
    pub output: u64,
    /// Tokens of `input` that came from a prompt cache.
    pub cached: u64,
    /// Tokens of `output` that were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Returns the counts updated by a later report. Counts are cumulative, and a later report may
    /// omit a count of an earlier one.
    #[must_use]
    pub const fn merged_with(self, later: Self) -> Self {
        const fn last(earlier: u64, later: u64) -> u64 {
            if later == 0 { earlier } else { later }
        }
        Self {
            input: last(self.input, later.input),
            output: last(self.output, later.output),
            cached: last(self.cached, later.cached),
            reasoning: last(self.reasoning, later.reasoning),
        }
    }

    /// Returns whether the provider reported any count.
    pub const fn is_reported(&self) -> bool {
        self.input > 0 || self.output > 0
    }
}
