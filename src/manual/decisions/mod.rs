//! Dated decisions, newest first on each page: what was decided, why, and what was rejected, so
//! that a rejected alternative is not tried again by accident.
//!
//! - [`server`]: connections of clients, HTTP/2, TLS on the public port, drains and upgrades.
//! - [`callers`]: GitLab's tokens, user tokens, rate limits.
//! - [`surfaces`]: the APIs that clients call, and their error statuses.
//! - [`chat`]: Duo Chat and prompts.
//! - [`code_suggestions`]: completion and generation of code.
//! - [`resilience`]: retries, fallback models, circuit breaker, health checks, hedging.
//! - [`upstream`]: load balancing, concurrency limits, connections to model servers, TLS and
//!   proxies on the way there.
//! - [`providers`]: Bedrock, Azure, Anthropic, GitLab's cloud, and their credentials.
//! - [`config`]: the configuration file and the features.
//! - [`operations`]: logs, metrics, token counts, the allocator.
//! - [`codebase`]: how the source is laid out.

pub mod callers;
pub mod chat;
pub mod code_suggestions;
pub mod codebase;
pub mod config;
pub mod operations;
pub mod providers;
pub mod resilience;
pub mod server;
pub mod surfaces;
pub mod upstream;
