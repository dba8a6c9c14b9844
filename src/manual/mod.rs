//! The manual, compiled by rustdoc, so that a broken link breaks the build.
//!
//! - [`request`]: the life of a streamed request.
//! - [`endpoints`]: every endpoint, and what serves it.
//! - [`failures`]: what each failure looks like to a GitLab user and to the operator.
//! - [`defaults`]: the reason for every default.
//! - [`providers`]: what each provider receives of a request, and what is refused.
//! - [`stopping`]: a drain step by step, and upgrading without losing a request.
//! - [`threats`]: the threat model: each defence with its tests, and what is not defended.
//! - [`sizing`]: how many gateways for how many users, with the arithmetic.
//! - [`figures`]: measurements, and how to repeat them.
//! - [`complaints`]: what users of other gateways complain about, and the tests that rule it out
//!   here.
//! - [`dependencies`]: every crate, and why.
//! - [`decisions`]: dated decisions by topic, newest first.
//! - [`contract`]: what GitLab and the providers send and expect, cited from everywhere.

pub mod complaints;
pub mod contract;
pub mod decisions;
pub mod defaults;
pub mod dependencies;
pub mod endpoints;
pub mod failures;
pub mod figures;
pub mod providers;
pub mod request;
pub mod sizing;
pub mod stopping;
pub mod threats;
