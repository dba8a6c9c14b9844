//! Every way a request can fail, in one table: HTTP status, the code operators look for, the
//! outcome it counts as and whether another attempt may succeed. How a row looks on a surface is
//! `respond.rs`.

use http::StatusCode;

use super::{Outcome, Phase};

/// What went wrong. The one place that matches over it is [`Kind::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body or one of its fields does not fit the endpoint's schema.
    Invalid,
    /// The same where GitLab's own gateway returns 400.
    BadRequest,
    /// No version of the prompt satisfies the constraint.
    NoPromptVersion,
    /// The requested version is not a version constraint.
    PromptVersion,
    /// The request lacks an input of the prompt.
    MissingInput,
    /// No credentials, or wrong ones.
    Unauthorized,
    /// No signing keys have been fetched yet, so no token can be verified.
    NoSigningKeys,
    /// The credentials for the model server could not be fetched, or have expired.
    NoCredentials,
    /// An authenticated caller without the permission.
    Forbidden,
    /// The operator set this feature to `disabled`.
    Disabled,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The model named by an OpenAI-style request is not in the file.
    UnknownModel,
    /// Neither `[features]` nor the request names a model.
    NoModel,
    /// The request names an endpoint to which Weir must not connect.
    EndpointRefused,
    /// Body over `limits.max_body`.
    BodyTooLarge,
    /// The client did not finish its body within `limits.body_timeout`.
    BodyTimeout,
    /// The caller is over its requests or tokens per minute.
    RateLimited,
    /// More requests in flight than `[limits]` allows.
    Overloaded,
    /// Weir is stopping, and `resilience.drain` has expired.
    Draining,
    /// DNS, TCP or TLS to the model server failed.
    UpstreamConnect,
    /// The model server returned this status.
    UpstreamStatus(u16),
    /// The model server's content filter blocked the request or the response: not a failure of the
    /// server, and the same on every other one.
    ContentFilter,
    /// The model server's bytes are not HTTP, not its dialect, or end too early.
    UpstreamBroken,
    /// The model server succeeded, but the response has no content that can be shown.
    NoAnswer,
    /// One of the four timeouts expired: A1000.
    Expired(Phase),
    /// A fault of Weir's own.
    Internal,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Status on surfaces that have no rule of their own.
    pub status: StatusCode,
    /// `error_code` in the access log, `code` in metrics and bodies.
    pub code: &'static str,
    /// OpenAI's `error.type`.
    pub openai_type: &'static str,
    /// What the request counts as.
    pub outcome: Outcome,
    /// Which other attempts may succeed.
    pub retry_scope: RetryScope,
    /// The `phase` label: the timeout that expired, or the phase in which the connection failed.
    pub phase: Option<Phase>,
}

impl Row {
    const fn in_phase(self, phase: Phase) -> Self {
        Self { phase: Some(phase), ..self }
    }
}

/// Which other attempts of a failed request may succeed, as long as no byte of a response has
/// reached the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryScope {
    /// None: the request itself is at fault, or its time is over.
    Never,
    /// One at another model: the cause (our key, the model's name, its limit) is common to all
    /// replicas of this one.
    OtherModel,
    /// One at another replica, or at another model.
    OtherReplica,
}

const fn row(
    status: u16,
    code: &'static str,
    openai: &'static str,
    outcome: Outcome,
    elsewhere: RetryScope,
) -> Row {
    let status = match StatusCode::from_u16(status) {
        Ok(status) => status,
        Err(_) => StatusCode::BAD_GATEWAY,
    };
    Row { status, code, openai_type: openai, outcome, retry_scope: elsewhere, phase: None }
}

