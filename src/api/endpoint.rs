//! The path table: what is answered, by which method, in which error shape, with or without
//! credentials.

use std::borrow::Cow;

use http::Method;

use super::anthropic::AnthropicCall;
use super::gitlab::{CodeCall, Proxied};
use super::openai::OpenAiCall;
use crate::auth::{Permission, Scopes};
use crate::error::{GatewayError, Kind, Shape};
use crate::relay::HeadStart;
use crate::route::Feature;
use crate::telemetry::labels::Surface;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `HEAD` on any path: GitLab's admin health check takes any status (gitlab-client.md §10.2).
    Head,
    /// `OPTIONS` on any path: a browser asks whether its page may call (gitlab-client.md §6.4).
    Preflight,
    /// `GET /monitoring/healthz`
    Healthz,
    /// `GET /monitoring/ready`
    Ready,
    /// `GET /v1/models`
    OpenAiModels,
    /// `POST /v1/chat/completions` and its like
    OpenAi(OpenAiCall),
    /// `POST /v1/messages` and its like
    Anthropic(AnthropicCall),
    /// `/v1/proxy/{vendor}/…`
    Proxy(Proxied),
    /// `POST /v1/chat/{name}`
    ChatV1(Feature),
    /// `POST /v2/chat/agent`
    ChatAgent,
    /// `POST /v1|v2/prompts/model_configuration/check`; the version
    ModelCheck(u8),
    /// `POST /v1/code/user_access_token`
    UserToken,
    /// `GET /v1/models/definitions`
    Definitions,
    /// `POST /v1/embeddings/code_embeddings` and below it `index`, `search`
    CodeEmbeddings,
    /// `POST /v1/search/gitlab-docs`
    DocsSearch,
    /// `POST /v1|v2/prompts/{id}`; the version
    Prompts(u8),
    /// Code suggestions
    Code(CodeCall),
    /// Any other call of GitLab's (`/v1/…` to `/v4/…`), by any method: GitLab's cloud may know it.
    Elsewhere,
}

/// A request's place in the table, good or not; the record needs the surface either way.
pub struct Matched {
    /// What it is for, or why it is for nothing.
    pub endpoint: Result<Endpoint, GatewayError>,
    /// The label.
    pub surface: Surface,
    /// Whether the path takes anybody, by whatever method. A path that is none does not: who has no
    /// credentials learns nothing of which there are (ai-gateway-server.md §1.0).
    pub is_open: bool,
    /// Where its answer's head may be promised, if its surface has bytes that break a silence.
    pub head_start: Option<HeadStart>,
}

