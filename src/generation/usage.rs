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
    /// Whether the provider said anything.
    pub const fn is_reported(&self) -> bool {
        self.input > 0 || self.output > 0
    }
}
