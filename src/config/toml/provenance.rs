//! `Provenance`: where each value in force came from, for `weir check` and `weir explain`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::toml::document::path_text;

/// The value in force and its origin, by key.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    file: Arc<str>,
    settings: BTreeMap<String, Setting>,
}

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value as TOML, secrets masked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file.
    Line(usize),
    /// This environment variable, or several, separated by commas.
    Variable(String),
    /// The built-in default.
    #[default]
    Default,
}

impl Provenance {
    /// Sets the name that lines of the file are shown with.
    pub(crate) fn set_file(&mut self, file: Arc<str>) {
        self.file = file;
    }

    /// Returns the name of the file.
    pub fn file(&self) -> Arc<str> {
        Arc::clone(&self.file)
    }

    /// Records a value and its origin, unless the key has one: the file's values are recorded first
    /// and win.
    pub(crate) fn record(&mut self, key: String, setting: Setting) {
        self.settings.entry(key).or_insert(setting);
    }

    /// Returns the origin of a key's value. The key is written as in the file
    /// (`models.codestral.endpoint`).
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map(|setting| setting.origin.clone()).unwrap_or_default()
    }

    /// Returns the origin of a key's value as text: `weir.toml:12`, the name of a variable, or
    /// `default`.
    pub fn source(&self, key: &str) -> String {
        self.show(&self.origin(key))
    }

    /// Returns the full path of a model's key as the file writes it: names that are not bare are
    /// quoted.
    pub fn model_key(&self, model: &str, key: &str) -> String {
        format!("{}.{key}", path_text(&["models", model]))
    }

    /// Returns a key's value as TOML, or `None` when it has none.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|setting| setting.value.as_str())
    }

    /// Returns whether the file sets a key.
    pub fn is_in_file(&self, key: &str) -> bool {
        matches!(self.origin(key), Origin::Line(_))
    }

    /// Returns what decides how a Bedrock or an Azure model is reached: each key that has a value,
    /// with that value. The model `request` stands for models that requests bring.
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

    /// Returns every value in force, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// Returns an origin as text, with the file's name before a line.
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
