//! Every way a request can fail, in one table: HTTP status, the code operators look for, the
//! outcome it counts as and whether another try may help. How a row looks on a surface is
//! `respond.rs`.

use http::StatusCode;

use crate::telemetry::labels::{Outcome, Phase};

/// What went wrong. The one place that matches over it is [`Kind::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body or a field of it is not what the endpoint takes.
    Invalid,
    /// The same where GitLab's own gateway answers 400.
    BadRequest,
    /// A prompt has no version that fits the constraint.
    NoPromptVersion,
    /// The version asked for is no constraint.
    PromptVersion,
    /// A prompt's input is not in the request.
    MissingInput,
    /// No credentials, or wrong ones.
    Unauthorized,
    /// The keys that tokens are verified with were never fetched: nobody can be told apart yet.
    NoSigningKeys,
    /// The credentials that a model server wants could not be fetched, or have expired.
    NoCredentials,
    /// Known caller, but not for this.
    Forbidden,
    /// The operator set this feature to `disabled`.
    Disabled,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The model named by an OpenAI-style request is not in the file.
    UnknownModel,
    /// No rule of `[features]` and nothing in the request names a model.
    NoModel,
    /// The request names an endpoint that Weir must not call.
    EndpointRefused,
    /// Body over `limits.max_body`.
    BodyTooLarge,
    /// The client did not finish its body within `limits.body_timeout`.
    BodyTimeout,
    /// The caller has used up what it may ask for in a minute.
    RateLimited,
    /// More requests in flight than `[limits]` allows.
    Overloaded,
    /// Weir is being stopped, and its clients have had the time that `resilience.drain` gives.
    Draining,
    /// DNS, TCP or TLS to the model server failed.
    UpstreamConnect,
    /// The model server answered with this status.
    UpstreamStatus(u16),
    /// The model server's content filter refused the request or its own answer: nobody's failure,
    /// and the same again elsewhere.
    ContentFilter,
    /// The model server's bytes are not HTTP, not the dialect, or end too early.
    UpstreamBroken,
    /// The model server did its part, but the model said nothing that can be shown.
    NoAnswer,
    /// One of our four limits expired: A1000.
    Expired(Phase),
    /// Our own fault.
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
    /// Where the same request may succeed.
    pub elsewhere: Elsewhere,
}

/// Where a request that failed may succeed, as long as nothing of an answer has reached the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nowhere: the request itself is at fault, or there is no time left.
    Nowhere,
    /// At another model: what failed is true of every replica of this one (our key, its name, its
    /// limit).
    Model,
    /// At another replica, and at another model.
    Replica,
}

const fn row(
    status: u16,
    code: &'static str,
    openai: &'static str,
    outcome: Outcome,
    elsewhere: Elsewhere,
) -> Row {
    let status = match StatusCode::from_u16(status) {
        Ok(status) => status,
        Err(_) => StatusCode::BAD_GATEWAY,
    };
    Row { status, code, openai_type: openai, outcome, elsewhere }
}

