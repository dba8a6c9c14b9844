//! `Config`: what the file and the environment say, as each module's own settings. Only `check`
//! makes one, so it cannot be wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::toml::diagnostic::Fault;
use crate::config::toml::document::path_text;
use crate::model::Model;
use crate::prompt::Registry;
use crate::route::{RequestModels, Table};
use crate::telemetry::{Format, Level};
use crate::{auth, docs, server, snapshot, upstream};

/// A configuration that checked.
#[derive(Debug)]
pub struct Config {
    /// Listeners and workers: what a reload cannot change.
    pub server: server::Settings,
    /// Certificate and key of the public listener; none: plain HTTP.
    pub tls: Option<Arc<server::Identity>>,
    /// How model servers are reached.
    pub outward: Arc<upstream::Outward>,
    /// How replicas are judged and tried.
    pub resilience: upstream::Resilience,
    /// Feature → model.
    pub table: Table,
    /// The models of the file, in its order; the table's own.
    pub models: Vec<Arc<Model>>,
    /// What the table does with a model that a request names.
    pub request_models: RequestModels,
    /// What models are told.
    pub prompts: Arc<Registry>,
    /// Who may call.
    pub auth: auth::Settings,
    /// The keys of users' tokens.
    pub user_tokens: auth::TokenSettings,
    /// Sizes and waits of one request.
    pub limits: snapshot::Limits,
    /// `limits.shared`
    pub shared: Option<upstream::RedisUrl>,
    /// GitLab's documentation.
    pub docs: docs::Settings,
    /// How Duo Chat is answered.
    pub chat: snapshot::Chat,
    /// The operator's log.
    pub log: (Level, Format),
    /// Whether prompts may be logged.
    pub log_prompts: bool,
    /// What is odd but not wrong.
    pub warnings: Vec<Fault>,
    /// Where each value came from.
    pub provenance: Provenance,
}

/// Where each value came from, by key.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    file: Arc<str>,
    settings: BTreeMap<String, Setting>,
}

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As TOML, secrets masked.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// Who said a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file.
    Line(usize),
    /// This environment variable, or these.
    Variable(String),
    /// Nobody.
    #[default]
    Default,
}

impl Provenance {
    pub(super) fn of_file(&mut self, file: Arc<str>) {
        self.file = file;
    }

    /// The file wins: what it says is noted first and stays.
    pub(super) fn note(&mut self, key: String, setting: Setting) {
        self.settings.entry(key).or_insert(setting);
    }

    /// Who said the value of a key, written as in the file (`models.codestral.endpoint`).
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map(|setting| setting.origin.clone()).unwrap_or_default()
    }

    /// The same as text: `weir.toml:12`, the name of a variable, or `default`.
    pub fn source(&self, key: &str) -> String {
        self.show(&self.origin(key))
    }

    /// A key of a model, as the file writes it: names that are not bare are quoted.
    pub fn model_key(&self, model: &str, key: &str) -> String {
        format!("{}.{key}", path_text(&["models", model]))
    }

    /// Whether the file says anything about a key.
    pub fn is_in_file(&self, key: &str) -> bool {
        matches!(self.origin(key), Origin::Line(_))
    }

    /// What decides how a Bedrock or an Azure model is reached, as far as it was said: key and
    /// value in force. `request` stands for models that requests bring.
    pub fn access_of(&self, model: &str) -> impl Iterator<Item = (&'static str, &Setting)> {
        const KEYS: [&str; 16] = [
            "region",
            "endpoint",
            "signing_host",
            "credentials",
            "guardrail",
            "guardrail.identifier",
            "guardrail.version",
            "bedrock_openai",
            "api_version",
            "api_key",
            "entra",
            "entra.tenant",
            "entra.client_id",
            "entra.token_file",
            "entra.authority",
            "entra.scope",
        ];
        let setting = move |key| Some((key, self.settings.get(&self.model_key(model, key))?));
        KEYS.into_iter().filter_map(setting)
    }

    /// Every value in force, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// An origin as text.
    pub fn show(&self, origin: &Origin) -> String {
        match origin {
            Origin::Line(line) => format!("{}:{line}", self.file),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}
