//! The four timeouts of one call, and how the file's layers combine into them.

use std::time::Duration;

use crate::error::Phase;

/// Timeouts that apply to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For DNS resolution, the TCP connect and the TLS handshake together.
    pub connect: Duration,
    /// From the request's last byte to the first byte of the response's body.
    pub first_byte: Duration,
    /// Between two chunks of the response's body.
    pub idle: Duration,
    /// For the whole request, from its arrival.
    pub total: Duration,
}

impl Timeouts {
    /// Defaults of `[timeouts]`. 60 s is GitLab's own default and 600 s its maximum
    /// (contract::gitlab_client §12.1).
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        total: Duration::from_secs(600),
    };

    /// Returns the timeout of a phase.
    pub const fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connect => self.connect,
            Phase::FirstByte => self.first_byte,
            Phase::Idle => self.idle,
            Phase::Total => self.total,
        }
    }

    /// Returns these timeouts with the ones that a layer sets put over them.
    #[must_use]
    pub fn patched(self, patch: &TimeoutsPatch) -> Self {
        Self {
            connect: patch.connect.unwrap_or(self.connect),
            first_byte: patch.first_byte.unwrap_or(self.first_byte),
            idle: patch.idle.unwrap_or(self.idle),
            total: patch.total.unwrap_or(self.total),
        }
    }

    /// Returns these timeouts with the total cut to GitLab's own limit for a feature, if it has
    /// one.
    #[must_use]
    pub fn capped(mut self, total: Option<Duration>) -> Self {
        if let Some(total) = total {
            self.total = self.total.min(total);
        }
        self
    }
}

/// Timeouts that one layer of the file (`[timeouts]`, a model's or a feature's `timeouts`) sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutsPatch {
    /// `connect`
    pub connect: Option<Duration>,
    /// `first_byte`
    pub first_byte: Option<Duration>,
    /// `idle`
    pub idle: Option<Duration>,
    /// `total`
    pub total: Option<Duration>,
}
