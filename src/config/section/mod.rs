//! One file for each section of the configuration file. Its `read` reads the section's keys and
//! returns the settings of the module that they are for, or [`Reported`] after a fault. What it
//! takes in addition to the reader are settings of other sections.
//!
//! [`Reported`]: crate::config::toml::diagnostic::Reported

pub(super) mod auth;
pub(super) mod azure;
pub(super) mod bedrock;
pub(super) mod chat;
pub(super) mod cloud;
pub(super) mod docs;
pub(super) mod egress;
pub(super) mod entra;
pub(super) mod families;
pub(super) mod features;
pub(super) mod limits;
pub(super) mod models;
pub(super) mod prompts;
pub(super) mod provider_env;
pub(super) mod proxy;
pub(super) mod replicas;
pub(super) mod resilience;
pub(super) mod server;
pub(super) mod static_keys;
pub(super) mod telemetry;
pub(super) mod timeouts;
pub(super) mod tls;
pub(super) mod user_tokens;