impl Kind {
    /// What the answer of a gateway that is passed on counts as, if it is a failure. Its 401 and
    /// 403 are about the caller, not about us.
    pub const fn of_gateway(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Unauthorized),
            403 => Some(Self::Forbidden),
            400.. => Some(Self::UpstreamStatus(status)),
            _ => None,
        }
    }

    /// Whether a server that says when to come back is well, and full.
    pub const fn is_busy(self) -> bool {
        matches!(self, Self::UpstreamStatus(429 | 503))
    }

    /// The table.
    pub const fn row(self) -> Row {
        use Elsewhere::{Model, Nowhere, Replica};
        use Outcome::{Internal, Overload, Refused, Timeout, UpstreamError};
        const INVALID: &str = "invalid_request_error";
        const DENIED: &str = "permission_error";
        const UPSTREAM: &str = "upstream_error";
        match self {
            Self::Invalid => row(422, "invalid_request", INVALID, Refused, Nowhere),
            Self::BadRequest => row(400, "invalid_request", INVALID, Refused, Nowhere),
            Self::NoPromptVersion => row(400, "no_prompt_version", INVALID, Refused, Nowhere),
            Self::PromptVersion => row(422, "prompt_version", INVALID, Refused, Nowhere),
            Self::MissingInput => row(422, "missing_input", INVALID, Refused, Nowhere),
            Self::Unauthorized => {
                row(401, "unauthorized", "authentication_error", Refused, Nowhere)
            }
            Self::NoSigningKeys => row(503, "no_signing_keys", "server_error", Internal, Nowhere),
            Self::NoCredentials => row(503, "no_credentials", "server_error", Internal, Model),
            Self::Forbidden => row(403, "forbidden", DENIED, Refused, Nowhere),
            Self::Disabled => row(403, "feature_disabled", DENIED, Refused, Nowhere),
            Self::NotFound => row(404, "not_found", INVALID, Refused, Nowhere),
            Self::MethodNotAllowed => row(405, "method_not_allowed", INVALID, Refused, Nowhere),
            Self::UnknownModel => row(404, "model_not_found", INVALID, Refused, Nowhere),
            Self::NoModel => row(422, "no_model", INVALID, Refused, Nowhere),
            Self::EndpointRefused => row(422, "endpoint_refused", INVALID, Refused, Nowhere),
            Self::BodyTooLarge => row(413, "body_too_large", INVALID, Refused, Nowhere),
            Self::BodyTimeout => row(408, "body_timeout", INVALID, Refused, Nowhere),
            Self::RateLimited => {
                row(429, "rate_limit_exceeded", "rate_limit_error", Refused, Nowhere)
            }
            Self::Overloaded => row(503, "overloaded", "overloaded_error", Overload, Model),
            Self::Draining => row(503, "draining", "overloaded_error", Overload, Nowhere),
            Self::UpstreamConnect => row(502, "upstream_connect", UPSTREAM, UpstreamError, Replica),
            Self::UpstreamStatus(status) => upstream_status(status),
            Self::ContentFilter => row(400, "content_filter", INVALID, Refused, Nowhere),
            Self::UpstreamBroken => row(502, "upstream_broken", UPSTREAM, UpstreamError, Replica),
            Self::NoAnswer => row(502, "no_answer", UPSTREAM, UpstreamError, Nowhere),
            Self::Expired(Phase::Total) => row(504, "A1000", "timeout_error", Timeout, Nowhere),
            Self::Expired(_) => row(504, "A1000", "timeout_error", Timeout, Replica),
            Self::Internal => row(500, "internal", "internal_error", Internal, Nowhere),
        }
    }

    /// The `phase` label: which limit expired, or the phase a failed connection died in.
    pub const fn phase(self) -> Option<Phase> {
        match self {
            Self::Expired(phase) => Some(phase),
            Self::UpstreamConnect => Some(Phase::Connect),
            Self::Invalid
            | Self::BadRequest
            | Self::NoPromptVersion
            | Self::PromptVersion
            | Self::MissingInput
            | Self::Unauthorized
            | Self::NoSigningKeys
            | Self::NoCredentials
            | Self::Forbidden
            | Self::Disabled
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UnknownModel
            | Self::NoModel
            | Self::EndpointRefused
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::RateLimited
            | Self::Overloaded
            | Self::Draining
            | Self::UpstreamStatus(_)
            | Self::ContentFilter
            | Self::UpstreamBroken
            | Self::NoAnswer
            | Self::Internal => None,
        }
    }
}

/// A model server's own status keeps its meaning where it has one for the client (4xx, 503 and
/// their `Retry-After`); any other 5xx is a bad gateway. So is 401, 403 and 407: it is our key that
/// was refused, and GitLab would tell the user to buy a subscription (M3006).
const fn upstream_status(status: u16) -> Row {
    let elsewhere = match status {
        408 | 409 | 424 | 425 | 429 => Elsewhere::Replica,
        // our account, our key, its name for the model, calls that it does not have
        401..=405 | 407 | 501 | 505 => Elsewhere::Model,
        500.. => Elsewhere::Replica,
        _ => Elsewhere::Nowhere,
    };
    let shown = match status {
        401 | 403 | 407 => 502,
        400..=499 | 503 => status,
        _ => 502,
    };
    row(shown, "upstream_status", "upstream_error", Outcome::UpstreamError, elsewhere)
}