impl Matched {
    /// Finds the endpoint of a request line.
    pub fn of(method: &Method, path: &str) -> Self {
        let of_method = match *method {
            Method::HEAD => Some(Endpoint::Head),
            Method::OPTIONS => Some(Endpoint::Preflight),
            _ => None,
        };
        if let Some(endpoint) = of_method {
            return Self {
                endpoint: Ok(endpoint),
                surface: endpoint.surface(),
                is_open: true,
                head_start: None,
            };
        }
        let path = normal(path);
        let found = match path.as_ref() {
            "/v1/chat/completions" => Some(Endpoint::OpenAi(OpenAiCall::Chat)),
            "/v1/completions" => Some(Endpoint::OpenAi(OpenAiCall::Completions)),
            "/v1/embeddings" => Some(Endpoint::OpenAi(OpenAiCall::Embeddings)),
            "/v1/models" => Some(Endpoint::OpenAiModels),
            "/v1/messages" => Some(Endpoint::Anthropic(AnthropicCall::Messages)),
            "/v1/messages/count_tokens" => Some(Endpoint::Anthropic(AnthropicCall::CountTokens)),
            "/v2/chat/agent" => Some(Endpoint::ChatAgent),
            "/v1/prompts/model_configuration/check" => Some(Endpoint::ModelCheck(1)),
            "/v2/prompts/model_configuration/check" => Some(Endpoint::ModelCheck(2)),
            "/v1/models/definitions" => Some(Endpoint::Definitions),
            "/v1/embeddings/code_embeddings"
            | "/v1/embeddings/code_embeddings/index"
            | "/v1/embeddings/code_embeddings/search" => Some(Endpoint::CodeEmbeddings),
            "/v1/search/gitlab-docs" => Some(Endpoint::DocsSearch),
            "/v1/code/user_access_token" => Some(Endpoint::UserToken),
            "/v2/code/completions" | "/v2/completions" => {
                Some(Endpoint::Code(CodeCall::Completion))
            }
            "/v2/code/generations" => Some(Endpoint::Code(CodeCall::Generation)),
            "/v3/code/completions" => Some(Endpoint::Code(CodeCall::Suggestion)),
            "/v4/code/suggestions" => Some(Endpoint::Code(CodeCall::SuggestionEvents)),
            "/monitoring/healthz" => Some(Endpoint::Healthz),
            "/monitoring/ready" => Some(Endpoint::Ready),
            other => chat_v1(other)
                .map(Endpoint::ChatV1)
                .or_else(|| prompts(other).map(|(version, _)| Endpoint::Prompts(version)))
                .or_else(|| Proxied::parse(other.strip_prefix("/v1/proxy/")?).map(Endpoint::Proxy)),
        };
        let Some(endpoint) = found else {
            let endpoint =
                if is_gitlabs(&path) { Ok(Endpoint::Elsewhere) } else { Err(not_found(&path)) };
            return Self { endpoint, surface: Surface::Unknown, is_open: false, head_start: None };
        };
        let allowed = endpoint.methods();
        let matched = allowed == method.as_str();
        let refused =
            || GatewayError::new(Kind::MethodNotAllowed, "Method Not Allowed").allow(allowed);
        let (surface, is_open) = (endpoint.surface(), endpoint.permission().is_none());
        let head_start = (endpoint == Endpoint::ChatAgent).then(HeadStart::default);
        Self {
            endpoint: matched.then_some(endpoint).ok_or_else(refused),
            surface,
            is_open,
            head_start,
        }
    }

    /// How errors look here, a wrong path included: a client of `/v1/…` that is not GitLab's speaks
    /// OpenAI.
    pub fn shape(&self) -> Shape {
        match (&self.endpoint, self.surface) {
            (Ok(endpoint), _) => endpoint.shape(),
            (
                _,
                Surface::OpenAiChat
                | Surface::OpenAiCompletions
                | Surface::OpenAiEmbeddings
                | Surface::OpenAiModels,
            ) => Shape::OpenAi,
            (_, Surface::AnthropicMessages | Surface::AnthropicCountTokens) => Shape::Anthropic,
            _ => Shape::Gitlab,
        }
    }
}

