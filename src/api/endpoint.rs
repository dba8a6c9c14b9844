//! Two tables: the path table, and one row per endpoint with its method, metrics label, metering,
//! error shape and permission. How an endpoint is answered is in the dispatcher of `mod.rs`; no
//! other file names the endpoints' variants (tests/tidy/ checks it).

use std::borrow::Cow;

use http::Method;

use super::anthropic::AnthropicCall;
use super::gitlab::{CodeCall, ProxyCall};
use super::openai::OpenAiCall;
use crate::auth::{Permission, Scopes};
use crate::error::{GatewayError, Kind, Shape};
use crate::relay::EarlyResponseSlot;
use crate::route::Feature;
use crate::telemetry::labels::Surface;

/// What a request is for. `Endpoint::row` and the dispatcher hold the only `match`es over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `HEAD` on any path: GitLab's admin health check accepts any status
    /// (contract::gitlab_client §10.2).
    Head,
    /// `OPTIONS` on any path: a browser's CORS preflight (contract::gitlab_client §6.4).
    Preflight,
    /// `GET /monitoring/healthz`
    Healthz,
    /// `GET /monitoring/ready`
    Ready,
    /// `GET /v1/models`
    OpenAiModels,
    /// `POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings`
    OpenAi(OpenAiCall),
    /// `POST /v1/messages`, `/v1/messages/count_tokens`
    Anthropic(AnthropicCall),
    /// `/v1/proxy/{vendor}/…`
    Proxy(ProxyCall),
    /// `POST /v1/chat/{name}`
    ChatV1(Feature),
    /// `POST /v2/chat/agent`
    ChatAgent,
    /// `POST /v1|v2/prompts/model_configuration/check`, with the path's version
    ModelCheck(u8),
    /// `POST /v1/code/user_access_token`
    UserToken,
    /// `GET /v1/models/definitions`
    Definitions,
    /// `POST /v1/embeddings/code_embeddings` and below it `index`, `search`
    CodeEmbeddings,
    /// `POST /v1/search/gitlab-docs`
    DocsSearch,
    /// `POST /v1|v2/prompts/{id}`, with the path's version
    Prompts(u8),
    /// Code suggestions (`/v2/code/…`, `/v3/code/completions`, `/v4/code/suggestions`)
    Code(CodeCall),
    /// Any other path of GitLab's API (`/v1/…` to `/v4/…`), by any method: GitLab's cloud may have
    /// it.
    UnknownGitlab,
}

/// The result of matching a request line, also of one that is refused: the access log needs its
/// surface either way.
pub struct Matched {
    /// The endpoint, or the 404 or 405 to return.
    pub endpoint: Result<Endpoint, GatewayError>,
    /// The `surface` label.
    pub surface: Surface,
    /// Whether the path takes no credentials, whatever the method. An unknown path is not open:
    /// clients without credentials cannot find out which paths exist
    /// (contract::ai_gateway_server §1.0).
    pub is_open: bool,
    /// The slot for an early response head, on surfaces that have keep-alive bytes.
    pub early_response: Option<EarlyResponseSlot>,
}

