//! **Weir**, an AI gateway: requests of a self-managed GitLab, routed by feature to the model that
//! the operator chose.
//!
//! # Map
//!
//! A module may use only modules further along the chain; `tests/tidy/` reads every
//! `use crate::…` and enforces it.
//!
//! ```text
//! main → command → app → {config, demo} → server → api → snapshot
//!      → {relay, auth, credentials} → {upstream, provider} → {route, prompt} → model
//!      → telemetry → error → {wire, generation, docs} → {secret, refreshed}
//! ```
//!
//! # Invariants
//!
//! - `upstream` is the only module that opens outbound connections. `provider` opens no socket and
//!   reads no clock.
//! - `wire`, `generation`, `docs`, `model`, `route`, `prompt` and `provider` do not mention tokio
//!   or hyper.
//! - Each module defines its own checked settings; `config` builds them. Only
//!   `config/toml/environment.rs` reads the environment.
//! - `api` never names a provider, `provider` never names a surface; they meet in `generation`.
//! - `provider/mod.rs`, `error/kind.rs` and `api/endpoint.rs` hold the only `match` over their
//!   enum; `api::Endpoint` has a second one, the dispatcher in `api/mod.rs`, and no other file
//!   names its variants.
//! - Only `app` and `server` spawn tasks; the only other threads are those of the log and of the
//!   configuration watcher. Only `main.rs` ends the process.
//! - Nothing fails in `Drop`; `Drop` only passes a finished value on.

pub mod api;
pub mod app;
pub mod auth;
pub mod command;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod docs;
pub mod error;
pub mod generation;
pub mod manual;
pub mod model;
pub mod prompt;
pub mod provider;
pub mod refreshed;
pub mod relay;
pub mod route;
pub mod secret;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;
pub mod wire;
