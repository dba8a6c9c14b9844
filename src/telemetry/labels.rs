//! The closed sets that metrics and the access log use as labels. A label is an enum here or a name
//! from the operator's file; never a user, a path or a free string, so cardinality is bounded.

/// What the client spoke to: one value per public endpoint family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Surface {
    /// `POST /v1/chat/completions`
    OpenAiChat,
    /// `POST /v1/completions`
    OpenAiCompletions,
    /// `POST /v1/embeddings`
    OpenAiEmbeddings,
    /// `GET /v1/models`
    OpenAiModels,
    /// `POST /v1/messages`
    AnthropicMessages,
    /// `POST /v1/messages/count_tokens`
    AnthropicCountTokens,
    /// `/v1/proxy/{vendor}/…`, GitLab's way to vendors' APIs
    GitlabProxy,
    /// `POST /v1/chat/{name}`, GitLab's older chat call
    GitlabChat,
    /// `POST /v2/chat/agent`, GitLab Duo Chat
    GitlabChatAgent,
    /// `POST /v1|v2/prompts/model_configuration/check`, GitLab's "Test connection"
    GitlabModelCheck,
    /// `POST /v1|v2/prompts/{id}`
    GitlabPrompts,
    /// Code suggestions: `/v2/code/…`, `/v3/code/completions`, `/v4/code/suggestions`
    GitlabCode,
    /// `POST /v1/code/user_access_token`
    GitlabUserToken,
    /// `GET /v1/models/definitions`
    GitlabDefinitions,
    /// `POST /v1/embeddings/code_embeddings` and below
    GitlabEmbeddings,
    /// `POST /v1/search/gitlab-docs`
    GitlabDocs,
    /// `/monitoring/*`, `HEAD` and `OPTIONS`
    Monitoring,
    /// A path nobody answers
    #[default]
    Unknown,
}

impl Surface {
    /// Every value, in label order.
    pub const ALL: [Self; 18] = [
        Self::OpenAiChat,
        Self::OpenAiCompletions,
        Self::OpenAiEmbeddings,
        Self::OpenAiModels,
        Self::AnthropicMessages,
        Self::AnthropicCountTokens,
        Self::GitlabProxy,
        Self::GitlabChat,
        Self::GitlabChatAgent,
        Self::GitlabModelCheck,
        Self::GitlabUserToken,
        Self::GitlabDefinitions,
        Self::GitlabEmbeddings,
        Self::GitlabDocs,
        Self::GitlabPrompts,
        Self::GitlabCode,
        Self::Monitoring,
        Self::Unknown,
    ];

    /// The `surface` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiCompletions => "openai_completions",
            Self::OpenAiEmbeddings => "openai_embeddings",
            Self::OpenAiModels => "openai_models",
            Self::AnthropicMessages => "anthropic_messages",
            Self::AnthropicCountTokens => "anthropic_count_tokens",
            Self::GitlabProxy => "gitlab_proxy",
            Self::GitlabChat => "gitlab_chat",
            Self::GitlabChatAgent => "gitlab_chat_agent",
            Self::GitlabModelCheck => "gitlab_model_check",
            Self::GitlabUserToken => "gitlab_user_token",
            Self::GitlabDefinitions => "gitlab_definitions",
            Self::GitlabEmbeddings => "gitlab_embeddings",
            Self::GitlabDocs => "gitlab_docs",
            Self::GitlabPrompts => "gitlab_prompts",
            Self::GitlabCode => "gitlab_code",
            Self::Monitoring => "monitoring",
            Self::Unknown => "unknown",
        }
    }
}

/// How a request ended, as the operator would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered in full.
    Ok,
    /// Refused: the request was wrong, unauthorised, too large, for a disabled feature or over its
    /// caller's rates.
    Refused,
    /// The model server failed.
    UpstreamError,
    /// One of the four limits expired: A1000.
    Timeout,
    /// The client left before the end.
    Cancelled,
    /// Shed because Weir was full or draining.
    Overload,
    /// Our own fault.
    Internal,
}

impl Outcome {
    /// Every value, in label order.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Refused,
        Self::UpstreamError,
        Self::Timeout,
        Self::Cancelled,
        Self::Overload,
        Self::Internal,
    ];

    /// The `outcome` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Overload => "overload",
            Self::Internal => "internal",
        }
    }
}

/// What a caller may ask for in a minute (`[limits]`); the `scope` label of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// `requests_per_minute`
    Requests,
    /// `tokens_per_minute`
    Tokens,
}

impl Rate {
    /// The `scope` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// The four limits of one call (`[timeouts]` in the file); also the `phase` label of an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// DNS, TCP and TLS to the model server.
    Connect,
    /// From the request's last byte to the first byte of the answer's body.
    FirstByte,
    /// Silence between two chunks of a stream.
    Idle,
    /// The whole request, from its arrival.
    Total,
}

impl Phase {
    /// Every value, in the order a request meets them.
    pub const ALL: [Self; 4] = [Self::Connect, Self::FirstByte, Self::Idle, Self::Total];

    /// The `phase` label and the key in `[timeouts]`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}