impl Matched {
    /// Finds the endpoint of a request line.
    pub fn of(method: &Method, path: &str) -> Self {
        let any_path = match *method {
            Method::HEAD => Some(Endpoint::Head),
            Method::OPTIONS => Some(Endpoint::Preflight),
            _ => None,
        };
        if let Some(endpoint) = any_path {
            let surface = endpoint.row().surface;
            return Self { endpoint: Ok(endpoint), surface, is_open: true, early_response: None };
        }
        let path = normalize(path);
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
            other => chat_v1_feature(other)
                .map(Endpoint::ChatV1)
                .or_else(|| split_prompt(other).map(|(version, _)| Endpoint::Prompts(version)))
                .or_else(|| {
                    ProxyCall::parse(other.strip_prefix("/v1/proxy/")?).map(Endpoint::Proxy)
                }),
        };
        let Some(endpoint) = found else {
            let endpoint = if is_gitlab_path(&path) {
                Ok(Endpoint::UnknownGitlab)
            } else {
                Err(not_found(&path))
            };
            return Self {
                endpoint,
                surface: Surface::Unknown,
                is_open: false,
                early_response: None,
            };
        };
        let Row { method: allowed, surface, access, .. } = endpoint.row();
        let method_not_allowed =
            || GatewayError::new(Kind::MethodNotAllowed, "Method Not Allowed").allow(allowed);
        Self {
            endpoint: (allowed == method.as_str())
                .then_some(endpoint)
                .ok_or_else(method_not_allowed),
            surface,
            is_open: access == Access::Open,
            early_response: (endpoint == Endpoint::ChatAgent).then(EarlyResponseSlot::default),
        }
    }

    /// Returns the shape of error responses. A refused method gets the vendor's shape on a vendor's
    /// path, since its clients are not GitLab's; everything else that is refused gets GitLab's.
    pub fn shape(&self) -> Shape {
        match (&self.endpoint, self.surface) {
            (Ok(endpoint), _) => endpoint.row().shape,
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

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The one method that the path accepts: the `Allow` header's value.
    method: &'static str,
    /// The `surface` label.
    surface: Surface,
    /// Whether a request may cost a model's time: those count against their caller's rates.
    pub(super) is_metered: bool,
    /// The shape of error responses.
    shape: Shape,
    access: Access,
}

const fn row(
    method: &'static str,
    surface: Surface,
    is_metered: bool,
    shape: Shape,
    access: Access,
) -> Row {
    Row { method, surface, is_metered, shape, access }
}

impl Endpoint {
    /// Returns the endpoint's row: the only `match` over the enum apart from the dispatcher.
    ///
    /// The vendors' calls are not GitLab's, so no primitive of GitLab's names them: an instance
    /// that is entitled to any part of Duo may make them, through the proxy or not.
    pub(super) fn row(self) -> Row {
        use Access::{AnyPart, Open};
        use Shape::{Anthropic, Gitlab, GitlabCode, GitlabPrompts, GitlabSentence, OpenAi};
        use Surface::{AnthropicCountTokens, AnthropicMessages, GitlabChat, GitlabChatAgent};
        use Surface::{GitlabDefinitions, GitlabDocs, GitlabEmbeddings, GitlabModelCheck};
        use Surface::{GitlabProxy, GitlabUserToken, Monitoring, Unknown};
        use Surface::{OpenAiChat, OpenAiCompletions, OpenAiEmbeddings, OpenAiModels};
        const METERED: bool = true;
        const FREE: bool = false;
        const GET: &str = "GET";
        const POST: &str = "POST";
        const MODELS: Access = AnyPart("models");
        const PROXY: Access = AnyPart("proxy");
        const CHECK: Access =
            of_feature(Feature::CODE_COMPLETIONS, "access", "'model_configuration/check'");
        const TOKEN: Access = of_feature(Feature::CODE_COMPLETIONS, "create", "user access token");
        const INDEX: Access =
            any_of(&["generate_embeddings_codebase"], "access", "code embeddings");
        const DOCS: Access =
            any_of(&["documentation_search", "duo_chat"], "search", "documentations");
        match self {
            // probes carry no credentials, nor does GitLab's request for the list of models
            // (contract::ai_gateway_server §1.0)
            Self::Head => row("HEAD", Monitoring, FREE, Gitlab, Open),
            Self::Preflight => row("OPTIONS", Monitoring, FREE, Gitlab, Open),
            Self::Healthz | Self::Ready => row(GET, Monitoring, FREE, Gitlab, Open),
            Self::Definitions => row(GET, GitlabDefinitions, FREE, Gitlab, Open),
            Self::OpenAiModels => row(GET, OpenAiModels, FREE, OpenAi, MODELS),
            Self::OpenAi(OpenAiCall::Chat) => row(POST, OpenAiChat, METERED, OpenAi, MODELS),
            Self::OpenAi(OpenAiCall::Completions) => {
                row(POST, OpenAiCompletions, METERED, OpenAi, MODELS)
            }
            Self::OpenAi(OpenAiCall::Embeddings) => {
                row(POST, OpenAiEmbeddings, METERED, OpenAi, MODELS)
            }
            Self::Anthropic(AnthropicCall::Messages) => {
                row(POST, AnthropicMessages, METERED, Anthropic, MODELS)
            }
            Self::Anthropic(AnthropicCall::CountTokens) => {
                row(POST, AnthropicCountTokens, METERED, Anthropic, MODELS)
            }
            Self::Proxy(ProxyCall::OpenAiModels) => row(GET, GitlabProxy, FREE, OpenAi, PROXY),
            Self::Proxy(ProxyCall::OpenAi(_)) => row(POST, GitlabProxy, METERED, OpenAi, PROXY),
            Self::Proxy(ProxyCall::Anthropic(_)) => {
                row(POST, GitlabProxy, METERED, Anthropic, PROXY)
            }
            Self::ChatV1(feature) => row(POST, GitlabChat, METERED, Gitlab, chat(feature)),
            Self::ChatAgent => row(POST, GitlabChatAgent, METERED, Gitlab, chat(Feature::DUO_CHAT)),
            Self::ModelCheck(_) => row(POST, GitlabModelCheck, METERED, GitlabPrompts, CHECK),
            // any part of Duo here; the handler checks the prompt's own primitive
            Self::Prompts(_) => {
                row(POST, Surface::GitlabPrompts, METERED, GitlabPrompts, AnyPart("prompts"))
            }
            Self::Code(call) => {
                row(POST, Surface::GitlabCode, METERED, GitlabCode, Access::Code(call))
            }
            Self::UserToken => row(POST, GitlabUserToken, FREE, GitlabSentence, TOKEN),
            Self::CodeEmbeddings => row(POST, GitlabEmbeddings, METERED, GitlabSentence, INDEX),
            Self::DocsSearch => row(POST, GitlabDocs, FREE, GitlabSentence, DOCS),
            // takes any method: the path table does not look at this one
            Self::UnknownGitlab => row(POST, Unknown, METERED, Gitlab, AnyPart("this path")),
        }
    }

    /// Returns what a caller has to be entitled to (contract::gitlab_client §5.3), or `None` where
    /// no credentials are required.
    pub(super) fn permission(self) -> Option<Permission> {
        self.row().access.permission()
    }
}

const fn of_feature(feature: Feature, act: &'static str, what: &'static str) -> Access {
    Access::OfFeature { feature, act, what }
}

const fn any_of(
    primitives: &'static [&'static str],
    act: &'static str,
    what: &'static str,
) -> Access {
    Access::AnyOf { primitives, act, what }
}

