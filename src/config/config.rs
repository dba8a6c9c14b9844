//! `Config`: what the file and the environment set, as each module's own settings. Only `check`
//! makes one, so it cannot be wrong.

use std::sync::Arc;

use crate::config::toml::diagnostic::Fault;
use crate::config::toml::provenance::Provenance;
use crate::model::Model;
use crate::prompt::PromptRegistry;
use crate::route::{RequestModels, Table};
use crate::telemetry::{Format, Level};
use crate::{auth, docs, server, snapshot, upstream};

/// A configuration without errors.
#[derive(Debug)]
pub struct Config {
    /// Listeners and workers: what a reload cannot change.
    pub server: server::Settings,
    /// Certificate and key of the public listener, or `None` for plain HTTP.
    pub tls: Option<Arc<server::Identity>>,
    /// How model servers are reached: TLS, proxies, which addresses are allowed.
    pub outward: Arc<upstream::Egress>,
    /// Retry budget, hedging, circuit breaker and health checks.
    pub resilience: upstream::Resilience,
    /// The routing table: feature → model.
    pub table: Table,
    /// The models of the file, in its order. The table refers to the same ones.
    pub models: Vec<Arc<Model>>,
    /// What the table does with a model that a request names.
    pub request_models: RequestModels,
    /// The prompts, built in or the operator's.
    pub prompts: Arc<PromptRegistry>,
    /// How clients are authenticated.
    pub auth: auth::Settings,
    /// The keys that sign and validate users' tokens.
    pub user_tokens: auth::UserTokenSettings,
    /// Size limit, timeout and rates of one request.
    pub limits: snapshot::Limits,
    /// The Redis of `limits.shared`, if several gateways count rates together.
    pub shared: Option<upstream::RedisUrl>,
    /// The index of GitLab's documentation.
    pub docs: docs::Settings,
    /// Settings of Duo Chat.
    pub chat: snapshot::Chat,
    /// Level and format of the operator's log.
    pub log: (Level, Format),
    /// Whether prompts may be logged.
    pub log_prompts: bool,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Fault>,
    /// Where each value came from.
    pub provenance: Provenance,
}
