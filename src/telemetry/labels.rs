//! The label values and the label sets of metrics, which the access log shares. A label value is
//! one of an enum's or a name from the operator's file; never a user, a path or a free string, so
//! that cardinality is bounded.

use std::sync::Arc;

use super::LabelValue;
use super::family::{label_sets, label_values};
use crate::error::{Outcome, Phase};

label_values! {
    /// The public endpoint family of a request.
    Surface {
        /// `POST /v1/chat/completions`
        OpenAiChat = "openai_chat",
        /// `POST /v1/completions`
        OpenAiCompletions = "openai_completions",
        /// `POST /v1/embeddings`
        OpenAiEmbeddings = "openai_embeddings",
        /// `GET /v1/models`
        OpenAiModels = "openai_models",
        /// `POST /v1/messages`
        AnthropicMessages = "anthropic_messages",
        /// `POST /v1/messages/count_tokens`
        AnthropicCountTokens = "anthropic_count_tokens",
        /// `/v1/proxy/{vendor}/…`, GitLab's calls of vendors' APIs
        GitlabProxy = "gitlab_proxy",
        /// `POST /v1/chat/{name}`, GitLab's older chat call
        GitlabChat = "gitlab_chat",
        /// `POST /v2/chat/agent`, GitLab Duo Chat
        GitlabChatAgent = "gitlab_chat_agent",
        /// `POST /v1|v2/prompts/model_configuration/check`, GitLab's "Test connection"
        GitlabModelCheck = "gitlab_model_check",
        /// `POST /v1|v2/prompts/{id}`
        GitlabPrompts = "gitlab_prompts",
        /// Code suggestions: `/v2/code/…`, `/v3/code/completions`, `/v4/code/suggestions`
        GitlabCode = "gitlab_code",
        /// `POST /v1/code/user_access_token`
        GitlabUserToken = "gitlab_user_token",
        /// `GET /v1/models/definitions`
        GitlabDefinitions = "gitlab_definitions",
        /// `POST /v1/embeddings/code_embeddings` and below
        GitlabEmbeddings = "gitlab_embeddings",
        /// `POST /v1/search/gitlab-docs`
        GitlabDocs = "gitlab_docs",
        /// `/monitoring/*`, `HEAD` and `OPTIONS`
        Monitoring = "monitoring",
        /// A path of no endpoint
        Unknown = "unknown",
    }

    /// A rate limit of one caller (`[limits]`).
    Rate {
        /// `requests_per_minute`
        Requests = "requests",
        /// `tokens_per_minute`
        Tokens = "tokens",
    }

    /// Whether a model read or wrote a token.
    Direction {
        /// Tokens of the request.
        Input = "input",
        /// Tokens of the response.
        Output = "output",
    }

    /// How a reload of the configuration ended.
    ReloadOutcome {
        /// The new configuration is in force.
        Ok = "ok",
        /// The file has faults: the old configuration stays in force.
        Failed = "failed",
    }

    /// Why a TLS handshake with a client failed.
    HandshakeFailure {
        /// The first bytes are not TLS: plain HTTP on the TLS port.
        NotTls = "not_tls",
        /// Not complete within `limits.header_timeout`.
        TimedOut = "timed_out",
        /// The client sent an alert, as one does that does not trust the certificate.
        RefusedByClient = "refused_by_client",
        /// The client's certificate is missing, revoked or invalid.
        ClientCertificate = "client_certificate",
        /// Any other TLS or I/O error.
        Failed = "failed",
        /// Weir was stopping.
        Draining = "draining",
    }
}

impl LabelValue for Outcome {
    fn text(&self) -> &str {
        self.label()
    }
}

impl LabelValue for Option<Phase> {
    fn text(&self) -> &str {
        self.map_or("-", Phase::label)
    }
}

// A `feature` is a name of GitLab's, `direct` for a model that the client names, `-` before
// routing; a `model` is a name from the file, `request` for one that the request brings, `-` before
// routing.
label_sets! {
    /// No labels: one series, which may be absent.
    NoLabels {}
    /// The version of the binary.
    BuildLabels { version: &'static str }
    /// Per public endpoint family.
    SurfaceLabels { surface: Surface }
    /// Per (surface, feature, model).
    RouteLabels { surface: Surface, feature: &'static str, model: Arc<str> }
    /// Per route, provider and outcome.
    RequestLabels {
        surface: Surface,
        feature: &'static str,
        model: Arc<str>,
        provider: &'static str,
        outcome: Outcome,
    }
    /// Per model.
    ModelLabels { model: Arc<str> }
    /// Per endpoint (`host:port`) of a model.
    EndpointLabels { model: Arc<str>, endpoint: Arc<str> }
    /// Per direction of a model's tokens.
    TokenLabels { direction: Direction, feature: &'static str, model: Arc<str> }
    /// Per error code, with the phase of a timeout.
    ErrorLabels { code: &'static str, phase: Option<Phase>, feature: &'static str, model: Arc<str> }
    /// Per pair of a failed model and the next one.
    FallbackLabels { feature: &'static str, from: Arc<str>, to: Arc<str> }
    /// Per rate limit.
    RateLabels { scope: Rate }
    /// Per outcome of a reload.
    ReloadLabels { outcome: ReloadOutcome }
    /// Per cause of a failed TLS handshake.
    HandshakeLabels { reason: HandshakeFailure }
}
