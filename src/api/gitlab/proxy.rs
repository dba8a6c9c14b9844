//! `/v1/proxy/{vendor}/…`: GitLab's proxy to vendors' APIs, answered by the operator's models.
//!
//! Source: contract::gitlab_client §9.2, contract::ai_gateway_server §1.11. GitLab names the
//! vendor's model of its own choice, which is not available here: the call is routed by the feature
//! that `X-Gitlab-Unit-Primitive` belongs to, else by `features.default` (so is
//! `description_composer`, which belongs to no feature of GitLab's settings). A configured model of
//! exactly this name takes precedence.

use hyper::body::Incoming;

use crate::api::anthropic::{self, AnthropicCall};
use crate::api::openai::{self, OpenAiCall};
use crate::api::{Answer, Context, json, text_header};
use crate::auth::Scopes;
use crate::route::{Feature, RouteQuery};

/// A call in a vendor's dialect below `/v1/proxy/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyCall {
    /// `/v1/proxy/anthropic/v1/messages` and the other calls of the Messages API
    Anthropic(AnthropicCall),
    /// `/v1/proxy/openai/v1/chat/completions` and OpenAI's other calls that run a model
    OpenAi(OpenAiCall),
    /// `/v1/proxy/openai/v1/models`
    OpenAiModels,
}

impl ProxyCall {
    /// Parses the path after `/v1/proxy/`; `None` for a path that is not supported. The `v1/` after
    /// the vendor is optional.
    pub(in crate::api) fn parse(path: &str) -> Option<Self> {
        let (vendor, path) = path.split_once('/')?;
        match (vendor, path.strip_prefix("v1/").unwrap_or(path)) {
            ("anthropic", "messages") => Some(Self::Anthropic(AnthropicCall::Messages)),
            ("anthropic", "messages/count_tokens") => {
                Some(Self::Anthropic(AnthropicCall::CountTokens))
            }
            ("openai", "chat/completions") => Some(Self::OpenAi(OpenAiCall::Chat)),
            ("openai", "completions") => Some(Self::OpenAi(OpenAiCall::Completions)),
            ("openai", "embeddings") => Some(Self::OpenAi(OpenAiCall::Embeddings)),
            ("openai", "models") => Some(Self::OpenAiModels),
            _ => None,
        }
    }
}

/// Answers the call through the vendor's own surface.
pub(in crate::api) async fn forward(
    context: Context<'_>,
    proxied: ProxyCall,
    incoming: Incoming,
) -> Answer {
    let feature =
        text_header(&context.parts.headers, "x-gitlab-unit-primitive").and_then(feature_of);
    let by_feature = Some(RouteQuery { feature, metadata: None });
    match proxied {
        ProxyCall::Anthropic(call) => anthropic::forward(context, call, by_feature, incoming).await,
        ProxyCall::OpenAi(call) => openai::forward(context, call, by_feature, incoming).await,
        ProxyCall::OpenAiModels => {
            Ok(json(openai::models::list(&context.snapshot.table, &context.caller)))
        }
    }
}

/// Returns the feature that a unit primitive belongs to, or `None` if it belongs to none.
fn feature_of(primitive: &str) -> Option<Feature> {
    let primitive = Scopes::from_names([primitive]);
    Feature::all().find(|feature| Scopes::for_feature(*feature).intersects(primitive))
}

#[cfg(test)]
mod tests {
    use super::{AnthropicCall, OpenAiCall, ProxyCall, feature_of};
    use crate::route::Feature;

    #[test]
    fn parses_the_supported_vendor_paths() {
        assert_eq!(
            ProxyCall::parse("anthropic/v1/messages"),
            Some(ProxyCall::Anthropic(AnthropicCall::Messages))
        );
        assert_eq!(
            ProxyCall::parse("openai/chat/completions"),
            Some(ProxyCall::OpenAi(OpenAiCall::Chat))
        );
        assert_eq!(ProxyCall::parse("openai/v1/models"), Some(ProxyCall::OpenAiModels));
        for path in [
            "anthropic",
            "openai/v1/responses",
            "anthropic/v1/complete",
            "nobody/v1/messages",
            "anthropic//",
        ] {
            assert_eq!(ProxyCall::parse(path), None, "{path}");
        }
    }

    #[test]
    fn unit_primitives_map_to_features() {
        assert_eq!(feature_of("duo_classic_chat"), Some(Feature::DUO_CHAT));
        assert_eq!(feature_of("complete_code"), Some(Feature::CODE_COMPLETIONS));
        assert_eq!(feature_of("review_merge_request"), Feature::parse("review_merge_request"));
        assert_eq!(feature_of("description_composer"), None);
        assert_eq!(feature_of("not_yet_invented"), None);
    }
}