impl Endpoint {
    /// The `Allow` header's value.
    const fn methods(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Preflight => "OPTIONS",
            Self::Healthz
            | Self::Ready
            | Self::OpenAiModels
            | Self::Definitions
            | Self::Proxy(Proxied::OpenAiModels) => "GET",
            Self::OpenAi(_)
            | Self::Anthropic(_)
            | Self::Proxy(_)
            | Self::ChatV1(_)
            | Self::ChatAgent
            | Self::ModelCheck(_)
            | Self::Prompts(_)
            | Self::UserToken
            | Self::CodeEmbeddings
            | Self::DocsSearch
            | Self::Code(_)
            | Self::Elsewhere => "POST",
        }
    }

    const fn surface(self) -> Surface {
        match self {
            Self::Head | Self::Preflight | Self::Healthz | Self::Ready => Surface::Monitoring,
            Self::Definitions => Surface::GitlabDefinitions,
            Self::OpenAiModels => Surface::OpenAiModels,
            Self::OpenAi(OpenAiCall::Chat) => Surface::OpenAiChat,
            Self::OpenAi(OpenAiCall::Completions) => Surface::OpenAiCompletions,
            Self::OpenAi(OpenAiCall::Embeddings) => Surface::OpenAiEmbeddings,
            Self::Anthropic(AnthropicCall::Messages) => Surface::AnthropicMessages,
            Self::Anthropic(AnthropicCall::CountTokens) => Surface::AnthropicCountTokens,
            Self::Proxy(_) => Surface::GitlabProxy,
            Self::ChatV1(_) => Surface::GitlabChat,
            Self::ChatAgent => Surface::GitlabChatAgent,
            Self::ModelCheck(_) => Surface::GitlabModelCheck,
            Self::UserToken => Surface::GitlabUserToken,
            Self::CodeEmbeddings => Surface::GitlabEmbeddings,
            Self::DocsSearch => Surface::GitlabDocs,
            Self::Prompts(_) => Surface::GitlabPrompts,
            Self::Code(_) => Surface::GitlabCode,
            Self::Elsewhere => Surface::Unknown,
        }
    }

    /// Whether a request may cost a model's time: those are counted against their caller's rates.
    pub const fn asks_a_model(self) -> bool {
        match self {
            Self::Head
            | Self::Preflight
            | Self::Healthz
            | Self::Ready
            | Self::OpenAiModels
            | Self::Proxy(Proxied::OpenAiModels)
            | Self::UserToken
            | Self::Definitions
            | Self::DocsSearch => false,
            Self::OpenAi(_)
            | Self::Anthropic(_)
            | Self::Proxy(_)
            | Self::ChatV1(_)
            | Self::ChatAgent
            | Self::ModelCheck(_)
            | Self::CodeEmbeddings
            | Self::Prompts(_)
            | Self::Code(_)
            | Self::Elsewhere => true,
        }
    }

    /// How errors look here.
    pub const fn shape(self) -> Shape {
        match self {
            Self::OpenAi(_)
            | Self::OpenAiModels
            | Self::Proxy(Proxied::OpenAi(_) | Proxied::OpenAiModels) => Shape::OpenAi,
            Self::Anthropic(_) | Self::Proxy(Proxied::Anthropic(_)) => Shape::Anthropic,
            Self::ModelCheck(_) | Self::Prompts(_) => Shape::GitlabPrompts,
            Self::Code(_) => Shape::GitlabCode,
            Self::UserToken | Self::CodeEmbeddings | Self::DocsSearch => Shape::GitlabSentence,
            Self::Head
            | Self::Preflight
            | Self::Healthz
            | Self::Ready
            | Self::Definitions
            | Self::ChatV1(_)
            | Self::ChatAgent
            | Self::Elsewhere => Shape::Gitlab,
        }
    }

    /// What a caller needs (gitlab-client.md §5.3). Probes carry no credentials, nor does what asks
    /// for the models (ai-gateway-server.md §1.0).
    ///
    /// The vendors' calls are not GitLab's, so no primitive of GitLab's names them: an instance
    /// that is entitled to any part of Duo may make them, through the proxy or not.
    pub fn permission(self) -> Option<Permission> {
        let (any_of, what) = match self {
            Self::Head | Self::Preflight | Self::Healthz | Self::Ready | Self::Definitions => {
                return None;
            }
            Self::OpenAiModels | Self::OpenAi(_) | Self::Anthropic(_) => {
                (Scopes::ANY, "models".into())
            }
            Self::Proxy(_) => (Scopes::ANY, "proxy".into()),
            Self::Elsewhere => (Scopes::ANY, "this path".into()),
            Self::ChatAgent | Self::ChatV1(Feature::DUO_CHAT) => {
                (Scopes::of_feature(Feature::DUO_CHAT), "duo chat".into())
            }
            Self::ChatV1(feature) => (Scopes::of_feature(feature), feature.name().into()),
            Self::ModelCheck(_) => (
                Scopes::of_feature(Feature::CODE_COMPLETIONS),
                "'model_configuration/check'".into(),
            ),
            Self::CodeEmbeddings => {
                (Scopes::of(["generate_embeddings_codebase"]), "code embeddings".into())
            }
            Self::DocsSearch => {
                (Scopes::of(["documentation_search", "duo_chat"]), "documentations".into())
            }
            Self::UserToken => {
                (Scopes::of_feature(Feature::CODE_COMPLETIONS), "user access token".into())
            }
            // any part of Duo here; the handler asks for the prompt's own primitive
            Self::Prompts(_) => (Scopes::ANY, "prompts".into()),
            Self::Code(call) => return Some(call.permission()),
        };
        let act = match self {
            Self::UserToken => "create",
            Self::DocsSearch => "search",
            _ => "access",
        };
        Some(Permission { any_of, act, what, users: false })
    }
}

