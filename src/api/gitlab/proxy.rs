//! `/v1/proxy/{vendor}/…`: GitLab's way to vendors' APIs, answered by the operator's models.
//!
//! Source: gitlab-client.md §9.2, ai-gateway-server.md §1.11. GitLab names the vendor's model of
//! its own choice, which nobody here runs: the call goes to the feature that
//! `X-Gitlab-Unit-Primitive` belongs to, else to `features.default` (so does
//! `description_composer`, which is no feature of GitLab's screens). A model that does have this
//! name in the file is taken at its word.

use hyper::body::Incoming;

use crate::api::anthropic::{self, AnthropicCall};
use crate::api::openai::{self, OpenAiCall};
use crate::api::{Answer, Context, json, text_header};
use crate::auth::Scopes;
use crate::route::{Ask, Feature};

/// Which vendor's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// `/v1/proxy/anthropic/v1/messages` and its like
    Anthropic(AnthropicCall),
    /// `/v1/proxy/openai/v1/chat/completions` and its like
    OpenAi(OpenAiCall),
    /// `/v1/proxy/openai/v1/models`
    OpenAiModels,
}

impl Proxied {
    /// By what stands behind `/v1/proxy/`. OpenAI's paths go with their `/v1` or without.
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

/// Answers the call as the vendor's own surface does.
pub(in crate::api) async fn forward(
    context: Context<'_>,
    proxied: Proxied,
    incoming: Incoming,
) -> Answer {
    let feature =
        text_header(&context.parts.headers, "x-gitlab-unit-primitive").and_then(feature_of);
    let otherwise = Some(Ask { feature, metadata: None });
    match proxied {
        Proxied::Anthropic(call) => anthropic::forward(context, call, otherwise, incoming).await,
        Proxied::OpenAi(call) => openai::forward(context, call, otherwise, incoming).await,
        Proxied::OpenAiModels => {
            Ok(json(openai::models::list(&context.snapshot.table, &context.caller)))
        }
    }
}

/// The feature that a unit primitive belongs to.
fn feature_of(primitive: &str) -> Option<Feature> {
    let primitive = Scopes::of([primitive]);
    Feature::all().find(|feature| Scopes::of_feature(*feature).intersects(primitive))
}

#[cfg(test)]
mod tests {
    use super::{AnthropicCall, OpenAiCall, Proxied, feature_of};
    use crate::route::Feature;

    #[test]
    fn the_vendors_paths_that_have_an_answer() {
        assert_eq!(
            Proxied::parse("anthropic/v1/messages"),
            Some(Proxied::Anthropic(AnthropicCall::Messages))
        );
        assert_eq!(
            Proxied::parse("openai/chat/completions"),
            Some(Proxied::OpenAi(OpenAiCall::Chat))
        );
        assert_eq!(Proxied::parse("openai/v1/models"), Some(Proxied::OpenAiModels));
        for path in [
            "anthropic",
            "openai/v1/responses",
            "anthropic/v1/complete",
            "nobody/v1/messages",
            "anthropic//",
        ] {
            assert_eq!(Proxied::parse(path), None, "{path}");
        }
    }

    #[test]
    fn primitives_have_features() {
        assert_eq!(feature_of("duo_classic_chat"), Some(Feature::DUO_CHAT));
        assert_eq!(feature_of("complete_code"), Some(Feature::CODE_COMPLETIONS));
        assert_eq!(feature_of("review_merge_request"), Feature::parse("review_merge_request"));
        assert_eq!(feature_of("description_composer"), None);
        assert_eq!(feature_of("not_yet_invented"), None);
    }
}
