//! A model as the operator describes it: where it is, what it is called there, what family it is.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Access, BudgetPatch, EndpointUrl, Family, ProviderKind};
use crate::secret::Secret;

/// A model's name in the file (GitLab's "deployment name"), or `request` for one that a request
/// brought.
pub type ModelId = Arc<str>;

/// `prefix/model` as GitLab's admins write it, split at the first slash (gitlab-client.md §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// From the prefix.
    pub provider: ProviderKind,
    /// What the model server is asked for; may contain slashes.
    pub model: Box<str>,
}

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// A prefix this version does not know.
    #[error("unknown prefix `{0}/`: expected {prefixes}", prefixes = known_prefixes())]
    UnknownPrefix(String),
    /// Nothing behind the prefix.
    #[error("no model behind the prefix")]
    NoModel,
}

impl Identifier {
    /// Parses an identifier. Without a slash the whole text is a model of an OpenAI-compatible
    /// server.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        let text = text.trim();
        let (provider, model) = match text.split_once('/') {
            None => (ProviderKind::default(), text),
            Some((prefix, model)) => match ProviderKind::of_prefix(prefix) {
                Some(provider) => (provider, model),
                None => return Err(IdentifierError::UnknownPrefix(prefix.to_owned())),
            },
        };
        if model.is_empty() {
            return Err(IdentifierError::NoModel);
        }
        Ok(Self { provider, model: model.into() })
    }
}

/// Returns the known prefixes as a list in words: `a/, b/ or c/`.
fn known_prefixes() -> String {
    let mut prefixes: Vec<String> =
        ProviderKind::prefixes().map(|prefix| format!("{prefix}/")).collect();
    let last = prefixes.pop().unwrap_or_default();
    format!("{} or {last}", prefixes.join(", "))
}

/// How many requests a model's server is sent at a time, and how many wait for it how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// `max_parallel`: under way at a time, over all workers.
    pub parallel: usize,
    /// `max_queue`: waiting at a time.
    pub queue: usize,
    /// `max_wait`: a longer wait is 503.
    pub wait: Duration,
}

/// How a model's replicas are looked after and chosen between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// What each is asked now and then; none: only requests show how they are.
    pub health_check: Option<HealthCheck>,
    /// Whether they tell their load as vLLM does, at `/metrics`.
    pub tell_load: bool,
    /// Whether requests that begin alike go to the same one.
    pub affinity: bool,
}

/// What a replica is asked, to see whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// The list of models, below the endpoint's own path.
    Models,
    /// This path, below the server's root.
    Path(Box<str>),
}

/// One model: everything needed to ask it, whoever asks.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name in the file.
    pub id: ModelId,
    /// Which kind of server answers.
    pub provider: ProviderKind,
    /// What the server calls it.
    pub upstream_name: Arc<str>,
    /// How it likes to be prompted.
    pub family: Arc<Family>,
    /// Replicas, at least one.
    pub endpoints: Vec<EndpointUrl>,
    /// The server's key, if it wants one.
    pub api_key: Option<Secret<String>>,
    /// What else its provider needs.
    pub access: Access,
    /// The model's own `timeouts`.
    pub timeouts: BudgetPatch,
    /// How its replicas are looked after and chosen between.
    pub replicas: Replicas,
    /// Its own `max_parallel`, if it has one.
    pub room: Option<Room>,
    /// `priority`: whether its server is told whose request goes first.
    pub priority: bool,
    /// Whether a request named the endpoints: then each address is checked after resolution. Not so
    /// for a Bedrock model that a request brought: its endpoint is the operator's.
    pub from_request: bool,
}

impl Model {
    /// Creates GitLab's cloud gateway at this address, as a model of this name.
    pub fn gitlab_cloud(name: &str, url: EndpointUrl) -> Self {
        Self {
            id: name.into(),
            provider: ProviderKind::GATEWAY,
            upstream_name: name.into(),
            family: Arc::default(),
            endpoints: vec![url],
            api_key: None,
            access: Access::Key,
            timeouts: BudgetPatch::default(),
            replicas: Replicas::default(),
            room: None,
            priority: false,
            from_request: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Identifier, IdentifierError, ProviderKind};

    #[test]
    fn the_first_slash_splits() {
        let parse = |text| Identifier::parse(text).map(|i| (i.provider, i.model.to_string()));
        assert_eq!(
            parse("custom_openai/mistralai/Mistral-7B"),
            Ok((ProviderKind::OpenAi, "mistralai/Mistral-7B".into()))
        );
        assert_eq!(parse("gpt-4o"), Ok((ProviderKind::OpenAi, "gpt-4o".into())));
        assert_eq!(parse("hosted_vllm/x"), Ok((ProviderKind::OpenAi, "x".into())));
        assert_eq!(
            parse("bedrock/apac.anthropic.claude:0"),
            Ok((ProviderKind::Bedrock, "apac.anthropic.claude:0".into()))
        );
        assert_eq!(parse("openai/"), Err(IdentifierError::NoModel));
        let unknown = parse("nope/x").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "unknown prefix `nope/`: expected custom_openai/, openai/, hosted_vllm/, \
             litellm_proxy/, azure/, bedrock/ or anthropic/"
        );
    }
}
