//! Token counts as the provider reported them.

/// Counts for one request. A provider that does not say leaves a field at zero.
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
    /// What is known after a later report. Counts are cumulative, and a later report may leave out what an
    /// earlier one said.
    #[must_use]
    pub const fn and_then(self, later: Self) -> Self {
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

    /// Whether the provider said anything.
    pub const fn is_reported(&self) -> bool {
        self.input > 0 || self.output > 0
    }
}