impl Kind {
    /// Returns what a forwarded response of another gateway counts as, or `None` below 400. Its
    /// 401 and 403 concern the caller, not Weir's credentials.
    pub const fn of_gateway(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Unauthorized),
            403 => Some(Self::Forbidden),
            400.. => Some(Self::UpstreamStatus(status)),
            _ => None,
        }
    }

    /// Whether the status means a healthy server at its limits, if it comes with `Retry-After`.
    pub const fn is_busy(self) -> bool {
        matches!(self, Self::UpstreamStatus(429 | 503))
    }

    /// Returns the row of the table.
    pub const fn row(self) -> Row {
        use Outcome::{Internal, Overload, Refused, Timeout, UpstreamError};
        use RetryScope::{Never, OtherModel, OtherReplica};
        const INVALID: &str = "invalid_request_error";
        const DENIED: &str = "permission_error";
        const UPSTREAM: &str = "upstream_error";
        match self {
            Self::Invalid => row(422, "invalid_request", INVALID, Refused, Never),
            Self::BadRequest => row(400, "invalid_request", INVALID, Refused, Never),
            Self::NoPromptVersion => row(400, "no_prompt_version", INVALID, Refused, Never),
            Self::PromptVersion => row(422, "prompt_version", INVALID, Refused, Never),
            Self::MissingInput => row(422, "missing_input", INVALID, Refused, Never),
            Self::Unauthorized => row(401, "unauthorized", "authentication_error", Refused, Never),
            Self::NoSigningKeys => row(503, "no_signing_keys", "server_error", Internal, Never),
            Self::NoCredentials => row(503, "no_credentials", "server_error", Internal, OtherModel),
            Self::Forbidden => row(403, "forbidden", DENIED, Refused, Never),
            Self::Disabled => row(403, "feature_disabled", DENIED, Refused, Never),
            Self::NotFound => row(404, "not_found", INVALID, Refused, Never),
            Self::MethodNotAllowed => row(405, "method_not_allowed", INVALID, Refused, Never),
            Self::UnknownModel => row(404, "model_not_found", INVALID, Refused, Never),
            Self::NoModel => row(422, "no_model", INVALID, Refused, Never),
            Self::EndpointRefused => row(422, "endpoint_refused", INVALID, Refused, Never),
            Self::BodyTooLarge => row(413, "body_too_large", INVALID, Refused, Never),
            Self::BodyTimeout => row(408, "body_timeout", INVALID, Refused, Never),
            Self::RateLimited => {
                row(429, "rate_limit_exceeded", "rate_limit_error", Refused, Never)
            }
            Self::Overloaded => row(503, "overloaded", "overloaded_error", Overload, OtherModel),
            Self::Draining => row(503, "draining", "overloaded_error", Overload, Never),
            Self::UpstreamConnect => {
                row(502, "upstream_connect", UPSTREAM, UpstreamError, OtherReplica)
                    .in_phase(Phase::Connect)
            }
            Self::UpstreamStatus(status) => upstream_status(status),
            Self::ContentFilter => row(400, "content_filter", INVALID, Refused, Never),
            Self::UpstreamBroken => {
                row(502, "upstream_broken", UPSTREAM, UpstreamError, OtherReplica)
            }
            Self::NoAnswer => row(502, "no_answer", UPSTREAM, UpstreamError, Never),
            Self::Expired(phase) => {
                let elsewhere = if matches!(phase, Phase::Total) { Never } else { OtherReplica };
                row(504, "A1000", "timeout_error", Timeout, elsewhere).in_phase(phase)
            }
            Self::Internal => row(500, "internal", "internal_error", Internal, Never),
        }
    }
}

/// Returns the row of a model server's status. It is passed on where it has a meaning for the
/// client (4xx, and 503 with its `Retry-After`); any other 5xx is a bad gateway. So are 401, 403
/// and 407: it is Weir's key that was rejected, and GitLab would ask the user to buy a subscription
/// (M3006).
const fn upstream_status(status: u16) -> Row {
    let elsewhere = match status {
        408 | 409 | 424 | 425 | 429 => RetryScope::OtherReplica,
        // Weir's account or key, the upstream name of the model, an unsupported call
        401..=405 | 407 | 501 | 505 => RetryScope::OtherModel,
        500.. => RetryScope::OtherReplica,
        _ => RetryScope::Never,
    };
    let shown = match status {
        401 | 403 | 407 => 502,
        400..=499 | 503 => status,
        _ => 502,
    };
    row(shown, "upstream_status", "upstream_error", Outcome::UpstreamError, elsewhere)
}
