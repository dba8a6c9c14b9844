//! Prompts: what is said to a model for each thing GitLab asks, as data with a template engine.
//! Pure: files are read by `config`, which also overlays the operator's directory.
//!
//! ```text
//! config/prompts/<id>/base.toml      every family
//! config/prompts/<id>/<family>.toml  only what this family needs otherwise; the rest is base's
//! config/prompts/shared/<name>.txt   included by others: {% include "shared/<name>.txt" %}
//! ```
//!
//! Sources: gitlab-client.md §8, ai-gateway-server.md §3. The texts are our own.

mod definition;
mod embedded;
mod render;
mod template;
mod version;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

pub use definition::Flaw;
pub use render::{RenderError, Rendered};
pub use template::TemplateError;

use crate::generation::{Role, Sampling};
use crate::model::Family;
use crate::route::Feature;
use template::Engine;
use version::{Constraint, Versions};

/// One prompt for one family, or for all of them.
#[derive(Debug)]
pub struct Prompt {
    /// GitLab's name: `chat/explain_code`.
    pub id: Arc<str>,
    /// The folder of families it is for; `None` is `base`.
    pub family: Option<Arc<str>>,
    /// What it is for, in a line.
    pub description: String,
    /// What `[features]` routes it by (gitlab-client.md §5.1; ai-gateway-server.md §3.4).
    pub feature: Feature,
    /// One of these lets a caller use it (gitlab-client.md §5.3).
    pub unit_primitives: Vec<String>,
    /// Whether GitLab asks for it as streamed raw text, whose error bodies people read.
    pub streams: bool,
    /// What a request must bring.
    pub inputs: Vec<String>,
    /// What it may bring; `none` in the template without it.
    pub optional: Vec<String>,
    /// Inputs to try it with.
    pub example: serde_json::Map<String, serde_json::Value>,
    /// Its file as it is written.
    pub source: String,
    versions: Versions,
    sampling: Sampling,
    /// Role and template of each message.
    messages: Vec<(Role, String)>,
    engine: Arc<Engine>,
}

/// Why there is no such prompt. `Display` is the `detail` of the answer (gitlab-client.md §8.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No prompt of this id: 404.
    #[error("Prompt '{0}' not found")]
    Prompt(String),
    /// None of its versions fits: 400.
    #[error("No version matching '{asked}' (available: {available})")]
    Version {
        /// The constraint.
        asked: String,
        /// What there is.
        available: String,
    },
    /// The version is no constraint: 422.
    #[error("Invalid version constraint")]
    Constraint,
}

/// Every prompt, checked.
#[derive(Debug, Default)]
pub struct Registry {
    /// By id: `base` first.
    prompts: BTreeMap<Arc<str>, Vec<Prompt>>,
}

impl Registry {
    /// Checks files: path below the prompts' directory, and text. Every flaw at once.
    pub fn load<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<Flaw>> {
        definition::load(files)
    }

    /// Those in the program.
    pub fn embedded() -> Result<Arc<Self>, Vec<Flaw>> {
        static LOADED: LazyLock<Result<Arc<Registry>, Vec<Flaw>>> =
            LazyLock::new(|| Registry::load(embedded::FILES.iter().copied()).map(Arc::new));
        LOADED.clone()
    }

    /// The files in the program: path and text.
    pub const fn embedded_files() -> &'static [(&'static str, &'static str)] {
        embedded::FILES
    }

    /// The prompt of this id for a model of this family. `version` is GitLab's constraint; `None`
    /// and `""` are `^1.0.0`. The family's folders are searched in their order for a file whose
    /// versions fit; `base` comes last (ai-gateway-server.md §2.2).
    pub fn get(
        &self,
        id: &str,
        family: &Family,
        version: Option<&str>,
    ) -> Result<&Prompt, Missing> {
        let variants = self.variants(id)?;
        let constraint = Constraint::parse(version).ok_or(Missing::Constraint)?;
        let fits = |folder: Option<&str>| {
            variants.iter().find(|prompt| {
                prompt.family.as_deref() == folder && prompt.versions.answer(&constraint)
            })
        };
        let mut folders = family.prompts.iter().map(|folder| Some(&**folder)).chain([None]);
        folders.find_map(fits).ok_or_else(|| Missing::Version {
            asked: version.unwrap_or_default().to_owned(),
            available: variants.first().map(|base| base.versions.to_string()).unwrap_or_default(),
        })
    }

    /// What routes and opens a prompt, whatever model will answer it: its `base`.
    pub fn base(&self, id: &str) -> Result<&Prompt, Missing> {
        self.variants(id)?.first().ok_or_else(|| Missing::Prompt(id.to_owned()))
    }

    /// All of them, by id, `base` before the families.
    pub fn iter(&self) -> impl Iterator<Item = &Prompt> {
        self.prompts.values().flatten()
    }

    fn variants(&self, id: &str) -> Result<&[Prompt], Missing> {
        self.prompts.get(id).map(Vec::as_slice).ok_or_else(|| Missing::Prompt(id.to_owned()))
    }
}

impl Prompt {
    /// Its file, below the prompts' directory.
    pub fn path(&self) -> String {
        format!("{}/{}.toml", self.id, self.family.as_deref().unwrap_or("base"))
    }
}

#[cfg(test)]
mod tests;
