//! `ProviderKind`: which kind of server answers, and [`Profile`], the one table of what
//! configuration, routing and connections have to know about each kind. How a kind's requests and
//! responses read is its dialect (`provider/`); a new kind is a folder there and a row here.

use crate::model::{EndpointUrl, EndpointUrlError};

/// Which kind of server answers. The identifier's prefix decides; `provider` in a request never
/// does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// OpenAI's API, as served by vLLM and most model servers: the kind of an identifier without a
    /// prefix.
    #[default]
    OpenAi,
    /// Azure OpenAI.
    Azure,
    /// Amazon Bedrock's Converse.
    Bedrock,
    /// Amazon Bedrock's OpenAI-compatible endpoint: a `bedrock/` model with
    /// `bedrock_openai = true`.
    BedrockOpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// GitLab's cloud gateway: no identifier names it, `"gitlab"` in `[features]` does.
    Gitlab,
}

/// What differs between kinds of servers outside of their dialects: one row of the table.
#[derive(Debug)]
pub struct Profile {
    /// The `provider` label of metrics and logs. The two kinds of Bedrock share one.
    pub label: &'static str,
    /// The prefixes of identifiers that choose this kind, without the slash.
    pub prefixes: &'static [&'static str],
    /// How a configured URL becomes the base address.
    pub url: UrlRule,
    /// The base address of a model that is configured without one.
    pub default_endpoint: DefaultEndpoint,
    /// How requests to the server are authorized.
    pub credentials: CredentialKind,
    /// Whether a model with several endpoints is health-checked unless configured otherwise: the
    /// server has a list of models that costs nothing.
    pub checks_health: bool,
    /// Whether the server is a gateway like this one, not a model server: requests are forwarded as
    /// they came, with no header of ours, and every response, refusals included, is the client's.
    pub is_gateway: bool,
    /// The kind that answers instead when the model sets `bedrock_openai = true`.
    pub openai_compatible: Option<ProviderKind>,
}

/// How a configured URL becomes the base address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlRule {
    /// As it is, without trailing slashes.
    AsWritten,
    /// The Azure resource's root: admins paste the whole URL, with deployment and api-version,
    /// which the model's own settings decide (contract::ai_gateway_server §2.5).
    AzureResource,
    /// What precedes Anthropic's `/v1/messages` or `/v1`, if the URL ends in one.
    BeforeV1,
}

/// The base address of a model that is configured without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultEndpoint {
    /// None: an endpoint has to be configured, and this is the hint of the error when it is not.
    Required(&'static str),
    /// The environment's, else the public address of the model's AWS region.
    AwsRegion,
    /// This one.
    Url(&'static str),
}

/// How requests to a server are authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// With the model's `api_key`, if it has one.
    ApiKey,
    /// With the model's `api_key` or an Entra ID token; the api-version is configured too.
    Azure,
    /// With a SigV4 signature or a Bedrock API key; the region is configured too. Models that
    /// requests bring use the operator's.
    Aws,
    /// With the caller's own token, which is forwarded.
    Caller,
}

const SERVER_HINT: &str = "set the model server's address: endpoint = \"http://host:port/v1\"";