/// GitLab's older chat calls, by name (ai-gateway-server.md §1.6).
fn chat_v1(path: &str) -> Option<Feature> {
    let feature = match path.strip_prefix("/v1/chat/")? {
        "agent" => "duo_chat",
        "explain_code" => "duo_chat_explain_code",
        "write_tests" => "duo_chat_write_tests",
        "refactor_code" => "duo_chat_refactor_code",
        "explain_vulnerability" => "duo_chat_explain_vulnerability",
        "summarize_comments" => "duo_chat_summarize_comments",
        "troubleshoot_job" => "duo_chat_troubleshoot_job",
        _ => return None,
    };
    Feature::parse(feature)
}

/// The version and the id of a prompt's path.
fn prompts(path: &str) -> Option<(u8, &str)> {
    let v1 = path.strip_prefix("/v1/prompts/").map(|id| (1, id));
    v1.or_else(|| path.strip_prefix("/v2/prompts/").map(|id| (2, id)))
        .filter(|(_, id)| !id.is_empty())
}

/// The id of the prompt that a path asks for; empty where it asks for none.
pub(super) fn prompt_id(path: &str) -> String {
    prompts(&normal(path)).map(|(_, id)| id.to_owned()).unwrap_or_default()
}

/// Whether a path is of GitLab's API for its gateway.
fn is_gitlabs(path: &str) -> bool {
    ["/v1/", "/v2/", "/v3/", "/v4/"].iter().any(|version| path.starts_with(version))
}

/// 404, with the path for the log.
pub(super) fn not_found(path: &str) -> GatewayError {
    let shown: String = path.chars().take(200).collect();
    GatewayError::new(Kind::NotFound, not_served(path)).internal(format!("no such path: {shown}"))
}

/// Where 404 has the proxies' own spelling (ai-gateway-server.md §1.11). For other vendors it is
/// everybody's.
const PROXIES: [&str; 3] = ["/v1/proxy/anthropic/", "/v1/proxy/openai/", "/v1/proxy/vertex-ai/"];

/// Calls of GitLab's that have no place here are told why (gitlab-client.md §9.6, §9.7).
fn not_served(path: &str) -> &'static str {
    if path.starts_with("/v1/x-ray/") {
        "Not Found: X-Ray scans are deprecated in GitLab and not served here, remove the job from the pipeline"
    } else if path.starts_with("/v1/amazon_q/") {
        "Not Found: Amazon Q is served by GitLab's own gateway only"
    } else if PROXIES.iter().any(|proxy| path.starts_with(proxy)) {
        "Not found"
    } else {
        "Not Found"
    }
}