/// Returns the permission of a chat call.
fn chat(feature: Feature) -> Access {
    let what = if feature == Feature::DUO_CHAT { "duo chat" } else { feature.name() };
    of_feature(feature, "access", what)
}

/// The permission column: what the caller has to be entitled to, and the `act` and `what` of the
/// [`Permission`] that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing, not even credentials.
    Open,
    /// Any part of Duo, in order to access this.
    AnyPart(&'static str),
    /// This feature.
    OfFeature { feature: Feature, act: &'static str, what: &'static str },
    /// Any of these unit primitives.
    AnyOf { primitives: &'static [&'static str], act: &'static str, what: &'static str },
    /// Code suggestions: depends on the call.
    Code(CodeCall),
}

impl Access {
    /// Returns the permission to check, or `None` where there is none.
    fn permission(self) -> Option<Permission> {
        let (any_of, act, what) = match self {
            Self::Open => return None,
            Self::Code(call) => return Some(call.permission()),
            Self::AnyPart(what) => (Scopes::ALL, "access", what),
            Self::OfFeature { feature, act, what } => (Scopes::for_feature(feature), act, what),
            Self::AnyOf { primitives, act, what } => {
                (Scopes::from_names(primitives.iter().copied()), act, what)
            }
        };
        Some(Permission { any_of, action: act, object: what.into(), user_tokens: false })
    }
}