impl ProviderKind {
    /// The gateway, which configuration creates without an identifier.
    pub const GATEWAY: Self = Self::Gitlab;

    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::OpenAi,
        Self::Azure,
        Self::Bedrock,
        Self::BedrockOpenAi,
        Self::Anthropic,
        Self::Gitlab,
    ];

    /// Returns this kind's row of the table.
    pub const fn profile(self) -> &'static Profile {
        match self {
            Self::OpenAi => &Profile {
                label: "openai",
                prefixes: &["custom_openai", "openai", "hosted_vllm", "litellm_proxy"],
                url: UrlRule::AsWritten,
                default_endpoint: DefaultEndpoint::Required(SERVER_HINT),
                credentials: CredentialKind::ApiKey,
                checks_health: true,
                is_gateway: false,
                openai_compatible: None,
            },
            Self::Azure => &Profile {
                label: "azure",
                prefixes: &["azure"],
                url: UrlRule::AzureResource,
                default_endpoint: DefaultEndpoint::Required(
                    "set the resource's address: endpoint = \"https://….openai.azure.com\"",
                ),
                credentials: CredentialKind::Azure,
                checks_health: false,
                is_gateway: false,
                openai_compatible: None,
            },
            Self::Bedrock => &Profile {
                label: "bedrock",
                prefixes: &["bedrock"],
                url: UrlRule::AsWritten,
                default_endpoint: DefaultEndpoint::AwsRegion,
                credentials: CredentialKind::Aws,
                checks_health: false,
                is_gateway: false,
                openai_compatible: Some(Self::BedrockOpenAi),
            },
            Self::BedrockOpenAi => &Profile {
                label: "bedrock",
                prefixes: &[],
                url: UrlRule::AsWritten,
                default_endpoint: DefaultEndpoint::AwsRegion,
                credentials: CredentialKind::Aws,
                checks_health: false,
                is_gateway: false,
                openai_compatible: None,
            },
            Self::Anthropic => &Profile {
                label: "anthropic",
                prefixes: &["anthropic"],
                url: UrlRule::BeforeV1,
                default_endpoint: DefaultEndpoint::Url("https://api.anthropic.com"),
                credentials: CredentialKind::ApiKey,
                checks_health: false,
                is_gateway: false,
                openai_compatible: None,
            },
            Self::Gitlab => &Profile {
                label: "gitlab",
                prefixes: &[],
                url: UrlRule::AsWritten,
                default_endpoint: DefaultEndpoint::Required(SERVER_HINT),
                credentials: CredentialKind::Caller,
                checks_health: false,
                is_gateway: true,
                openai_compatible: None,
            },
        }
    }

    /// Returns the `provider` label of metrics and logs.
    pub const fn label(self) -> &'static str {
        self.profile().label
    }

    /// Returns whether the server is a gateway like this one (see [`Profile::is_gateway`]).
    pub const fn is_gateway(self) -> bool {
        self.profile().is_gateway
    }

    /// Returns how requests to the server are authorized.
    pub const fn credentials(self) -> CredentialKind {
        self.profile().credentials
    }

    /// Returns the kind that an identifier's prefix chooses, or `None` for an unknown prefix.
    pub fn of_prefix(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.profile().prefixes.contains(&prefix))
    }

    /// Returns every prefix of identifiers, in the order of the table.
    pub fn prefixes() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().flat_map(|kind| kind.profile().prefixes.iter().copied())
    }
}

impl UrlRule {
    /// Parses a configured URL and reduces it to the base address. Fails as [`EndpointUrl::parse`]
    /// does; only an Azure URL may have a query.
    pub fn parse(self, text: &str) -> Result<EndpointUrl, EndpointUrlError> {
        match self {
            Self::AsWritten => EndpointUrl::parse(text),
            Self::AzureResource => {
                let url = EndpointUrl::parse(text.split('?').next().unwrap_or_default())?;
                let root = format!("{}/", url.base_path()).rfind("/openai/");
                Ok(match root {
                    Some(end) => url.truncated_base(end),
                    None => url,
                })
            }
            Self::BeforeV1 => {
                let url = EndpointUrl::parse(text)?;
                let base = url.base_path();
                let base = base.strip_suffix("/messages").unwrap_or(base);
                let end = base.strip_suffix("/v1").unwrap_or(base).len();
                Ok(url.truncated_base(end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DefaultEndpoint, ProviderKind, UrlRule};
    use crate::model::EndpointUrl;

    #[test]
    fn every_kind_is_in_the_list_once_and_every_prefix_chooses_one_kind() {
        for (index, kind) in ProviderKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        let prefixes: Vec<&str> = ProviderKind::prefixes().collect();
        let distinct: std::collections::BTreeSet<_> = prefixes.iter().collect();
        assert_eq!(distinct.len(), prefixes.len());
        assert_eq!(ProviderKind::of_prefix("hosted_vllm"), Some(ProviderKind::OpenAi));
        assert_eq!(ProviderKind::of_prefix("gitlab"), None);
    }

    #[test]
    fn default_endpoints_are_urls() {
        for kind in ProviderKind::ALL {
            if let DefaultEndpoint::Url(text) = kind.profile().default_endpoint {
                assert_eq!(EndpointUrl::parse(text).unwrap().to_string(), text);
            }
        }
    }

    #[test]
    fn azure_endpoints_are_reduced_to_the_resource() {
        let root = |text: &str| UrlRule::AzureResource.parse(text).unwrap().to_string();
        for pasted in [
            "https://acme.openai.azure.com/",
            "https://acme.openai.azure.com/openai",
            "https://acme.openai.azure.com/openai/v1",
            "https://acme.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        ] {
            assert_eq!(root(pasted), "https://acme.openai.azure.com", "{pasted}");
        }
        let foundry = "https://acme.services.ai.azure.com/api/projects/p";
        assert_eq!(root(&format!("{foundry}/openai/v1")), foundry);
        assert_eq!(root("https://h/openai-proxy"), "https://h/openai-proxy");
    }

    #[test]
    fn anthropic_endpoints_end_before_v1() {
        let root = |text: &str| UrlRule::BeforeV1.parse(text).unwrap().to_string();
        for pasted in ["https://h", "https://h/v1/", "https://h/v1/messages"] {
            assert_eq!(root(pasted), "https://h");
        }
        assert_eq!(root("https://h/anthropic"), "https://h/anthropic");
    }
}
