//! A model as the operator describes it: its address, its name at the server, its family.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Access, EndpointUrl, Family, ProviderKind, TimeoutsPatch};
use crate::secret::Secret;

/// Name of a model in the file (GitLab's "deployment name"), or `request` for a model that a
/// request brought.
pub type ModelId = Arc<str>;

/// Identifier `prefix/model` as GitLab's admins write it, split at the first slash
/// (contract::gitlab_client §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// Kind of server, from the prefix.
    pub provider: ProviderKind,
    /// Name of the model at its server; may contain slashes.
    pub model: Box<str>,
}

/// Reason why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Unknown prefix.
    #[error("unknown prefix `{0}/`: expected {prefixes}", prefixes = known_prefixes())]
    UnknownPrefix(String),
    /// Empty model name.
    #[error("no model after the prefix")]
    NoModel,
}

impl Identifier {
    /// Parses an identifier. Without a slash the whole text is the name of a model at an
    /// OpenAI-compatible server.
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

/// Concurrency limit of a model's server and of the queue in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// `max_parallel`: requests in flight at a time, over all workers.
    pub max_parallel: usize,
    /// `max_queue`: requests that wait for a permit at a time.
    pub max_queue: usize,
    /// `max_wait`: after this long in the queue a request gets 503.
    pub max_wait: Duration,
}

/// Settings of health checks and load balancing between a model's replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// Periodic health check; with `None` only requests reveal that a replica is down.
    pub health_check: Option<HealthCheck>,
    /// Whether the replicas report their load as vLLM does, at `/metrics`.
    pub reports_load: bool,
    /// Whether requests with a common prefix go to the same replica.
    pub affinity: bool,
}

/// Request that a health check sends to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// `GET` of the list of models, below the endpoint's own path.
    Models,
    /// `GET` of this path, below the server's root.
    Path(Box<str>),
}

/// Everything that is needed to send a request to one model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name in the file.
    pub id: ModelId,
    /// Kind of server.
    pub provider: ProviderKind,
    /// Name at the server.
    pub upstream_name: Arc<str>,
    /// Family, which decides how it is prompted.
    pub family: Arc<Family>,
    /// Replicas, at least one.
    pub endpoints: Vec<EndpointUrl>,
    /// Key of the server, if it requires one.
    pub api_key: Option<Secret<String>>,
    /// Credentials and settings that its provider requires in addition to the key.
    pub access: Access,
    /// Timeouts of the model's own `timeouts` table.
    pub timeouts: TimeoutsPatch,
    /// Settings of health checks and load balancing.
    pub replicas: ReplicaSettings,
    /// Concurrency limit, if `max_parallel` is set.
    pub concurrency: Option<ConcurrencySettings>,
    /// `priority`: whether requests carry the priority class for the server's own queue.
    pub priority: bool,
    /// Whether a request named the endpoints: then each address is checked after resolution. False
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
            timeouts: TimeoutsPatch::default(),
            replicas: ReplicaSettings::default(),
            concurrency: None,
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