/// Returns the feature of one of GitLab's older chat calls, by its name in the path
/// (contract::ai_gateway_server §1.6).
fn chat_v1_feature(path: &str) -> Option<Feature> {
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

/// Returns the version and the id of a prompt's path, or `None` for any other path.
fn split_prompt(path: &str) -> Option<(u8, &str)> {
    let v1 = path.strip_prefix("/v1/prompts/").map(|id| (1, id));
    v1.or_else(|| path.strip_prefix("/v2/prompts/").map(|id| (2, id)))
        .filter(|(_, id)| !id.is_empty())
}

/// Returns the id of the prompt that a path names; empty where it names none.
pub(super) fn prompt_id(path: &str) -> String {
    split_prompt(&normalize(path)).map(|(_, id)| id.to_owned()).unwrap_or_default()
}

/// Returns whether a path belongs to GitLab's API for its gateway.
fn is_gitlab_path(path: &str) -> bool {
    ["/v1/", "/v2/", "/v3/", "/v4/"].iter().any(|version| path.starts_with(version))
}

/// Returns a 404, with the path for the log.
pub(super) fn not_found(path: &str) -> GatewayError {
    let shown: String = path.chars().take(200).collect();
    GatewayError::new(Kind::NotFound, not_found_text(path))
        .internal(format!("no such path: {shown}"))
}

/// Prefixes whose 404 has the proxies' own spelling (contract::ai_gateway_server §1.11). Other
/// vendors' paths get the usual one.
const PROXIES: [&str; 3] = ["/v1/proxy/anthropic/", "/v1/proxy/openai/", "/v1/proxy/vertex-ai/"];

/// Returns the text of a 404; for calls of GitLab's that are not served here it gives the reason
/// (contract::gitlab_client §9.6, §9.7).
fn not_found_text(path: &str) -> &'static str {
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

/// Returns the path with one slash where GitLab's plain concatenation put two, `%2F` decoded
/// (contract::gitlab_client §1, §10.1), and without a trailing slash. Borrows when nothing has to
/// change.
fn normalize(path: &str) -> Cow<'_, str> {
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

    fn find(method: &Method, path: &str) -> Result<Endpoint, Kind> {
        Matched::of(method, path).endpoint.map_err(|error| error.kind())
    }

    #[test]
    fn finds_paths_in_every_spelling_gitlab_uses() {
        let post = Method::POST;
        assert_eq!(
            find(&post, "/v1/prompts/model_configuration%2Fcheck"),
            Ok(Endpoint::ModelCheck(1))
        );
        assert_eq!(
            find(&post, "//v2/prompts/model_configuration/check"),
            Ok(Endpoint::ModelCheck(2))
        );
        assert_eq!(find(&post, "/v1/prompts/chat%2Fexplain_code"), Ok(Endpoint::Prompts(1)));
        assert_eq!(find(&post, "/v2/prompts/generate_commit_message"), Ok(Endpoint::Prompts(2)));
        assert_eq!(prompt_id("//v1/prompts/chat%2Fexplain_code/"), "chat/explain_code");
        assert_eq!(find(&post, "//v1//chat/completions/"), Ok(Endpoint::OpenAi(OpenAiCall::Chat)));
        assert_eq!(find(&post, "//v2/chat/agent"), Ok(Endpoint::ChatAgent));
        assert_eq!(find(&post, "/v1/chat/agent"), Ok(Endpoint::ChatV1(Feature::DUO_CHAT)));
        for path in ["", "/index", "/search"] {
            let path = format!("/v1/embeddings/code_embeddings{path}");
            assert_eq!(find(&post, &path), Ok(Endpoint::CodeEmbeddings));
        }
        assert_eq!(find(&post, "/v1/search/gitlab-docs"), Ok(Endpoint::DocsSearch));
        assert_eq!(find(&Method::GET, "/v1/models%2Fdefinitions"), Ok(Endpoint::Definitions));
        for (path, call) in [
            ("/v2/code/completions", CodeCall::Completion),
            ("//v2/completions", CodeCall::Completion),
            ("/v2/code/generations", CodeCall::Generation),
            ("/v3/code/completions", CodeCall::Suggestion),
            ("/v4/code/suggestions/", CodeCall::SuggestionEvents),
        ] {
            assert_eq!(find(&post, path), Ok(Endpoint::Code(call)));
        }
        assert_eq!(find(&Method::HEAD, "/anything/at/all"), Ok(Endpoint::Head));
        assert_eq!(find(&Method::OPTIONS, "/anything/at/all"), Ok(Endpoint::Preflight));
        assert_eq!(find(&Method::GET, "/monitoring/healthz"), Ok(Endpoint::Healthz));
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
            (check.any_of, &*check.object),
            (Scopes::from_names(["complete_code"]), "'model_configuration/check'")
        );
        let token = Endpoint::UserToken.permission().unwrap();
        assert_eq!(
            (token.any_of, token.action, &*token.object),
            (Scopes::from_names(["complete_code"]), "create", "user access token")
        );
        let explain = Endpoint::ChatV1(Feature::parse("duo_chat_explain_code").unwrap())
            .permission()
            .unwrap();
        assert_eq!(explain.any_of, Scopes::from_names(["explain_code"]));
        let generation = Endpoint::Code(CodeCall::Generation).permission().unwrap();
        assert_eq!(
            (generation.any_of, &*generation.object),
            (Scopes::from_names(["generate_code"]), "code generations")
        );
        let either = Endpoint::Code(CodeCall::SuggestionEvents).permission().unwrap();
        assert_eq!(
            (either.any_of, &*either.object),
            (Scopes::from_names(["complete_code", "generate_code"]), "code suggestions")
        );
        assert_eq!(Endpoint::OpenAi(OpenAiCall::Chat).permission().unwrap().any_of, Scopes::ALL);
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
        assert_eq!(find(&Method::POST, "/"), Err(Kind::NotFound));
        assert_eq!(find(&Method::POST, "/v5/chat/agent"), Err(Kind::NotFound));
        assert_eq!(find(&Method::GET, "/v1/chat/completions"), Err(Kind::MethodNotAllowed));
        assert_eq!(find(&Method::POST, "/v1/models"), Err(Kind::MethodNotAllowed));
    }

    #[test]
    fn unknown_paths_of_gitlabs_api_are_an_endpoint() {
        for path in ["/v1/chat/nothing", "/v1/amazon_q/events", "//v3%2Fnew/call"] {
            assert_eq!(find(&Method::POST, path), Ok(Endpoint::UnknownGitlab), "{path}");
        }
        assert_eq!(find(&Method::GET, "/v4/anything"), Ok(Endpoint::UnknownGitlab));
    }
}