/// One slash where GitLab's plain concatenation put two, `%2F` read as a slash (gitlab-client.md
/// §1, §10.1), no trailing slash. Borrowed when nothing had to change.
fn normal(path: &str) -> Cow<'_, str> {
    let is_normal =
        !path.contains("//") && !path.contains('%') && (path.len() < 2 || !path.ends_with('/'));
    if is_normal {
        return Cow::Borrowed(path);
    }
    let decoded = path.replace("%2F", "/").replace("%2f", "/");
    let mut out = String::with_capacity(decoded.len());
    decoded.split('/').filter(|part| !part.is_empty()).for_each(|part| {
        out.push('/');
        out.push_str(part);
    });
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{CodeCall, Endpoint, Matched, OpenAiCall, prompt_id};
    use crate::auth::Scopes;
    use crate::error::Kind;
    use crate::route::Feature;

    fn of(method: &Method, path: &str) -> Result<Endpoint, Kind> {
        Matched::of(method, path).endpoint.map_err(|error| error.kind())
    }

    #[test]
    fn finds_paths_in_every_spelling_gitlab_uses() {
        let post = Method::POST;
        assert_eq!(
            of(&post, "/v1/prompts/model_configuration%2Fcheck"),
            Ok(Endpoint::ModelCheck(1))
        );
        assert_eq!(
            of(&post, "//v2/prompts/model_configuration/check"),
            Ok(Endpoint::ModelCheck(2))
        );
        assert_eq!(of(&post, "/v1/prompts/chat%2Fexplain_code"), Ok(Endpoint::Prompts(1)));
        assert_eq!(of(&post, "/v2/prompts/generate_commit_message"), Ok(Endpoint::Prompts(2)));
        assert_eq!(prompt_id("//v1/prompts/chat%2Fexplain_code/"), "chat/explain_code");
        assert_eq!(of(&post, "//v1//chat/completions/"), Ok(Endpoint::OpenAi(OpenAiCall::Chat)));
        assert_eq!(of(&post, "//v2/chat/agent"), Ok(Endpoint::ChatAgent));
        assert_eq!(of(&post, "/v1/chat/agent"), Ok(Endpoint::ChatV1(Feature::DUO_CHAT)));
        for path in ["", "/index", "/search"] {
            let path = format!("/v1/embeddings/code_embeddings{path}");
            assert_eq!(of(&post, &path), Ok(Endpoint::CodeEmbeddings));
        }
        assert_eq!(of(&post, "/v1/search/gitlab-docs"), Ok(Endpoint::DocsSearch));
        assert_eq!(of(&Method::GET, "/v1/models%2Fdefinitions"), Ok(Endpoint::Definitions));
        for (path, call) in [
            ("/v2/code/completions", CodeCall::Completion),
            ("//v2/completions", CodeCall::Completion),
            ("/v2/code/generations", CodeCall::Generation),
            ("/v3/code/completions", CodeCall::Suggestion),
            ("/v4/code/suggestions/", CodeCall::SuggestionEvents),
        ] {
            assert_eq!(of(&post, path), Ok(Endpoint::Code(call)));
        }
        assert_eq!(of(&Method::HEAD, "/anything/at/all"), Ok(Endpoint::Head));
        assert_eq!(of(&Method::OPTIONS, "/anything/at/all"), Ok(Endpoint::Preflight));
        assert_eq!(of(&Method::GET, "/monitoring/healthz"), Ok(Endpoint::Healthz));
    }

    #[test]
    fn only_probes_need_no_credentials() {
        for probe in [
            Endpoint::Head,
            Endpoint::Preflight,
            Endpoint::Healthz,
            Endpoint::Ready,
            Endpoint::Definitions,
        ] {
            assert_eq!(probe.permission(), None);
        }
        let check = Endpoint::ModelCheck(1).permission().unwrap();
        assert_eq!(
            (check.any_of, &*check.what),
            (Scopes::of(["complete_code"]), "'model_configuration/check'")
        );
        let token = Endpoint::UserToken.permission().unwrap();
        assert_eq!(
            (token.any_of, token.act, &*token.what),
            (Scopes::of(["complete_code"]), "create", "user access token")
        );
        let explain = Endpoint::ChatV1(Feature::parse("duo_chat_explain_code").unwrap())
            .permission()
            .unwrap();
        assert_eq!(explain.any_of, Scopes::of(["explain_code"]));
        let generation = Endpoint::Code(CodeCall::Generation).permission().unwrap();
        assert_eq!(
            (generation.any_of, &*generation.what),
            (Scopes::of(["generate_code"]), "code generations")
        );
        let either = Endpoint::Code(CodeCall::SuggestionEvents).permission().unwrap();
        assert_eq!(
            (either.any_of, &*either.what),
            (Scopes::of(["complete_code", "generate_code"]), "code suggestions")
        );
        assert_eq!(Endpoint::OpenAi(OpenAiCall::Chat).permission().unwrap().any_of, Scopes::ANY);
    }

    #[test]
    fn only_paths_without_credentials_are_open() {
        let is_open = |method, path| Matched::of(&method, path).is_open;
        assert!(
            is_open(Method::GET, "/monitoring/ready")
                && is_open(Method::POST, "/v1/models/definitions")
        );
        assert!(
            !is_open(Method::GET, "/v1/code/user_access_token")
                && !is_open(Method::GET, "/nothing")
        );
    }

    #[test]
    fn refuses_the_rest() {
        assert_eq!(of(&Method::POST, "/"), Err(Kind::NotFound));
        assert_eq!(of(&Method::POST, "/v5/chat/agent"), Err(Kind::NotFound));
        assert_eq!(of(&Method::GET, "/v1/chat/completions"), Err(Kind::MethodNotAllowed));
        assert_eq!(of(&Method::POST, "/v1/models"), Err(Kind::MethodNotAllowed));
    }

    #[test]
    fn what_only_gitlab_knows_is_told_apart() {
        for path in ["/v1/chat/nothing", "/v1/amazon_q/events", "//v3%2Fnew/call"] {
            assert_eq!(of(&Method::POST, path), Ok(Endpoint::Elsewhere), "{path}");
        }
        assert_eq!(of(&Method::GET, "/v4/anything"), Ok(Endpoint::Elsewhere));
    }
}
