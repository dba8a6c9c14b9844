//! The manual, compiled by rustdoc so that its links break the build when they break.
//!
//! - [`request`]: the life of a streamed request.
//! - [`failures`]: what each failure looks like to a GitLab user and to the operator.
//! - [`defaults`]: why every default is what it is.
//! - [`providers`]: what each provider is given of a request, and what it is refused.
//! - [`stopping`]: a drain step by step, and upgrading without losing a request.
//! - [`threats`]: what is defended, by which test, and what is not.
//! - [`sizing`]: how many gateways for how many users, with the arithmetic.
//! - [`figures`]: what was measured, and how to measure it again.
//! - [`complaints`]: what users of other gateways complain of, and which test here says otherwise.
//! - [`dependencies`]: every crate, and why.
//! - [`decisions`]: dated decisions, newest first.

pub mod complaints;
pub mod decisions;
pub mod defaults;
pub mod dependencies;
pub mod failures;
pub mod figures;
pub mod providers;
pub mod request;
pub mod sizing;
pub mod stopping;
pub mod threats;
