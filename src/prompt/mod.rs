//! Prompts: the messages that a model receives for each of GitLab's features, as data with a
//! template engine. Pure: files are read by `config`, which also overlays the operator's directory.
//!
//! ```text
//! config/prompts/<id>/base.toml      every family
//! config/prompts/<id>/<family>.toml  only what this family needs otherwise; the rest is base's
//! config/prompts/shared/<name>.txt   included by others: {% include "shared/<name>.txt" %}
//! ```
//!
//! Sources: contract::gitlab_client §8, contract::ai_gateway_server §3. The texts are our own.

mod definition;
mod embedded;
mod render;
mod template;
mod version;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

pub use definition::DefinitionError;
pub use render::{RenderError, RenderedPrompt};
pub use template::TemplateError;

use crate::generation::{Role, Sampling};
use crate::model::Family;
use crate::route::Feature;
use template::Engine;
use version::{Constraint, Versions};

/// One prompt for one family, or for all of them.
#[derive(Debug)]
pub struct Prompt {
    /// GitLab's identifier: `chat/explain_code`.
    pub id: Arc<str>,
    /// The family folder that it belongs to; `None` is `base`.
    pub family: Option<Arc<str>>,
    /// Its purpose, in a line.
    pub description: String,
    /// The feature that `[features]` routes it by (contract::gitlab_client §5.1;
    /// contract::ai_gateway_server §3.4).
    pub feature: Feature,
    /// The unit primitives of which a caller needs one (contract::gitlab_client §5.3).
    pub unit_primitives: Vec<String>,
    /// Whether GitLab requests it as streamed raw text, whose error bodies people read.
    pub streams: bool,
    /// The inputs that a request must contain.
    pub inputs: Vec<String>,
    /// The inputs that it may contain; `none` in the template when absent.
    pub optional: Vec<String>,
    /// Example inputs, to render it with.
    pub example: serde_json::Map<String, serde_json::Value>,
    /// The text of its file.
    pub source: String,
    versions: Versions,
    sampling: Sampling,
    /// The role and the template's name of each message.
    messages: Vec<(Role, String)>,
    engine: Arc<Engine>,
}

/// Why a prompt is not available. `Display` is the `detail` of the response
/// (contract::gitlab_client §8.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is no prompt of this id: 404.
    #[error("Prompt '{0}' not found")]
    Prompt(String),
    /// No version matches the constraint: 400.
    #[error("No version matching '{constraint}' (available: {available})")]
    Version {
        /// The constraint.
        constraint: String,
        /// The versions there are.
        available: String,
    },
    /// The version is not a constraint: 422.
    #[error("Invalid version constraint")]
    Constraint,
}

/// Every prompt, validated.
#[derive(Debug, Default)]
pub struct PromptRegistry {
    /// By id, `base` first.
    prompts: BTreeMap<Arc<str>, Vec<Prompt>>,
}

impl PromptRegistry {
    /// Validates files, given as path below the prompts' directory and text. Fails with every error
    /// at once.
    pub fn load<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<DefinitionError>> {
        definition::load(files)
    }

    /// Returns the registry of the embedded files, built once.
    pub fn embedded() -> Result<Arc<Self>, Vec<DefinitionError>> {
        static LOADED: LazyLock<Result<Arc<PromptRegistry>, Vec<DefinitionError>>> =
            LazyLock::new(|| PromptRegistry::load(embedded::FILES.iter().copied()).map(Arc::new));
        LOADED.clone()
    }

    /// Returns the embedded files: path and text.
    pub const fn embedded_files() -> &'static [(&'static str, &'static str)] {
        embedded::FILES
    }

    /// Returns the prompt of this id for a model of this family. `version` is GitLab's constraint;
    /// `None` and `""` are `^1.0.0`. The family's folders are searched in their order for a file
    /// whose versions match; `base` comes last (contract::ai_gateway_server §2.2).
    pub fn get(
        &self,
        id: &str,
        family: &Family,
        version: Option<&str>,
    ) -> Result<&Prompt, LookupError> {
        let variants = self.variants(id)?;
        let constraint = Constraint::parse(version).ok_or(LookupError::Constraint)?;
        let matching = |folder: Option<&str>| {
            variants.iter().find(|prompt| {
                prompt.family.as_deref() == folder && prompt.versions.any_matches(&constraint)
            })
        };
        let mut folders = family.prompts.iter().map(|folder| Some(&**folder)).chain([None]);
        folders.find_map(matching).ok_or_else(|| LookupError::Version {
            constraint: version.unwrap_or_default().to_owned(),
            available: variants.first().map(|base| base.versions.to_string()).unwrap_or_default(),
        })
    }

    /// Returns the `base` of a prompt, which decides its route and permission whatever model
    /// renders it.
    pub fn base(&self, id: &str) -> Result<&Prompt, LookupError> {
        self.variants(id)?.first().ok_or_else(|| LookupError::Prompt(id.to_owned()))
    }

    /// Returns all prompts by id, `base` before the families.
    pub fn iter(&self) -> impl Iterator<Item = &Prompt> {
        self.prompts.values().flatten()
    }

    fn variants(&self, id: &str) -> Result<&[Prompt], LookupError> {
        self.prompts.get(id).map(Vec::as_slice).ok_or_else(|| LookupError::Prompt(id.to_owned()))
    }
}

impl Prompt {
    /// Returns the path of its file, below the prompts' directory.
    pub fn path(&self) -> String {
        format!("{}/{}.toml", self.id, self.family.as_deref().unwrap_or("base"))
    }
}

#[cfg(test)]
mod tests;
