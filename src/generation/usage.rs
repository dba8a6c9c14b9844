//! Token counts as the provider reported them, in one meaning for all of them.

/// Counts for one request. `input` is everything the model read, whether it came from a cache, went into one, or
/// neither. A provider that does not say leaves a field at zero.
///
/// | provider | everything read | of it from a cache |
/// |---|---|---|
/// | OpenAI, Azure, vLLM | `prompt_tokens` | `prompt_tokens_details.cached_tokens` |
/// | Anthropic | `input_tokens` + `cache_creation_input_tokens` + `cache_read_input_tokens` | `cache_read_input_tokens` |
/// | Bedrock (Converse) | `inputTokens` + `cacheWriteInputTokens` + `cacheReadInputTokens` | `cacheReadInputTokens` |
///
/// Sources, read 2026-11-25: Anthropic's SDK (`types/message.py`) says of `usage` that total input is the sum of the
/// three; AWS's guide to prompt caching that `inputTokens` is what was not cached and the total is the sum of the three.
/// OpenAI's models on Bedrock were seen to count the cached ones in `inputTokens` too (maximhq/bifrost#6942):
/// theirs come out too high here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub input: u64,
    /// Tokens written, reasoning included.
    pub output: u64,
    /// Of `input`, how many came from a prompt cache.
    pub cached: u64,
    /// Of `output`, how many were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Whether the provider said anything.
    pub const fn is_reported(&self) -> bool {
        self.input > 0 || self.output > 0
    }
}
